"""Queues of objects between processes. Used in any process that was given one, from any thread.

A queue is a ring in shared memory, with a lock for each end. :meth:`Queue.put` pickles the item in
the caller and returns once it is there for others to take: no thread feeds a pipe. So, other than
in the standard library,

* an item that does not pickle raises where it is put, and nothing is dropped silently. A subclass
  that has an ``_on_queue_feeder_error`` of its own gets the exception and the item there instead,
  as in the standard library. So does the standard one, which prints the traceback, in a program
  that was written for the standard library and has its ``multiprocessing`` answered by procession:
  no ``put`` of such a program expects to fail;
* ``get_nowait()`` right after ``put()`` finds the item;
* a process may end, or be killed, right after ``put()``: its items stay. It may be joined before
  the queue is drained;
* a process that is killed while it puts or gets loses at most the item it had in hand, and holds up
  nobody;
* ``join()`` of a joinable queue does not wait for what a dead process had taken.

>>> import procession as mp
>>> q = mp.Queue()
>>> q.put('first')
>>> q.get_nowait()
'first'
"""

from __future__ import annotations

import os
import types
from queue import Empty as Empty, Full as Full

from . import reduction
from ._engine import Queue as _Ring
from ._spawning import answers_multiprocessing, assert_spawning, note_maker
from ._standard import standard
from .util import register_after_fork

_standard = standard('queues')

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.queues import Queue as _Queue, SimpleQueue as _SimpleQueue
    from typing import Any, Self, TypeVar

    _T = TypeVar('_T')

    class _JoinableQueue: ...
else:
    # Types take a parameter that the classes take from Python 3.12 on.
    _T = None
    _Queue, _SimpleQueue, _JoinableQueue = {_T: _standard.Queue}, {_T: _standard.SimpleQueue}, _standard.JoinableQueue

__all__ = ['Queue', 'SimpleQueue', 'JoinableQueue']

# The item that ends the feeder thread of a subclass that has one of its own.
_sentinel = _standard._sentinel


# Seconds between two looks for room of a task that waits in an event loop.
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.02


