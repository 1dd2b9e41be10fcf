"""Processes by `spawn`: fresh interpreters, at the price of a small program's start however large
the parent is. Used in the parent, by any thread.

Preparation data, process object and file descriptors go to the child in one message, and no
resource tracker is started for it.
"""

import io
import sys

from . import _by_value, _spawning, popen_fork, spawn
from ._engine import Link, pidfd_of_self
from ._execution import execute
from ._standard import loaded

__all__ = ['Popen']

_TRACKERS = 'resource_tracker'


class _DupFd:
    """A file descriptor on its way to the child."""

    def __init__(self, ind):
        self.ind = ind

    def detach(self):
        """In the child: the number it has there."""
        return spawn.get_inherited_fds()[self.ind]


class Popen(popen_fork.Popen):
    """A fresh interpreter."""

    method = 'spawn'
    DupFd = _DupFd

    def __init__(self, process_obj):
        self._fds = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd):
        """Has a copy of the file descriptor `fd` sent to the child; returns its place among those
        sent.
        """
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process_obj):
        letter, fds = self._letter(process_obj)
        ours, theirs = Link.pair()
        ours.send(letter, fds)
        execute(self, '_child', 'spawn.spawn_main', ours, theirs, process_obj.name, process_obj.daemon)
        self._tell()

    def _letter(self, process_obj):
        """Returns what the child is sent, and the file descriptors beside it.

        A letter is two pickles: the preparation data, then the process object, which unpickles only
        after the preparation.
        """
        data = spawn.get_preparation_data(process_obj._name)
        head, body = io.BytesIO(), io.BytesIO()
        _spawning.set_spawning_popen(self)
        try:
            _dump_process(process_obj, body)
            fds = [pidfd_of_self(), *self._fds]
            data['is_worker'] = process_obj._is_worker
            data['trackers'] = {}
            for name, fd in _running_trackers():
                data['trackers'][name] = len(fds)
                fds.append(fd)
            _spawning.reducer.dump(data, head)
        finally:
            _spawning.set_spawning_popen(None)
        return head.getvalue() + body.getvalue(), fds


def _dump_process(process_obj, file):
    """Pickles a process object for a child: by name what the child can import, the rest by value,
    where that can be had.
    """
    child_finds_main = spawn.finds_main()
    try:
        _spawning.reducer.dump(process_obj, file)
        error = None
        pickle = file.getvalue()
        if child_finds_main or b'__main__' not in pickle or not _by_value.names_unknown(pickle, {}):
            return
    except MemoryError:
        raise
    except Exception as refused:
        error = refused
    if _by_value.cloudpickle() is None:
        raise _by_value.unfound() if error is None else _by_value.refusal(process_obj._target, error) from error
    file.seek(0)
    file.truncate()
    try:
        pickled = _by_value.dumps(process_obj, _by_value.is_in_main if child_finds_main else lambda value: False)
    except Exception as refused:
        raise (error or refused) from None
    _spawning.reducer.dump(_by_value.ByValue(pickled), file)


def _running_trackers():
    """The standard library's tracker of named resources, and ours: where one runs, a child is to
    use it and not another.
    """
    modules = {'multiprocessing': loaded(_TRACKERS), 'procession': sys.modules.get('procession.' + _TRACKERS)}
    for name, module in modules.items():
        fd = getattr(getattr(module, '_resource_tracker', None), '_fd', None)
        if fd is not None:
            yield name, fd
