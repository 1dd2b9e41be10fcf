"""Executes an interpreter for a child or a fork server. Used in the parent, by any thread.

The engine does it, unless a tool follows processes by a function of the standard library that it
has replaced: `multiprocessing.util.spawnv_passfds` (tracers) or `_posixsubprocess.fork_exec`
(debuggers). Then the standard library's function is called, and the tool changes the command line
as it does there.
"""

from __future__ import annotations

import os
import sys
import types

from . import spawn
from ._engine import Child
from ._hooks import is_original
from ._standard import loaded, standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._engine import Link


def execute(
    holder: object, attribute: str, entry: str, ours: Link, theirs: Link, name: str, daemon: bool, leads_group: bool = False
) -> None:
    """Executes an interpreter that calls `entry`, and that has the end `theirs` of a link. The
    engine's hold of it becomes that attribute of `holder`.
    """
    if not _is_followed(loaded('util')):
        command = [os.fsencode(part) for part in spawn.command_line(entry, pipe_handle=spawn.LINK)]
        Child.executed(holder, attribute, command[0], command, ours, theirs, name, daemon, leads_group)
        return
    import _signal

    fd = theirs.detach()
    # It inherits the mask, and hears a Ctrl-C once it is ready for one.
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGINT])
    try:
        words = spawn.command_line(entry, pipe_handle=fd)
        pid = standard('util').spawnv_passfds(words[0], words, [fd])
        setattr(holder, attribute, Child.forked(pid, ours, name, daemon, leads_group))
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        os.close(fd)


def _is_followed(util: types.ModuleType | None) -> bool:
    if util is not None and not is_original(util.spawnv_passfds, util._exit_function):
        return True
    fork_exec = getattr(sys.modules.get('_posixsubprocess'), 'fork_exec', None)
    return not isinstance(fork_exec, (types.BuiltinFunctionType, types.NoneType))
