"""Locks, semaphores, conditions, events and barriers between processes, on the engine. Used in any
process and thread that has one: from its parent by `fork`, or in the arguments of a process.

They have no names in the system and need no tracker: each is a place in memory that its users map,
gone with the last of them. An object is acquired and released in the engine without a call to the
kernel, unless somebody waits.

What is different from the standard library:

* A process that ends with a lock leaves it to the next, who is told by :class:`OwnerDiedError`. A
  semaphore's permits belong to nobody, and are gone with who took them.
* Who waits at a condition or a barrier and is killed is not waited for. A barrier breaks by it.
* An object of a `fork` context travels to a child of any context.
* At most 255 can wait at a condition at once.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref

from . import _engine, process, reduction, util
from ._errors import OwnerDiedError
from ._spawning import assert_spawning, get_spawning_popen, note_maker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext
    from typing import Any, Final, Protocol, TypeAlias, TypeVar

    _T = TypeVar('_T')
    _LockLike: TypeAlias = 'Lock | RLock'

    class _Handled(Protocol):
        """An object that has a place in an arena: of its fd, at an offset."""

        @property
        def handle(self) -> tuple[int, int]: ...


__all__ = ['Lock', 'RLock', 'Semaphore', 'BoundedSemaphore', 'Condition', 'Event', 'Barrier', 'OwnerDiedError']

RECURSIVE_MUTEX: Final[int] = 0
SEMAPHORE: Final[int] = 1
SEM_VALUE_MAX: Final[int] = 2**31 - 1

# The engine's own kind: one permit, bound to the process that has it.
_LOCK = 2
# Seconds between two looks of `wait_for` at its predicate without a notification: who should have
# given it may be dead.
_LOOK = 1.0


class SemLock(_engine.SemLock):
    """The common part of locks and semaphores: `acquire(block=True, timeout=None)`, `release()`,
    and `with`.
    """

    def __init__(self, kind: int, value: int, maxvalue: int, *, ctx: BaseContext | None) -> None:
        note_maker(self, ctx)
        self._make(kind, value, maxvalue)

    @property
    def _semlock(self) -> SemLock:
        # The standard library keeps what is in the system apart.
        return self

    def locked(self) -> bool:
        """Returns whether it cannot be acquired at once."""
        return self._is_zero()

    def __getstate__(self) -> tuple[Any, ...]:
        return self._kind(), self.maxvalue, *_send(self)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        kind, maxvalue, self._arena, offset = state
        self._attach(kind, maxvalue, self._arena.fd, offset)

    def _kind(self) -> int:
        return self.kind


class Semaphore(SemLock):
    """A number of permits, which processes take and give back.

    A process that is killed takes the permits that it has along: they are bound to nobody.
    """

    def __init__(self, value: int = 1, *, ctx: BaseContext) -> None:
        super().__init__(SEMAPHORE, value, SEM_VALUE_MAX, ctx=ctx)

    def get_value(self) -> int:
        """Returns how many permits there are now."""
        return self._get_value()

    def __repr__(self) -> str:
        return f'<{type(self).__name__}(value={_or_unknown(self._get_value)})>'


class BoundedSemaphore(Semaphore):
    """A semaphore that never has more permits than it was made with: one `release` too many is a
    ValueError.
    """

    def __init__(self, value: int = 1, *, ctx: BaseContext) -> None:
        SemLock.__init__(self, SEMAPHORE, value, value, ctx=ctx)

    def __repr__(self) -> str:
        value, most = _or_unknown(self._get_value), _or_unknown(lambda: self.maxvalue)
        return f'<{type(self).__name__}(value={value}, maxvalue={most})>'


class Lock(SemLock):
    """A lock that one thread of one process has at a time, and any may release::

        with lock:
            write_to_the_file()

    A thread that acquires it twice waits for ever. If the process that has it ends, the next to
    acquire is told, by :class:`OwnerDiedError`; the standard library waits for ever.
    """

    def __init__(self, *, ctx: BaseContext) -> None:
        super().__init__(_LOCK, 1, 1, ctx=ctx)

    def _kind(self) -> int:
        return _LOCK

    def __repr__(self) -> str:
        return f'<{type(self).__name__}(owner={_or_unknown(lambda: _owner(self))})>'


class RLock(SemLock):
    """A lock that the thread that has it may acquire again, and releases as often; nobody else may.
    Its owner's end is told of as a `Lock`'s.
    """

    def __init__(self, *, ctx: BaseContext) -> None:
        super().__init__(RECURSIVE_MUTEX, 1, 1, ctx=ctx)

    def __repr__(self) -> str:
        name = _or_unknown(lambda: _owner(self))
        count = _or_unknown(lambda: self._count() if self._is_mine() else 'nonzero' if self._is_zero() else 0)
        return f'<{type(self).__name__}({name}, {count})>'


class Condition:
    """Waits, without a lock that goes with it, for what others change while they have that lock::

        with condition:
            condition.wait_for(lambda: items.value > 0)
            items.value -= 1

    As many are notified as `notify` is asked for, who came first first. One that is killed takes no
    notification along.
    """

    if TYPE_CHECKING:

        def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
        def release(self) -> None: ...

    def __init__(self, lock: _LockLike | None = None, *, ctx: BaseContext) -> None:
        # A context of ours makes a lock of ours.
        self._lock: _LockLike = lock or ctx.RLock()  # type: ignore[assignment]
        self._waiters = _engine.Condition()
        self._make_methods()

    def __getstate__(self) -> tuple[Any, ...]:
        return self._lock, *_send(self, self._waiters)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._lock, self._arena, offset = state
        self._waiters = _engine.Condition.attach(self._arena.fd, offset)
        self._make_methods()

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, *args: Any) -> None:
        return self._lock.__exit__(*args)

    def _make_methods(self) -> None:
        # Called without a method between.
        self.acquire = self._lock.acquire  # type: ignore[method-assign]
        self.release = self._lock.release  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return f'<{type(self).__name__}({self._lock}, {self._waiters.waiting()})>'

    def wait(self, timeout: float | None = None) -> bool:
        """Releases the lock, waits to be notified for no longer than `timeout` seconds, and
        acquires the lock again, as often as it was. Returns whether it was notified.

        Raises OwnerDiedError, with the lock acquired, if its owner died meanwhile; RuntimeError if
        255 wait already.
        """
        lock = self._lock._semlock
        assert lock._is_mine(), 'must acquire() condition before using wait()'
        count = lock._count()
        try:
            return self._waiters.wait(self._lock, count, timeout)
        finally:
            # A thread that could not wait has not released.
            self._acquire_again(count - (lock._count() if lock._is_mine() else 0))

    def notify(self, n: int = 1) -> None:
        """Wakes up to `n` of those who wait. The lock must be this thread's."""
        assert self._lock._semlock._is_mine(), 'lock is not owned'
        self._waiters.notify(max(0, min(n, sys.maxsize)))

    def notify_all(self) -> None:
        """Wakes all who wait. The lock must be this thread's."""
        self.notify(n=sys.maxsize)

    def wait_for(self, predicate: Callable[[], _T], timeout: float | None = None) -> _T:
        """Waits until `predicate()` is true, for no longer than `timeout` seconds, and returns what
        it returned last.

        It is called with the lock: at first, when notified, and once a second.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while not (result := predicate()):
            left = _LOOK if end is None else end - time.monotonic()
            if left <= 0:
                break
            self.wait(min(left, _LOOK))
        return result

    def _acquire_again(self, count: int) -> None:
        died = None
        while count > 0:
            try:
                self._lock.acquire()
                count -= 1
            except OwnerDiedError as error:
                died = error
        if died is not None:
            raise died

    # The numbers that the standard library counts in semaphores.

    @property
    def _sleeping_count(self) -> _Count:
        return _Count(self._waiters.waiting())

    @property
    def _woken_count(self) -> _Count:
        return _Count(0)

    @property
    def _wait_semaphore(self) -> _Count:
        return _Count(0)


class Event(_engine.Event):
    """A flag that any process sets, clears and waits for: `set()`, `clear()`, `is_set()`,
    `wait(timeout=None)`.

    `wait` returns True if it was set since the call, even if it was cleared at once.
    """

    def __init__(self, *, ctx: BaseContext) -> None:
        note_maker(self, ctx)
        self._make()

    def __getstate__(self) -> tuple[Any, ...]:
        return _send(self)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._arena, offset = state
        self._attach(self._arena.fd, offset)

    def __repr__(self) -> str:
        return f'<{type(self).__qualname__} at {id(self):#x} {"set" if self.is_set() else "unset"}>'


class Barrier(threading.Barrier):
    """A number of parties that wait for each other. If a process that has waited at it ends without
    leaving Python in an orderly way, those who wait, or will, are told by BrokenBarrierError.

    `action` is called by the last to arrive, while the others wait; `timeout` is the one of `wait`
    where none is given.
    """

    def __init__(
        self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None, *, ctx: BaseContext
    ) -> None:
        note_maker(self, ctx)
        self._barrier = _engine.Barrier(parties)
        self._action, self._timeout = action, timeout

    def __getstate__(self) -> tuple[Any, ...]:
        return self._action, self._timeout, *_send(self, self._barrier)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._action, self._timeout, self._arena, offset = state
        self._barrier = _engine.Barrier.attach(self._arena.fd, offset)

    def wait(self, timeout: float | None = None) -> int:
        """Waits for all parties, for no longer than `timeout` seconds. Returns which of them this
        one was: the first is 0.

        Raises threading.BrokenBarrierError, for this one and all others, when time is out or a
        party is dead.
        """
        _leave_at_exit()
        return self._barrier.wait(self._timeout if timeout is None else timeout, self._action)

    def reset(self) -> None:
        """Makes it whole and empty; who waits finds it broken."""
        self._barrier.reset()

    def abort(self) -> None:
        """Breaks it."""
        self._barrier.abort()

    @property
    def parties(self) -> int:
        """Returns the number of parties that the barrier is for."""
        return self._barrier.parties

    @property
    def n_waiting(self) -> int:
        """Returns the number of parties that wait now."""
        return self._barrier.waiting

    @property
    def broken(self) -> bool:
        """Returns whether the barrier is broken."""
        return self._barrier.broken


class _Count:
    """A semaphore of which only the value is read."""

    def __init__(self, value: int) -> None:
        self._value = value

    def get_value(self) -> int:
        return self._value

    _get_value = get_value

    @property
    def _semlock(self) -> _Count:
        return self


class _Outgoing:
    """An arena, the memory of many objects, as it is pickled for a child."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __reduce__(self) -> tuple[Any, ...]:
        # A popen is given each fd once: that of `spawn` takes no number twice.
        sent = _sent.setdefault(get_spawning_popen(), {})
        if self._fd not in sent:
            sent[self._fd] = reduction.DupFd(self._fd)
        return _receive, (sent[self._fd],)


