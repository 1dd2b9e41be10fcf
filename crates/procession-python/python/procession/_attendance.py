"""Tells a manager that is reached by TCP of a client's process that was killed. On one machine the
kernel says which process is at the other end of a connection; between two it does not.

So each process that uses such a manager *attends* it: it holds one more connection for as long as
it lives, and says farewell before it ends by itself. If that connection ends without a farewell,
the process was killed, or its machine is gone. Used in clients, by any thread, and in the manager,
by the threads that serve connections.
"""

from __future__ import annotations

import os
import socket
import threading

from . import util

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ['PREFIX', 'SEPARATOR', 'Attended', 'attend', 'attended', 'serve_attendance']

#: Of the names of connections whose clients attend their manager.
PREFIX = 'procession-'
#: In the name by which a client introduces a connection: what stands behind is its identity.
SEPARATOR = '\0'
_FAREWELL = 'farewell'
# Late: the finalizers of the program may still use its proxies.
_EXIT_PRIORITY = -50
# Seconds without a packet after which a client's machine is asked, and between two questions, and
# how many go without an answer.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))


class _Attending(dict['Any', 'Any']):
    """The connections by which this process attends managers, by their addresses."""


_lock = threading.Lock()
# A client's.
_attending = _Attending()
_identity: str | None = None
# A manager's: the processes that attend it now, by their identities.
_attended: dict[str, Attended] = {}


class Attended:
    """A process that attends this manager, as the threads see it that serve its connections."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._has_left = threading.Event()
        self._was_killed = False

    def wait(self) -> int | None:
        """Waits for its end; returns 0 if it has ended by itself, and `None` if nobody knows."""
        self._has_left.wait()
        return None if self._was_killed else 0

    def leave(self, was_killed: bool) -> None:
        """Notes that it has ended."""
        self._was_killed = was_killed
        self._has_left.set()


def attend(connect: Callable[[], Any], introduce: Callable[[Any, str], None], address: Any) -> str:
    """In a client: attends the manager at `address` until this process ends, unless it does so
    already; returns the identity of this process. `connect` makes a connection, and `introduce`
    says by it who attends.
    """
    global _identity
    with _lock:
        if _identity is None:
            _identity = f'{os.getpid()}-{os.urandom(12).hex()}'
            util.register_after_fork(_attending, _begin_anew)
        if address not in _attending:
            connection = connect()
            try:
                introduce(connection, _identity)
            except BaseException:
                connection.close()
                raise
            _attending[address] = connection
            util.Finalize(None, _say_farewell, (address, os.getpid()), exitpriority=_EXIT_PRIORITY)
        return _identity


def _say_farewell(address: Any, pid: int) -> None:
    connection = _attending.pop(address, None)
    if connection is None or pid != os.getpid():
        return
    try:
        connection.send(_FAREWELL)
        connection.close()
    except OSError:
        # The manager has ended before.
        return


def _begin_anew(attending: _Attending) -> None:
    """In a forked child: it attends nothing, and must not keep what its parent attends."""
    global _lock, _identity
    _lock, _identity = threading.Lock(), None
    for connection in attending.values():
        os.close(connection.fileno())
        # The object must not say a word more on what is the parent's.
        connection._handle = None
    attending.clear()


def serve_attendance(connection: Any, identity: str) -> None:
    """In a manager, by a thread of its own: waits until the client has ended."""
    attended = _attended[identity] = Attended(int(identity.partition('-')[0]))
    _watch_machine(connection)
    connection.send(('#RETURN', None))
    was_killed = True
    try:
        was_killed = connection.recv() != _FAREWELL
    except (EOFError, OSError):
        # It has said nothing more.
        pass
    finally:
        del _attended[identity]
        attended.leave(was_killed)


def attended(identity: str) -> Attended | None:
    """In a manager: returns the client of this identity, if it attends."""
    return _attended.get(identity)


def _watch_machine(connection: Any) -> None:
    """Has the connection end if the client's machine answers no more."""
    with socket.socket(fileno=os.dup(connection.fileno())) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            peer.setsockopt(socket.IPPROTO_TCP, option, value)
