"""Processes by the fork server: copies of a small clean process that has imported the program. Used
in the parent, by any thread.
"""

from __future__ import annotations

from . import forkserver, popen_spawn_posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .process import BaseProcess

__all__ = ['Popen']


class Popen(popen_spawn_posix.Popen):
    """A copy of the server, and all the same a child of this process, which alone reaps it: its
    exit code is exact.
    """

    method = 'forkserver'

    def _launch(self, process_obj: BaseProcess) -> None:
        letter, fds = self._letter(process_obj)
        terms = process_obj.name, process_obj.daemon, self._leads_group()
        forkserver.connect_to_new_process(self, '_child', letter, fds, *terms)
        self._tell()
