"""The classes of processes, one for each start method. Used in any process, from any thread.

A child imports this module for its process object, and is spared the contexts.
"""

from ._start_method import default_context
from .process import BaseProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import popen_fork, popen_forkserver, popen_spawn_posix


class Process(BaseProcess):
    """A process by the default start method."""

    _start_method: 'str | None' = None

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> 'popen_fork.Popen':
        context: Any = default_context().get_context()
        popen: popen_fork.Popen = context.Process._Popen(process_obj)
        return popen

    @staticmethod
    def _after_fork() -> None:
        context: Any = default_context().get_context()
        context.Process._after_fork()


class ForkProcess(BaseProcess):
    """A copy of its parent."""

    _start_method = 'fork'

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> 'popen_fork.Popen':
        from .popen_fork import Popen

        return Popen(process_obj)


class SpawnProcess(BaseProcess):
    """A fresh interpreter."""

    _start_method = 'spawn'

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> 'popen_spawn_posix.Popen':
        from .popen_spawn_posix import Popen

        return Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        pass


class ForkServerProcess(BaseProcess):
    """A copy of a small clean server."""

    _start_method = 'forkserver'

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> 'popen_forkserver.Popen':
        from .popen_forkserver import Popen

        return Popen(process_obj)
