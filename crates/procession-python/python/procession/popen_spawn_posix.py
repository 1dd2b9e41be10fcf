"""Processes by `spawn`: fresh interpreters, at the price of a small program's start however large
the parent is. Used in the parent, by any thread.

Preparation data, process object and file descriptors go to the child in one message, and no
resource tracker is started for it.
"""

from __future__ import annotations

import io
import sys

from . import _by_value, _spawning, popen_fork, spawn
from ._engine import Link, pidfd_of_self
from ._execution import execute
from ._standard import loaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import ClassVar

    from .process import BaseProcess

__all__ = ['Popen']

_TRACKERS = 'resource_tracker'


class _DupFd:
    """A file descriptor on its way to the child."""

    def __init__(self, ind: int) -> None:
        self.ind = ind

    def detach(self) -> int:
        """In the child: the number it has there."""
        return spawn.get_inherited_fds()[self.ind]  # type: ignore[index]


class Popen(popen_fork.Popen):
    """A fresh interpreter."""

    method = 'spawn'
    DupFd: ClassVar[type[_DupFd]] = _DupFd

    def __init__(self, process_obj: BaseProcess) -> None:
        self._fds: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Has a copy of the file descriptor `fd` sent to the child; returns its place among those
        sent.
        """
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process_obj: BaseProcess) -> None:
        letter, fds = self._letter(process_obj)
        ours, theirs = Link.pair()
        ours.send(letter, fds)
        terms = process_obj.name, process_obj.daemon, self._leads_group()
        execute(self, '_child', 'spawn.spawn_main', ours, theirs, *terms)
        self._tell()

    def _letter(self, process_obj: BaseProcess) -> tuple[bytes, list[int]]:
        """Returns what the child is sent, and the file descriptors beside it.

        A letter is three pickles: the setting in words, or `None`; the preparation data; and the
        process object, which unpickles only after the preparation. The setting's file descriptors
        are the last.
        """
        data = spawn.get_preparation_data(process_obj._name)
        if not process_obj._imports_main:
            data = {key: value for key, value in data.items() if not key.startswith('init_main')}
        words = b'N.' if self._setting is None else bytes(_spawning.reducer.ForkingPickler.dumps(self._setting.words()))
        head, body = io.BytesIO(), io.BytesIO()
        _spawning.set_spawning_popen(self)  # type: ignore[arg-type, unused-ignore]
        try:
            _dump_process(process_obj, body)
            fds = [pidfd_of_self(), *self._fds]
            data['is_worker'] = process_obj._is_worker
            if process_obj._is_worker:
                data['slot'], data['place'] = process_obj._slot, process_obj._place
            data['trackers'] = {}
            for name, fd in _running_trackers():
                data['trackers'][name] = len(fds)
                fds.append(fd)
            _spawning.reducer.dump(data, head)
        finally:
            _spawning.set_spawning_popen(None)
        if self._setting is not None:
            fds += self._setting.fds()
        return words + head.getvalue() + body.getvalue(), fds


def _dump_process(process_obj: BaseProcess, file: io.BytesIO) -> None:
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


def _running_trackers() -> Iterator[tuple[str, int]]:
    """The standard library's tracker of named resources, and ours: where one runs, a child is to
    use it and not another.
    """
    modules = {'multiprocessing': loaded(_TRACKERS), 'procession': sys.modules.get('procession.' + _TRACKERS)}
    for name, module in modules.items():
        fd = getattr(getattr(module, '_resource_tracker', None), '_fd', None)
        if fd is not None:
            yield name, fd
