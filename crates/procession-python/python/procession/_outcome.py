"""The outcome of a process's target. The child writes it as the last it does, and the parent reads
it after the child has ended.

It crosses on the link, which takes it whatever the parent does: a child never waits for somebody to
read.
"""

import pickle

from . import _spawning
from ._errors import ProcessLost, TimeoutError, how_ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from ._engine import Link

    class _Popen(Protocol):
        """Of a process by any start method."""

        pid: int
        returncode: int | None

        def outcome(self) -> tuple[int, bytes] | None: ...


__all__ = ['leave', 'received']

# As the engine numbers them.
_VALUE, _RAISED, _UNENCODABLE = 0, 1, 3


def leave(link: 'Link', how: str, value: 'Any') -> None:
    """In the child: leaves what its target `how` ('returned' or 'raised')."""
    if how == 'raised':
        from . import _remote

        tag, payload = _RAISED, _remote.pack(value, value.__traceback__)
    else:
        try:
            # As everything that crosses between processes: with the reducers that programs have
            # registered.
            tag, payload = _VALUE, bytes(_spawning.reducer.ForkingPickler.dumps(value))
        except Exception as error:
            tag, payload = _UNENCODABLE, pickle.dumps((_shown(value), f'{type(error).__name__}: {error}'))
    try:
        link.report(tag, payload)
    except BrokenPipeError:
        # The parent has ended, and nobody is left to read.
        return


def received(popen: '_Popen', name: str) -> 'Any':
    """In the parent: returns or raises what the target of the process that `popen` started left.
    Its name is `name`.
    """
    if popen.returncode is None:
        raise TimeoutError(f'process {popen.pid} ({name}) has not ended in time')
    outcome = popen.outcome()
    if outcome is None:
        text = f'process {popen.pid} ({name}) {how_ended(popen.returncode)} and left no result'
        raise ProcessLost(text, popen.pid, popen.returncode)
    tag, payload = outcome
    if tag == _RAISED:
        from . import _remote

        raise _remote.unpack(payload)
    content = pickle.loads(payload)
    if tag == _VALUE:
        return content
    shown, why = content
    raise pickle.PicklingError(f'the result of process {popen.pid} ({name}) does not pickle ({why}): {shown}')


def _shown(value: object) -> str:
    try:
        return repr(value)[:200]
    except Exception as error:
        return f'<{type(value).__name__} object whose repr failed: {error}>'
