"""Values on their way to another machine: those that cannot go by name go by value, and those that
need this machine are refused. Used in the driver, by any thread.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from .. import _by_value, process
from .._engine import __version__
from .._errors import NotRemote
from ..reduction import ForkingPickler

if TYPE_CHECKING:
    from .._places import Place
    from ._hearer import Pipes

__all__ = ['RemoteValues', 'child_terms']


class _NoPassage:
    """Refuses the file descriptors of values that are on their way to another machine."""

    def duplicate_for_child(self, fd: int) -> NoReturn:
        """Raises `NotRemote`."""
        raise NotRemote(
            'a file descriptor, or memory that is shared by one, cannot go to another machine. Take a Queue, a Lock or a Manager of the '
            "cluster's own context, send arrays by value or by its put(), and have a child open files by their paths"
        )

    @staticmethod
    def DupFd(fd: int) -> int:
        """Is not reached: see `duplicate_for_child`."""
        return fd


class RemoteValues(_by_value.Values):
    """Functions and classes of the main module go by value: no child imports it."""

    _passage = _NoPassage

    def __init__(self) -> None:
        super().__init__(False)

    def pickled(self, value: object, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None) -> bytes:
        """Returns the pickle of what a child needs beside its tasks. Large buffers go to
        `buffer_callback`, if it is given.
        """
        file = io.BytesIO()
        pickler = pickle.Pickler(file, 5, buffer_callback=buffer_callback)
        # With what programs have registered, as everything that crosses between processes.
        pickler.dispatch_table = ForkingPickler(io.BytesIO()).dispatch_table
        try:
            pickler.dump(value)
            if b'__main__' not in file.getvalue() or not self.names_unknown(file.getvalue()):
                return file.getvalue()
            error: Exception | None = None
        except Exception as refused:
            error = refused
        return pickle.dumps(self.by_value(value, error), 5)


def child_terms(name: str, slot: int | None, calls: bytes, place: Place | None, pipes: Pipes | None) -> bytes:
    """Returns what a child is told before it begins, as bytes."""
    first = process.ORIGINAL_DIR or os.getcwd()
    return pickle.dumps(
        {
            'version': __version__,
            'name': name,
            'slot': slot,
            'calls': calls,
            'place': place,
            'surroundings': None if pipes is None else pipes.told(),
            'authkey': bytes(process.current_process().authkey),
            'sys_path': [first if entry == '' else entry for entry in sys.path],
            'sys_argv': sys.argv,
        }
    )
