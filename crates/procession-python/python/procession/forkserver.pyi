from collections.abc import Sequence

__all__ = ['ensure_running', 'get_inherited_fds', 'connect_to_new_process', 'set_forkserver_preload']

class ForkServer:
    def __init__(self) -> None: ...
    def set_forkserver_preload(self, modules_names: list[str]) -> None: ...
    def get_inherited_fds(self) -> list[int] | None: ...
    def connect_to_new_process(
        self, holder: object, attribute: str, letter: bytes, fds: Sequence[int], name: str, daemon: bool
    ) -> None: ...
    def ensure_running(self) -> None: ...

def main(pipe_handle: int) -> None: ...

_forkserver: ForkServer
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
connect_to_new_process = _forkserver.connect_to_new_process
set_forkserver_preload = _forkserver.set_forkserver_preload
