"""Blocks of shared memory for `sharedctypes`. Used in any process, from any thread.

The heap is the standard library's. Its arenas are files without a name: a kill at any moment leaves
nothing behind, and neither `/dev/shm` nor a temporary folder is needed.
"""

import mmap
import os

from procession._engine import HeldStreams
from procession._standard import adopt

adopt(__name__)


class Arena:
    """`size` bytes that the heap gives out; a child gets their file descriptor."""

    def __init__(self, size, fd=-1):
        if fd == -1:
            with HeldStreams():
                fd = os.memfd_create('procession-heap', os.MFD_CLOEXEC)
            try:
                # The kernel's own choice is 0777.
                os.fchmod(fd, 0o600)
                os.ftruncate(fd, size)
            except BaseException:
                os.close(fd)
                raise
        self.size = size
        self.fd = fd
        util.Finalize(self, os.close, (fd,))  # noqa: F821 (adopted)
        # It takes an fd of its own.
        with HeldStreams():
            self.buffer = mmap.mmap(fd, size)


def reduce_arena(arena):
    """What an arena pickles as, for a child that is being started or over a connection."""
    return rebuild_arena, (arena.size, reduction.DupFd(arena.fd))  # noqa: F821 (adopted)


def rebuild_arena(size, handle):
    """Returns the arena of `size` bytes whose file descriptor `handle` brings."""
    return Arena(size, handle.detach())


reduction.register(Arena, reduce_arena)  # noqa: F821 (adopted)
