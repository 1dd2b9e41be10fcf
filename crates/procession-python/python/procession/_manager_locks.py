"""The locks of a manager. They live in the manager's process, where one thread serves each thread
of a client; used there, by those threads.

What a client has is noted with the thread that serves it. When the client's process has been
killed, that thread releases it, and the next to acquire is told by
:class:`procession.synchronize.OwnerDiedError`. A process that ends by itself keeps what it has, as
in the standard library: others may release it.
"""

from __future__ import annotations

import threading

from . import _attendance
from ._engine import Child, HeldStreams
from ._errors import OwnerDiedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from typing import Any

__all__ = ['Lock', 'RLock', 'Semaphore', 'BoundedSemaphore', 'Condition', 'note_client', 'serving']

# Of each thread that serves a client: what the client has, an object for each time that it
# acquired.
_serving = threading.local()


class _Held(list['_Owned']):
    """The primitives that one client has. Equal to no other: two clients may have the same."""

    __eq__ = object.__eq__
    __ne__ = object.__ne__
    # A list has none.
    __hash__ = object.__hash__  # type: ignore[assignment]


class _Owned:
    """An object to acquire and release, in place of the primitive of `threading` that it holds."""

    def __init__(self, primitive: Any) -> None:
        self._primitive = primitive
        # The lists of who has it, one entry for each time.
        self._held_in: list[_Held] = []
        # The pid of the client that ended with it; `None` once somebody was told.
        self._ended_with: int | None = None

    def acquire(self, *args: Any, **kwds: Any) -> bool:
        """As the primitive's; raises `OwnerDiedError` once after a client has ended with it, and
        then has not acquired.
        """
        acquired: bool = self._primitive.acquire(*args, **kwds)
        if not acquired:
            return acquired
        if self._ended_with is not None:
            pid, self._ended_with = self._ended_with, None
            self._primitive.release()
            raise OwnerDiedError(f"process {pid} ended while it had this manager's {type(self).__name__}", pid)
        self._note()
        return acquired

    def release(self, *args: int) -> None:
        """As the primitive's."""
        self._primitive.release(*args)
        for _ in range(*(args or (1,))):
            self._forget()

    def locked(self) -> bool:
        """As the primitive's, where that has one: a reentrant lock from Python 3.14 on."""
        return bool(self._primitive.locked())

    def _note(self) -> None:
        held = getattr(_serving, 'held', None)
        if held is not None:
            held.append(self)
            self._held_in.append(held)

    def _forget(self) -> None:
        # Its own first: others may release what one has acquired.
        own = getattr(_serving, 'held', None)
        held = own if own in self._held_in else self._held_in[0] if self._held_in else None
        if held is not None:
            self._held_in.remove(held)
            held.remove(self)

    def _end(self, pid: int) -> None:
        self._ended_with = pid
        self.release()


class Lock(_Owned):
    """A lock of a manager."""

    def __init__(self) -> None:
        super().__init__(threading.Lock())


class RLock(_Owned):
    """A lock of a manager that its owner may acquire again."""

    def __init__(self) -> None:
        super().__init__(threading.RLock())


class Semaphore(_Owned):
    """A semaphore of a manager."""

    def __init__(self, value: int = 1) -> None:
        super().__init__(threading.Semaphore(value))


class BoundedSemaphore(_Owned):
    """A semaphore of a manager that never has more than its first permits."""

    def __init__(self, value: int = 1) -> None:
        super().__init__(threading.BoundedSemaphore(value))


class Condition(_Owned):
    """A condition of a manager, with the lock that it is given or one of its own."""

    def __init__(self, lock: Any = None) -> None:
        super().__init__(threading.Condition(lock))

    def wait(self, timeout: float | None = None) -> bool:
        """As the primitive's. Raises `OwnerDiedError`, with the lock acquired, if a client ended
        with it meanwhile.
        """
        # Another may have the lock meanwhile.
        own = getattr(_serving, 'held', None)
        count = 0
        while own is not None and own in self._held_in:
            self._forget()
            count += 1
        try:
            notified: bool = self._primitive.wait(timeout)
        finally:
            for _ in range(count):
                self._note()
        if self._ended_with is not None:
            pid, self._ended_with = self._ended_with, None
            raise OwnerDiedError(f"process {pid} ended while it had this manager's Condition", pid)
        return notified

    def notify(self, n: int = 1) -> None:
        """As the primitive's."""
        self._primitive.notify(n)

    def notify_all(self) -> None:
        """As the primitive's."""
        self._primitive.notify_all()


def serving(conn: Connection[Any, Any], serve: Callable[[Any], object]) -> None:
    """Calls `serve(conn)`, which serves a client until its end, and then releases what the client's
    process was killed with.
    """
    held = _serving.held = _Held()
    client = _client(conn) or _attendance.attended(getattr(_serving, 'identity', ''))
    try:
        serve(conn)
    finally:
        # A thread of the client may have ended, and left what it has to other threads. So its
        # process is waited for.
        if held and client is not None and _was_killed(client.wait()):
            for owned in list(held):
                owned._end(client.pid)
        del _serving.held


def note_client(identity: str) -> None:
    """Notes, in the thread that is about to serve it, who the client is that attends this manager;
    nothing, if it does not.
    """
    _serving.identity = identity


def _client(conn: Connection[Any, Any]) -> Child | None:
    """The process at the other end, or `None`: it is reached by TCP, or has ended already."""
    import os
    import socket
    import struct

    with HeldStreams():
        fd = os.dup(conn.fileno())
    with socket.socket(fileno=fd) as other:
        if other.family != socket.AF_UNIX:
            return None
        pid, _, _ = struct.unpack('3i', other.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize('3i')))
    try:
        return Child.of_others(pid, 'client', False)
    except OSError:
        return None


def _was_killed(code: int | None) -> bool:
    # 255 is that of a process whose end nobody can know.
    return code is None or code < 0 or code == 255
