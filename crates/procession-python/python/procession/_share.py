"""One array for all: `share` puts the buffers of an object into shared memory once, and each
process that the handle goes to reads them there. In any process and thread.

The object is pickled by protocol 5, its buffers beside it (PEP 574), so whatever hands out its
buffers is shared: arrays of numpy, frames of pandas, tables of pyarrow. The memory is a memfd,
which is sealed once it is filled: nobody can write to it. It is gone when the last handle and the
last view of it are, whoever is killed.
"""

from __future__ import annotations

import mmap
import os
import pickle
import weakref
from typing import Any, Generic, TypeVar

from . import _spawning
from ._engine import create_memfd

_T = TypeVar('_T')
# Buffers begin at multiples of this, which is a cache line.
_ALIGNED = 64

# The handles of this process by their key: one that arrives again is the one that is there.
_known: weakref.WeakValueDictionary[bytes, Shared[Any]] = weakref.WeakValueDictionary()


class Shared(Generic[_T]):
    """A handle on an object in shared memory: an argument of a process, of a pool's task or of an
    initializer. `value` is the object, with read-only views of the shared memory as its buffers.
    """

    def __init__(self, key: bytes, fd: int, spans: list[tuple[int, int]]) -> None:
        self._key, self._fd, self._spans = key, fd, spans
        self._close = weakref.finalize(self, os.close, fd)
        # As a process ends, its fds are closed anyway.
        self._close.atexit = False
        self._mapped: mmap.mmap | None = None
        self._value: Any = None
        _known[key] = self

    @property
    def value(self) -> _T:
        """The object. Its buffers are not copied; what is not a buffer of it is unpickled once."""
        if self._mapped is None:
            start, size = self._spans[-1]
            # Private, as Linux before 6.7 refuses to share memory that is sealed against writes.
            mapped = mmap.mmap(self._fd, start + size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
            view = memoryview(mapped)
            *buffers, pickled = [view[start : start + size] for start, size in self._spans]
            self._value = pickle.loads(pickled, buffers=buffers)
            self._mapped = mapped
        return self._value  # type: ignore[no-any-return]

    @property
    def nbytes(self) -> int:
        """Bytes of shared memory."""
        return sum(self._spans[-1])

    def __reduce__(self) -> Any:
        if _spawning.get_spawning_popen() is None:
            raise RuntimeError(
                'a handle of procession.share goes to another process as an argument of it, of a task or of an initializer, and '
                'neither in a function (functools.partial), a result nor a queue: use starmap with the handle in each tuple, or '
                'an initializer'
            )
        return _arrived, (self._key, _spawning.reducer.DupFd(self._fd), self._spans)

    def __repr__(self) -> str:
        return f'<Shared {self.nbytes} bytes>'


def share(value: _T) -> Shared[_T]:
    """Puts `value` into shared memory, once, and returns a handle on it for other processes.

    ::

        table = procession.share(numpy.arange(10_000_000))
        pool.starmap(look_up, [(table, key) for key in keys])   # look_up uses table.value

    Raises `OSError` if there is no memory or no file descriptor for it, and `pickle.PicklingError`
    if it does not pickle.
    """
    buffers: list[pickle.PickleBuffer] = []
    # Of these pickle makes a copy otherwise.
    shown: Any = pickle.PickleBuffer(value) if isinstance(value, (bytes, bytearray, memoryview)) else value
    pickled = pickle.dumps(shown, 5, buffer_callback=buffers.append)
    fd = create_memfd('procession-share')
    try:
        spans, end = [], 0
        for part in [*(buffer.raw() for buffer in buffers), memoryview(pickled)]:
            start = -(-end // _ALIGNED) * _ALIGNED
            _write(fd, part, start)
            spans.append((start, part.nbytes))
            end = start + part.nbytes
        _seal(fd)
    except BaseException:
        os.close(fd)
        raise
    return Shared(os.urandom(16), fd, spans)


def _write(fd: int, part: memoryview, at: int) -> None:
    # Written, not mapped: that would be a page fault for each 4 KiB.
    while part.nbytes:
        written = os.pwrite(fd, part, at)
        part, at = part[written:], at + written


def _seal(fd: int) -> None:
    # Seldom needed.
    import fcntl

    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)


def _arrived(key: bytes, handle: Any, spans: list[tuple[int, int]]) -> Shared[Any]:
    known = _known.get(key)
    return Shared(key, handle.detach(), spans) if known is None else known
