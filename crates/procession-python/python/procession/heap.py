"""Blocks of shared memory for `sharedctypes`. Used in any process, from any thread.

The heap is the standard library's. Its arenas are files without a name: a kill at any moment leaves
nothing behind, and neither `/dev/shm` nor a temporary folder is needed.
"""

from __future__ import annotations

import mmap
import os

from procession._engine import HeldStreams, create_memfd
from procession._standard import adopt

adopt(__name__)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing import reduction, util
    from multiprocessing.heap import BufferWrapper as BufferWrapper, Heap as Heap
    from typing import Any

    __all__ = ['BufferWrapper']


class Arena:
    """`size` bytes that the heap gives out; a child gets their file descriptor."""

    def __init__(self, size: int, fd: int = -1) -> None:
        if fd == -1:
            fd = create_memfd('procession-heap')
            try:
                os.ftruncate(fd, size)
            except BaseException:
                os.close(fd)
                raise
        self.size = size
        self.fd = fd
        util.Finalize(self, os.close, (fd,))
        # It takes an fd of its own.
        with HeldStreams():
            self.buffer = mmap.mmap(fd, size)


def reduce_arena(arena: Arena) -> Any:
    """Returns what an arena pickles as, for a child that is being started or over a connection."""
    return rebuild_arena, (arena.size, reduction.DupFd(arena.fd))


def rebuild_arena(size: int, handle: Any) -> Arena:
    """Returns the arena of `size` bytes whose file descriptor `handle` brings."""
    return Arena(size, handle.detach())


reduction.register(Arena, reduce_arena)
