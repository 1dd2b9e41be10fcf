from typing import Any, Protocol, type_check_only

from ._engine import Link

__all__ = ['leave', 'received']

# Of a process by any start method.
@type_check_only
class _Popen(Protocol):
    pid: int
    returncode: int | None
    def outcome(self) -> tuple[int, bytes] | None: ...

def leave(link: Link, how: str, value: object) -> None: ...
def received(popen: _Popen, name: str) -> Any: ...
