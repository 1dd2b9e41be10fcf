"""The work of a child, the process that runs the program's functions on the machine of its agent.
Runs in children, in their main thread.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from typing import Any

from .. import _engine, _remote, _titles, process, util
from . import _put
from ._messages import BEGUN, FAILED, Channel

# The finalizers of this package and of `multiprocessing` have lower ones.
_FINALIZER_PRIORITY = 1000


def serve_tasks(channel: Channel, terms: dict[str, Any]) -> None:
    """A pool's child: runs the initializer, and then the tasks that come, until it is told to
    leave.
    """
    _prepare(channel, terms)
    process._become_worker(terms['slot'])
    place = terms['place']
    if place is not None:
        place.enter()
        place.limit_loaded()
        place.limit_process()
    _titles.show_worker(terms['slot'])
    try:
        initializer, initargs, finalizer = pickle.loads(terms['calls'])
        if initializer is not None:
            initializer(*initargs)
    except Exception as error:
        channel.send(FAILED, _remote.pack(error, error.__traceback__))
        sys.exit(1)
    if finalizer is not None:
        util.Finalize(None, finalizer, exitpriority=_FINALIZER_PRIORITY)
    channel.send(BEGUN)
    if not _engine.serve_carrier(*channel.fds()):
        # The agent is gone, and with it everybody who could ask for anything.
        os._exit(1)


def serve_process(channel: Channel, terms: dict[str, Any]) -> Any:
    """The child of a `Process`: runs the process object; returns what that returns."""
    _prepare(channel, terms)
    try:
        kind, state = pickle.loads(terms['calls'])
    except Exception as error:
        channel.send(FAILED, _remote.pack(error, error.__traceback__))
        sys.exit(1)
    channel.send(BEGUN)
    current = process.current_process()
    # The program sees its own object as the current process.
    own_process = object.__new__(kind or process.BaseProcess)
    own = {name: getattr(current, name) for name in ('_parent_pid', '_parent_name', '_config')}
    own_process.__dict__.update(state, **own, _popen=None, _closed=False)
    process._run_as(own_process)
    return own_process.run()


def _prepare(channel: Channel, terms: dict[str, Any]) -> None:
    _put.use_channel(channel)
    # Modules of the program that this machine has at the same place. Its own come first.
    sys.path += [entry for entry in terms['sys_path'] if entry not in sys.path]
    # Its own processes are its machine's.
    os.environ.pop('PROCESSION_CONTEXT', None)
    process.current_process().authkey = terms['authkey']
    sys.argv = terms['sys_argv']
    signal.signal(signal.SIGINT, signal.default_int_handler)