class _Incoming:
    """An arena in a child. Its fd is open while objects that came with it are there."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        os.set_inheritable(fd, False)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.fd)


# One for each fd, so that it is pickled once for many objects. A number may be another arena's
# later, and means that then.
_outgoing: dict[int, _Outgoing] = {}
# By popen and fd, what is pickled for the fd.
_sent: weakref.WeakKeyDictionary[Any, dict[int, Any]] = weakref.WeakKeyDictionary()
# By fd: it may come in several pickles.
_incoming: weakref.WeakValueDictionary[int, _Incoming] = weakref.WeakValueDictionary()


def _send(obj: Any, engine: _Handled | None = None) -> tuple[_Outgoing, int]:
    """Returns the part of `obj` that goes to the child that is being started."""
    assert_spawning(obj)
    fd, offset = (obj if engine is None else engine).handle
    return _outgoing.setdefault(fd, _Outgoing(fd)), offset


def _receive(dup: Any) -> _Incoming:
    fd = dup.detach()
    arena = _incoming.get(fd)
    if arena is None:
        arena = _incoming[fd] = _Incoming(fd)
    return arena


def _owner(lock: SemLock) -> str:
    if lock._is_mine():
        name = process.current_process().name
        thread = threading.current_thread().name
        return name if thread == 'MainThread' else f'{name}|{thread}'
    if not lock._is_zero():
        return 'None'
    return 'SomeOtherThread' if lock._count() > 0 else 'SomeOtherProcess'


def _or_unknown(value: Callable[[], object]) -> object:
    try:
        return value()
    except Exception:
        return 'unknown'


_leaving: int | None = None


def _leave_at_exit() -> None:
    """Sees to it that this process's orderly end is not taken for a death by those who wait at its
    barriers.
    """
    global _leaving
    if _leaving != os.getpid():
        _leaving = os.getpid()
        util.Finalize(None, _engine.Barrier.leave_all, exitpriority=-100)
