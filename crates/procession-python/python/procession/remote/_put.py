"""Values that go to the machines of a cluster once. A `Put` is the handle of one in the driver. In
a child it unpickles as the value, which the child asks its agent for: used there in the main
thread.
"""

from __future__ import annotations

import itertools
import mmap
import os
import pickle
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._messages import VALUE, WANTED

if TYPE_CHECKING:
    from ._cluster import Keeper
    from ._messages import Channel
    from ._values import RemoteValues

__all__ = ['Put', 'put']

#: The name of a value: the driver's pid and a number.
Key = tuple[int, int]
#: A part of a value: its pickle, or one of its buffers.
Part = bytes | pickle.PickleBuffer

_keys = itertools.count(1)
# The driver's: what its cluster's library knows each value by.
_references: dict[Key, Any] = {}
_lock = threading.Lock()
# A child's: its way to its agent, and the values that are in use, by key.
_channel: Channel | None = None
_values: weakref.WeakValueDictionary[Key, _Memory] = weakref.WeakValueDictionary()


class Put:
    """The handle of a value that the cluster's library keeps. It is cheap to send with a task,
    which gets the value in its place.

    The library lets go of the value when the handle is gone and no pool of its context has tasks.
    """

    def __init__(self, key: Key, size: int) -> None:
        self._key, self._size = key, size

    def __reduce__(self) -> tuple[Any, ...]:
        return _fetched, (self._key, self._size)

    def __repr__(self) -> str:
        return f'<{type(self).__qualname__} of {self._size} bytes>'


def put(cluster: Keeper, values: RemoteValues, value: object) -> Put:
    """Returns the handle of a value; `values` says what is sent in its place if it cannot go by
    name.
    """
    buffers: list[pickle.PickleBuffer] = []
    head = values.pickled(value, buffers.append)
    return put_parts(cluster, [head, *buffers])


def put_parts(cluster: Keeper, parts: Sequence[Part]) -> Put:
    """Returns the handle of a value that is these parts."""
    handle = Put((os.getpid(), next(_keys)), sum(memoryview(part).nbytes for part in parts))
    _references[handle._key] = cluster.keep(parts)
    weakref.finalize(handle, cluster.forget, handle._key)
    return handle


def reference_of(key: Key) -> Any:
    """In the driver: what the cluster's library knows the value by."""
    try:
        return _references[key]
    except KeyError:
        raise KeyError('the handle that ctx.put() returned was let go of before the task that needs it began: keep it') from None


def drop_reference(key: Key) -> None:
    """In the driver: lets go of a value."""
    _references.pop(key, None)


def use_channel(channel: Channel) -> None:
    """In a child: says how it reaches its agent."""
    global _channel
    _channel = channel


def _fetched(key: Key, size: int) -> Any:
    """Returns what a handle becomes when it is unpickled: in a child the value."""
    if _channel is None:
        # In the driver, or in a manager, through which it goes on to a child.
        return Put(key, size)
    with _lock:
        memory = _values.get(key)
        if memory is None:
            memory = _values[key] = _received(_channel, key)
    head, *buffers = memory.parts()
    return pickle.loads(head, buffers=buffers)


def _received(channel: Channel, key: Key) -> _Memory:
    channel.send(WANTED, pickle.dumps(key))
    message = channel.receive_with_fds()
    if message is None or message[0] != VALUE:
        # The agent is gone.
        os._exit(1)
    return _Memory(message[2], *pickle.loads(message[1]))


class _Memory(mmap.mmap):
    """The parts of a value, in memory that nobody changes. The agent sees by the second file
    descriptor how long it is in use.
    """

    _head: bytes | None
    _places: list[tuple[int, int]]

    def __new__(cls, fds: Sequence[int], head: bytes | None, offset: int, places: Sequence[tuple[int, int]]) -> _Memory:
        fd, *leases = fds
        skipped = offset % mmap.ALLOCATIONGRANULARITY
        end = max(place + length for place, length in places)
        try:
            memory = super().__new__(cls, fd, skipped + end, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset - skipped)
        finally:
            os.close(fd)
        memory._head = head
        memory._places = [(skipped + place, length) for place, length in places]
        for lease in leases:
            weakref.finalize(memory, os.close, lease)
        return memory

    def __init__(self, *args: object) -> None:
        pass

    def parts(self) -> list[bytes | memoryview]:
        """Returns the parts: the buffers are views which keep this memory."""
        view = memoryview(self)
        views = [view[place : place + length] for place, length in self._places]
        return [*views] if self._head is None else [self._head, *views]