class Queue(_Queue[_T]):
    """A first-in first-out queue of at most `maxsize` items; 0: as many as memory holds (8 GiB at
    most).
    """

    _is_joinable = False
    # True if a subclass feeds its items by itself, with a thread and a pickler of its own, as that
    # of loky does. Then this class works as the standard library's, on a ring in place of a pipe.
    _has_feeder = False
    # The standard library's, which a subclass may replace.
    _feed: Any
    _start_thread: Any
    _on_queue_feeder_error: Any

    def __init_subclass__(cls, **kwds: Any) -> None:
        super().__init_subclass__(**kwds)
        cls._has_feeder = cls._feed is not _standard.Queue._feed or cls._start_thread is not _standard.Queue._start_thread

    if TYPE_CHECKING:
        # `ctx` must be given. Types do not say so, so that `procession.Queue` can be an annotation,
        # as in typeshed.
        def __init__(self, maxsize: int = 0, *, ctx: Any = ...) -> None: ...
    else:

        def __init__(self, maxsize=0, *, ctx):
            note_maker(self, ctx)
            self._maxsize = maxsize if maxsize > 0 else _most()
            if self._has_feeder:
                self._rlock, self._wlock, self._sem = ctx.Lock(), _NoLock(), ctx.BoundedSemaphore(self._maxsize)
            self._opid = os.getpid()
            # For concurrent.futures, which sets it.
            self._ignore_epipe = False
            self._open(_Ring(max(maxsize, 0), self._is_joinable))

    def __getstate__(self) -> Any:
        assert_spawning(self)
        return self._ignore_epipe, self._maxsize, self._opid, _handle(self._ring)

    def __setstate__(self, state: Any) -> None:
        self._ignore_epipe, self._maxsize, self._opid, handle = state
        self._open(_of_handle(handle))

    def _open(self, ring: _Ring) -> None:
        self._ring = ring
        self._reader = _Reader(ring)
        self._writer = _Writer(ring)
        has_own_hook = type(self)._on_queue_feeder_error is not Queue._on_queue_feeder_error
        self._has_hook = has_own_hook or answers_multiprocessing()
        self._reset()
        register_after_fork(self, Queue._after_fork)

    def _after_fork(self) -> None:
        self._reset(after_fork=True)

    def _reset(self, after_fork: bool = False) -> None:
        if self._has_feeder:
            _standard.Queue._reset(self, after_fork)
        self._closed = False

    def put(self, obj: _T, block: bool = True, timeout: float | None = None) -> None:
        """Appends an item; waits for room, for `timeout` seconds at most, unless `block` is false.

        Raises ``queue.Full`` if there was no room, what pickling raises, and ``ValueError`` after
        :meth:`close`.
        """
        if self._has_feeder:
            _standard.Queue.put(self, obj, block, timeout)
            return
        if self._closed:
            raise ValueError(f'Queue {self!r} is closed')
        self._ring.put(obj, block, timeout, self._on_queue_feeder_error if self._has_hook else None)

    def get(self, block: bool = True, timeout: float | None = None) -> _T:
        """Takes the oldest item; waits for one, for `timeout` seconds at most, unless `block` is
        false.

        Raises ``queue.Empty`` if there was none, what unpickling raises, and ``ValueError`` after
        :meth:`close`.
        """
        if self._has_feeder:
            item: _T = _standard.Queue.get(self, block, timeout)
            return item
        if self._closed:
            raise ValueError(f'Queue {self!r} is closed')
        if self._reader.closed:
            raise OSError('handle is closed')
        item = self._ring.get(block, timeout)
        return item

    def qsize(self) -> int:
        """Returns how many items are in it."""
        return _standard.Queue.qsize(self) if self._has_feeder else len(self._ring)

    def empty(self) -> bool:
        """Returns whether there is no item. What this process, or one it has joined, has put is
        counted for sure.
        """
        return not self._reader.poll()

    def full(self) -> bool:
        """Returns whether it holds `maxsize` items."""
        return _standard.Queue.full(self) if self._has_feeder else self._ring.is_full()

    def get_nowait(self) -> _T:
        """Takes the oldest item; raises ``queue.Empty`` if there is none."""
        return self.get(False)

    def put_nowait(self, obj: _T) -> None:
        """Appends an item; raises ``queue.Full`` if there is no room."""
        self.put(obj, False)

    async def aget(self) -> _T:
        """Takes the oldest item; waits for one in the event loop of asyncio or trio, without a
        thread.

        Raises what unpickling raises, and ``ValueError`` after :meth:`close`. A task that is
        cancelled while it waits has taken nothing.
        """
        from ._waiting import until_readable

        while True:
            try:
                return self.get_nowait()
            except Empty:
                await until_readable(self._reader.fileno())

    async def aput(self, obj: _T) -> None:
        """Appends an item; waits for room in the event loop of asyncio or trio, without a thread.

        It looks for room again and again, after 20 ms at most. Raises what pickling raises, and
        ``ValueError`` after :meth:`close`.
        """
        from ._waiting import rest

        pause = _FIRST_PAUSE
        while True:
            try:
                return self.put_nowait(obj)
            except Full:
                await rest(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def close(self) -> None:
        """Says that this process is done with the queue. What it has put stays."""
        if self._has_feeder:
            _standard.Queue.close(self)
            return
        self._closed = True
        if self._ring.is_used():
            self._reader.close()
            self._writer.close()

    def join_thread(self) -> None:
        """Returns at once: there is no thread, and all that was put is there. Only after
        :meth:`close`.
        """
        assert self._closed, f'Queue {self!r} not closed'
        if self._has_feeder:
            _standard.Queue.join_thread(self)

    def cancel_join_thread(self) -> None:
        """Does nothing: no thread holds up this process's end. Nothing that was put is lost."""
        if self._has_feeder:
            _standard.Queue.cancel_join_thread(self)

    def _terminate_broken(self) -> None:
        # concurrent.futures ends a queue so that nobody will read any more.
        self._reader.close()
        self.close()
        self.join_thread()

    @classmethod
    def __class_getitem__(cls, item: Any, /) -> types.GenericAlias:
        return types.GenericAlias(cls, item)


class JoinableQueue(Queue[_T], _JoinableQueue):
    """A queue that knows which items are not done yet."""

    _is_joinable = True

    def task_done(self) -> None:
        """Says that an item that was taken is done; raises ``ValueError`` if none that was taken is
        unfinished.
        """
        self._ring.task_done()

    def join(self) -> None:
        """Waits until every item that was put is done, or was lost with the process that had taken
        it.
        """
        self._ring.join()


class SimpleQueue(_SimpleQueue[_T]):
    """A queue with little more than `put` and `get`."""

    if TYPE_CHECKING:
        # As that of `Queue`.
        def __init__(self, *, ctx: Any = ...) -> None: ...
    else:

        def __init__(self, *, ctx):
            note_maker(self, ctx)
            self._open(_Ring(0, False))

    def __getstate__(self) -> Any:
        assert_spawning(self)
        return _handle(self._writer._open_ring())

    def __setstate__(self, handle: Any) -> None:
        self._open(_of_handle(handle))

    def _open(self, ring: _Ring) -> None:
        self._reader = _Reader(ring)
        self._writer = _Writer(ring)
        self._rlock = self._wlock = _NoLock()

    def close(self) -> None:
        """Gives this process's hold on the queue back; it cannot be used here any more."""
        self._reader.close()
        self._writer.close()

    def empty(self) -> bool:
        """Returns whether there is no item."""
        return not self._reader.poll()

    def get(self) -> _T:
        """Takes the oldest item; waits for one."""
        item: _T = self._reader.recv()
        return item

    def put(self, obj: _T) -> None:
        """Appends an item; never waits. Raises what pickling raises."""
        self._writer.send(obj)

    async def aget(self) -> _T:
        """Takes the oldest item; waits for one in the event loop of asyncio or trio, without a
        thread.
        """
        from ._waiting import until_readable

        while True:
            try:
                item: _T = self._reader._open_ring().get(False)
                return item
            except Empty:
                await until_readable(self._reader.fileno())

    async def aput(self, obj: _T) -> None:
        """Appends an item; never waits. Raises what pickling raises."""
        self.put(obj)

    @classmethod
    def __class_getitem__(cls, item: Any, /) -> types.GenericAlias:
        return types.GenericAlias(cls, item)


class _End:
    """One end of a queue, in the manner of a connection: `multiprocessing.connection.wait` takes
    it.
    """

    def __init__(self, ring: _Ring) -> None:
        self._ring: _Ring | None = ring

    def __reduce__(self) -> tuple[Any, ...]:
        assert_spawning(self)
        return _rebuild_end, (type(self), _handle(self._open_ring()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Returns whether this end is closed in this process."""
        return self._ring is None

    def close(self) -> None:
        """Closes it in this process."""
        self._ring = None

    def _open_ring(self) -> _Ring:
        ring = self._ring
        if ring is None:
            raise OSError('handle is closed')
        return ring


class _Reader(_End):
    readable = True
    writable = False

    def fileno(self) -> int:
        """Returns a file descriptor of this process that is readable while there are items."""
        return self._open_ring().readable()

    def poll(self, timeout: float | None = 0.0) -> bool:
        return self._open_ring().poll(timeout)

    def recv(self) -> Any:
        return self._open_ring().get(True)

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        return self._open_ring().get_bytes()


class _Writer(_End):
    readable = False
    writable = True
    # The ring that is sent to a child: some ways to start one refuse a file descriptor that comes
    # twice, and the reader has this one's.
    _sent: _Ring | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        assert_spawning(self)
        if self._sent is None:
            self._sent = _Ring.attach(self._open_ring().fileno())
        return _rebuild_end, (type(self), _handle(self._sent))

    def close(self) -> None:
        """Closes it in this process."""
        super().close()
        self._sent: _Ring | None = None

    def send(self, obj: object) -> None:
        self._open_ring().put(obj, True)

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        view = memoryview(buf).cast('B')
        end = len(view) if size is None else offset + size
        self._open_ring().put_bytes(view[offset:end])


class _NoLock:
    """In the place of the locks around a pipe: the ring has its own."""

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        return True

    def release(self) -> None:
        pass

    __enter__ = acquire

    def __exit__(self, *exception: object) -> None:
        pass


def _most() -> int:
    from .synchronize import SEM_VALUE_MAX

    return SEM_VALUE_MAX


def _handle(ring: _Ring) -> Any:
    return reduction.DupFd(ring.fileno())


def _of_handle(handle: Any) -> _Ring:
    number = handle.detach()
    try:
        return _Ring.attach(number)
    finally:
        os.close(number)


def _rebuild_end(end: type[_End], handle: Any) -> _End:
    return end(_of_handle(handle))
