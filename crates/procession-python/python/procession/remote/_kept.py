"""Values that an agent keeps for its children: in memory that children map and cannot change. Used
on other machines, by the agent.

A value that the cluster's library has in shared memory stays there: children map the same memory,
for as long as they use it, and the agent keeps the value meanwhile. The kernel gives the file of a
mapping to privileged processes only. Elsewhere, and of other libraries, the agent has one copy.
"""

from __future__ import annotations

import os
import pickle
import select
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._engine import address_of, create_memfd

if TYPE_CHECKING:
    from ._put import Part

__all__ = ['Kept']

# A shorter value is copied.
_MIN_SHARED = 1 << 20
# A longer pickle is copied with its buffers: it would not go in one message.
_MAX_HEAD = 1 << 14


class Kept:
    """One value. `parts` are its pickle and its buffers."""

    def __init__(self, parts: Sequence[Part]) -> None:
        # Ends of pipes. They tell that a child has let go of the memory.
        self._leases: list[int] = []
        found = _shared(parts)
        self._is_shared = found is not None
        self._parts: Sequence[Part] | None = parts if self._is_shared else None
        self._fd, self._told = found or _copied(parts)

    def described(self) -> tuple[bytes, list[int], tuple[int, ...]]:
        """Returns what a child is told, the file descriptors that it gets, and those of them that
        are to be closed then.
        """
        if not self._is_shared:
            return self._told, [self._fd], ()
        ours, theirs = os.pipe()
        self._leases.append(ours)
        return self._told, [self._fd, theirs], (theirs,)

    def is_used(self) -> bool:
        """Returns whether a child has memory of the cluster's library."""
        poll = select.poll()
        for lease in self._leases:
            poll.register(lease, select.POLLHUP)
        ended = {fd for fd, _ in poll.poll(0)} if self._leases else set()
        for lease in ended:
            os.close(lease)
        self._leases = [lease for lease in self._leases if lease not in ended]
        return bool(self._leases)

    def close(self) -> None:
        """Lets go of the value."""
        os.close(self._fd)
        for lease in self._leases:
            os.close(lease)
        self._leases = []
        self._parts = None


def _shared(parts: Sequence[Part]) -> tuple[int, bytes] | None:
    """Returns a file descriptor of the memory that has all buffers, and what a child is told of it;
    `None` if that cannot be had.
    """
    head, *buffers = parts
    if sum(memoryview(buffer).nbytes for buffer in buffers) < _MIN_SHARED or memoryview(head).nbytes > _MAX_HEAD:
        return None
    places = [(address_of(buffer), memoryview(buffer).nbytes) for buffer in buffers]
    first = min(address for address, _ in places)
    end = max(address + length for address, length in places)
    with open('/proc/self/maps') as maps:
        for line in maps:
            span, access, offset, _, inode, *_ = line.split()
            low, high = (int(bound, 16) for bound in span.split('-'))
            if low <= first and end <= high:
                break
        else:
            return None
    if inode == '0' or access[3] != 's':
        return None
    try:
        fd = os.open(f'/proc/self/map_files/{span}', os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    begin = int(offset, 16) + first - low
    return fd, pickle.dumps((head, begin, [(address - first, length) for address, length in places]))


def _copied(parts: Sequence[Part]) -> tuple[int, bytes]:
    """Returns what `_shared` returns, of a copy."""
    fd = create_memfd('procession-put')
    places, at = [], 0
    for part in parts:
        view = memoryview(part).cast('B')
        # Arrays are read in words, and those that are aligned are read faster.
        at = -(-at // 64) * 64
        places.append((at, view.nbytes))
        done = 0
        while done < view.nbytes:
            done += os.pwrite(fd, view[done : done + (1 << 30)], at + done)
        at += view.nbytes
    os.ftruncate(fd, max(at, 1))
    return fd, pickle.dumps((None, 0, places))
