"""Connections and their listeners: the standard library's own module under our name, except for who
lets peers in.

A :class:`Listener` with a key authenticates several peers at a time, in threads of the engine's and
by a deadline, so a peer that says nothing delays no other. `Connection`, `Client`, `Pipe` and
`wait` are the standard library's. Used in any process, from any thread.
"""

from __future__ import annotations

import os
import socket
import struct

from . import _addresses, _engine
from ._standard import standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing import connection as _standard
    from multiprocessing.connection import Client as Client, Connection as Connection, Pipe as Pipe, wait as wait
    from typing import Any

    __all__ = ['Client', 'Listener', 'Pipe', 'wait']
else:
    _standard = standard('connection')
    __all__ = _standard.__all__
    Connection = _standard.Connection

if _addresses.have_long_variable() and _addresses.are_long():
    from . import _socket_reducers

    standard('reduction').register(Connection, _socket_reducers.reduce_connection)


class Listener(_standard.Listener):
    """Waits for connections at `address`, by default at one of its own, and with an `authkey` makes
    sure that each peer knows it.

    What the standard library's has not: :meth:`fileno`; and `close` ends what other threads wait
    for in `accept`.
    """

    _admission: _engine.Listener | None = None
    # True if it listens at an address that any user can connect to, in place of one in a folder of
    # this user's.
    _is_private = False
    _listener: Any
    _authkey: bytes | None

    def __init__(
        self,
        address: str | bytes | tuple[str, int] | None = None,
        family: str | None = None,
        backlog: int = 1,
        authkey: bytes | None = None,
    ) -> None:
        if not address and family in (None, 'AF_UNIX'):
            address = _addresses.short()
            self._is_private = address is not None
        super().__init__(address, family, backlog, authkey)
        if authkey is not None:
            try:
                self._admission = _engine.Listener(self._listener._socket.fileno(), authkey)
            except BaseException:
                super().close()
                raise

    def accept(self) -> Connection[Any, Any]:
        """Returns the next connection: the first whose authentication is over.

        :raises AuthenticationError: a peer has another key or none, or has not proved it within
            10 s. Call it again for the next.
        :raises OSError: the listener is closed.
        """
        connection = super().accept() if self._authkey is None else self._admitted()
        if self._is_private and (user := _peer_user(connection)) != os.geteuid():
            connection.close()
            from ._errors import AuthenticationError

            raise AuthenticationError(f'a process of user {user} connected to a listener of user {os.geteuid()}')
        return connection

    def _admitted(self) -> Connection[Any, Any]:
        listener, admission = self._listener, self._admission
        if listener is None or admission is None:
            raise OSError('listener is closed')
        fd = admission.accept()
        try:
            listener._last_accepted = _peer_name(fd)
        except BaseException:
            os.close(fd)
            raise
        return Connection(fd)

    def close(self) -> None:
        """Closes the listener. Peers that are being authenticated are turned away."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.close()
        super().close()

    def fileno(self) -> int:
        """Returns a file descriptor that is readable when :meth:`accept` has something to do, as
        for :func:`wait`.
        """
        if self._listener is None:
            raise OSError('listener is closed')
        return self._listener._socket.fileno() if self._admission is None else self._admission.fileno()


def deliver_challenge(connection: Connection[Any, Any], authkey: bytes, *terms: Any, **named: Any) -> None:
    """Makes sure that the peer of `connection` knows `authkey`: within 10 s."""
    if type(connection) is not Connection or terms or named:
        _standard.deliver_challenge(connection, authkey, *terms, **named)
        return
    _check_key(authkey)
    _engine.deliver_challenge(connection.fileno(), authkey)


def answer_challenge(connection: Connection[Any, Any], authkey: bytes) -> None:
    """Proves to the peer of `connection` that this end knows `authkey`: within 10 s."""
    if type(connection) is not Connection:
        _standard.answer_challenge(connection, authkey)
        return
    _check_key(authkey)
    _engine.answer_challenge(connection.fileno(), authkey)


def _check_key(authkey: object) -> None:
    if not isinstance(authkey, bytes):
        raise ValueError(f'Authkey must be bytes, not {type(authkey)!s}')


def _peer_name(fd: int) -> Any:
    with socket.socket(fileno=os.dup(fd)) as peer:
        try:
            return peer.getpeername()
        except OSError:
            # It has gone again.
            return None


def _peer_user(connection: Connection[Any, Any]) -> int:
    with socket.socket(fileno=os.dup(connection.fileno())) as peer:
        _pid, user, _group = struct.unpack('3i', peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize('3i')))
        return int(user)


def __getattr__(name: str) -> Any:
    return getattr(_standard, name)
