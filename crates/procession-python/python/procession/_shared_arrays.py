"""Arrays that many tasks have as an argument: sent once, mapped by each worker. Used by the backend
for joblib, in the parent where tasks are pickled, and in workers where they are unpickled.

An array that only its task holds goes with it, in a block, as any large buffer does. One that
others hold too may be an argument of more tasks: its data is copied to a memfd, which all of these
name. Only a few are kept that one task has named. A worker maps a memfd once and keeps the last
few. The memfd of an array that is gone is closed; tasks on their way have copies of the descriptor.
"""

from __future__ import annotations

import collections
import copyreg
import io
import itertools
import mmap
import os
import pickle
import sys
import weakref

from . import _engine, reduction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ['SharedArrays', 'load']

# The most memfds that a worker keeps mapped, beside those that arrays of a task need. Also the most
# that the parent keeps of those that one task has named.
_MOST_KEPT = 8
# The number of references to an array that only its task holds, while the array is pickled: the
# task's arguments, twice, and the pickler's frames. A wrong number costs time alone.
_OWN_REFERENCES = 7

_numbers = itertools.count()
# Worker: what it has mapped, the latest last.
_mappings: collections.OrderedDict[tuple[int, int], mmap.mmap] = collections.OrderedDict()
# Worker: the memfds of the task that is being unpickled.
_current: list[mmap.mmap] = []


class SharedArrays:
    """The arrays that tasks of a backend have had.

    Arrays of at least `least` bytes are shared. `mode` is how workers map them, as with joblib: 'r'
    for reading, 'c' with changes of their own, 'r+' or 'w+' with changes that all see.
    """

    def __init__(self, least: int, mode: str | None) -> None:
        self._least, self._mode = least, mode or 'r'
        # By the array's address, which another may get: a weak reference to the array, and its
        # memfd if it has one.
        self._seen: dict[int, tuple[weakref.ref[Any], _Memory | None]] = {}
        # Those that one task has named.
        self._named_once: collections.OrderedDict[int, None] = collections.OrderedDict()

    def dumps(self, task: object, pickler: type[Any]) -> tuple[bytes, list[Any], list[Any]]:
        """Returns the task's pickle, its buffers, and the memfds that it names; for `load`."""
        out, buffers, named = io.BytesIO(), list[pickle.PickleBuffer](), list[_Memory]()
        numpy: Any = sys.modules['numpy']

        def reduce(array: Any) -> Any:
            memory = self._memory(array, numpy)
            if memory is None:
                reduced = _reduced_memmap(array, numpy)
                return array.__reduce_ex__(5) if reduced is None else reduced
            if memory not in named:
                named.append(memory)
            return _array, (named.index(memory), type(array), array.shape, array.dtype, array.strides)

        dumper = pickler(out, 5, buffer_callback=buffers.append)
        table = getattr(dumper, 'dispatch_table', copyreg.dispatch_table)
        own = {numpy.ndarray: reduce, numpy.memmap: reduce}
        dumper.dispatch_table = collections.ChainMap(own, reduction.ForkingPickler._extra_reducers, table)  # type: ignore[attr-defined]
        dumper.dump(task)
        return out.getvalue(), buffers, named

    def _memory(self, array: Any, numpy: Any) -> _Memory | None:
        """The memfd of an array that is shared."""
        is_whole = array.flags.c_contiguous or array.flags.f_contiguous
        # A memfd without a byte cannot be mapped.
        is_small = array.nbytes < max(self._least, 1)
        if type(array) is not numpy.ndarray or is_small or array.dtype.hasobject or not is_whole:
            return None
        key = id(array)
        seen, memory = self._seen.get(key, (None, None))
        if seen is not None and seen() is array:
            self._named_once.pop(key, None)
            if memory is None:
                memory = _Memory(array, self._mode, numpy)
                self._seen[key] = (seen, memory)
            return memory
        if sys.getrefcount(array) > _OWN_REFERENCES:
            memory = _Memory(array, self._mode, numpy)
            self._named_once[key] = None
        else:
            memory = None
        self._seen[key] = (weakref.ref(array, lambda _: self._seen.pop(key, None)), memory)
        while len(self._named_once) > _MOST_KEPT:
            oldest, _ = self._named_once.popitem(last=False)
            if (entry := self._seen.get(oldest)) is not None:
                self._seen[oldest] = (entry[0], None)
        return memory


class _Memory:
    """A memfd with an array's data."""

    def __init__(self, array: Any, mode: str, numpy: Any) -> None:
        self._key, self._mode = (os.getpid(), next(_numbers)), mode
        self._size = array.nbytes
        self._fd = _engine.create_memfd('procession-array')
        self._close = weakref.finalize(self, os.close, self._fd)
        # Written, not mapped: that would be a page fault for each 4 KiB.
        left = memoryview(array.ravel(order='K').view(numpy.uint8))
        while left:
            left = left[os.write(self._fd, left) :]

    def __reduce__(self) -> Any:
        return _mapped, (self._key, self._size, self._mode, _engine.give_handle(self._fd))


def load(pickled: bytes, buffers: list[Any], named: list[mmap.mmap]) -> Any:
    """Worker: the task."""
    global _current
    _current = named
    try:
        return pickle.loads(pickled, buffers=buffers)
    finally:
        _current = []


def _mapped(key: tuple[int, int], size: int, mode: str, handle: int) -> mmap.mmap:
    """Worker: the memfd of this key, mapped."""
    found = _mappings.get(key)
    if found is None:
        fd = _engine.take_handle(handle)
        try:
            access = {'r': mmap.ACCESS_READ, 'c': mmap.ACCESS_COPY}.get(mode, mmap.ACCESS_WRITE)
            found = mmap.mmap(fd, size, access=access)
        finally:
            os.close(fd)
        if mode == 'c':
            # The writes of a task are its own.
            return found
        _mappings[key] = found
        while len(_mappings) > _MOST_KEPT:
            # Arrays that are still there keep it mapped.
            _mappings.popitem(last=False)
    _mappings.move_to_end(key)
    return found


def _array(index: int, kind: Any, shape: Any, dtype: Any, strides: Any) -> Any:
    return kind(shape, dtype, _current[index], strides=strides)


def _reduced_memmap(array: Any, numpy: Any) -> Any:
    """Returns what an array of a mapped file pickles as: the file's name, as joblib has it."""
    if array.base is None:
        return None
    from joblib import _memmapping_reducer as joblib  # type: ignore[import-untyped]

    mapped = joblib._get_backing_memmap(array)
    if not isinstance(mapped, numpy.memmap) or mapped.filename is None:
        return None
    return joblib._reduce_memmap_backed(array, mapped)
