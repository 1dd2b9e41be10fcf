"""Encrypted connections to a manager: TLS by the standard library's `ssl`, below the protocol of
managers and its authentication. Used in the driver, in the manager's process, and in each process
that gets a proxy.

The server proves that it has the key of the program's certificate. Clients know that certificate,
as each proxy brings it, and trust no other and no authority. They prove by the manager's key
(`authkey`) that they may connect, as without TLS.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any, NoReturn

from .. import connection as _connection
from .._attendance import PREFIX
from .._errors import AuthenticationError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
else:
    Connection = _connection.Connection

__all__ = ['Identity', 'TlsConnection', 'TlsListener', 'serve_with']

# Seconds in which a peer must have proved who it is.
_ADMISSION_TIMEOUT = 10.0
# The most bytes of one read.
_READ_LEN = 1 << 16
# The server's side, in a manager's process, by the serializer's name.
_served: dict[str, ssl.SSLContext] = {}


class Identity:
    """The certificate of a program and the key for it, in two PEM files or in one.

    :raises ValueError: they do not belong together, are none, or the key needs a password.
    :raises OSError: a file cannot be read.
    """

    def __init__(self, certificate: str | os.PathLike[str], key: str | os.PathLike[str] | None) -> None:
        self.files = os.path.abspath(certificate), os.path.abspath(certificate if key is None else key)
        _context_of(*self.files)
        with open(self.files[0]) as file:
            self.serializer = serializer_of(_certificates_in(file.read()))


class _Serializer(str):
    """The name by which managers find how to connect. It brings the certificate to processes that
    get a proxy.
    """

    pem: str

    def __reduce__(self) -> tuple[Any, ...]:
        return serializer_of, (self.pem,)


def serializer_of(pem: str) -> _Serializer:
    """Returns the name of the connections to a server that has this certificate, and makes it
    known to the managers of this process.
    """
    from ..managers import listener_client  # type: ignore[attr-defined]

    name = _Serializer(f'{PREFIX}tls-{hashlib.sha256(pem.encode()).hexdigest()}')
    name.pem = pem
    if name not in listener_client:
        listener_client[name] = functools.partial(TlsListener, name), _connecting(pem)
    return name


def serve_with(serializer: str, certificate: str, key: str) -> None:
    """In a manager's process: has listeners of this name use a certificate and its key."""
    _served[serializer] = _context_of(certificate, key)


class TlsConnection(Connection):
    """A connection over TLS. Its peer must prove who it is within 10 s."""

    def __init__(self, secured: ssl.SSLSocket) -> None:
        # Small messages follow one another, each of which is waited for.
        secured.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secured.settimeout(_ADMISSION_TIMEOUT)
        super().__init__(secured.fileno())
        self._secured = secured

    def admit(self) -> None:
        """The peer has proved who it is: from now on it may take its time."""
        self._secured.settimeout(None)

    def __reduce__(self) -> NoReturn:
        raise TypeError('a connection over TLS belongs to one process: send the proxy')

    def _close(self) -> None:
        self._secured.close()

    def _send(self, buf: Any, *_: Any) -> None:
        self._secured.sendall(buf)

    def _recv(self, size: int, *_: Any) -> io.BytesIO:
        received = io.BytesIO()
        while (missing := size - received.tell()) > 0:
            part = self._secured.recv(min(missing, _READ_LEN))
            if not part:
                if received.tell() == 0:
                    raise EOFError
                raise OSError('got end of file during message')
            received.write(part)
        return received


class TlsListener(_connection.Listener):
    """Accepts connections over TLS. The handshake is at the first read, in the thread that serves
    the connection, so that no peer delays another.
    """

    def __init__(self, serializer: str, **terms: Any) -> None:
        self._serializer = serializer
        super().__init__(**terms)

    def accept(self) -> Any:
        """Returns the next connection."""
        with super().accept() as plain:
            peer = socket.socket(fileno=os.dup(plain.fileno()))
        return TlsConnection(_served[self._serializer].wrap_socket(peer, server_side=True, do_handshake_on_connect=False))


def _connecting(pem: str) -> Any:
    terms = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The certificate says who the server is, and no name: addresses of machines are in none.
    terms.check_hostname = False
    terms.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    terms.load_verify_locations(cadata=pem)

    def connect(address: tuple[str, int], authkey: bytes) -> TlsConnection:
        plain = socket.create_connection(address, _ADMISSION_TIMEOUT)
        try:
            secured = terms.wrap_socket(plain)
        except ssl.SSLError as error:
            plain.close()
            text = f"who listens at {address[0]}:{address[1]} is not the program's manager, or uses another certificate: {error}"
            raise AuthenticationError(text) from error
        except BaseException:
            plain.close()
            raise
        connection = TlsConnection(secured)
        try:
            _connection.answer_challenge(connection, authkey)
            _connection.deliver_challenge(connection, authkey)
        except BaseException:
            connection.close()
            raise
        connection.admit()
        return connection

    return connect


def _context_of(certificate: str, key: str) -> ssl.SSLContext:
    terms = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def refuse() -> NoReturn:
        raise ValueError(f'the key in {key} needs a password, for which nobody can be asked: give a file without one')

    try:
        terms.load_cert_chain(certificate, key, refuse)
    except ssl.SSLError as error:
        raise ValueError(f'{certificate} and {key} are no certificate and the key of it, in PEM: {error}') from error
    except OSError as error:
        raise type(error)(error.errno, f'cannot read {certificate} or {key}: {error.strerror}') from error
    return terms


def _certificates_in(text: str) -> str:
    """Returns the first certificate of a PEM file, the program's own, and never the key that may
    stand there, too.
    """
    begin, end = '-----BEGIN CERTIFICATE-----', '-----END CERTIFICATE-----'
    _, found, rest = text.partition(begin)
    body, closed, _ = rest.partition(end)
    assert found and closed, 'what ssl has read as a certificate has none'
    return f'{begin}{body}{end}\n'
