"""Messages between a proxy here and its carrier, and between an agent and its child. Used in all
four.

They go over a connected socket, and may come several at a time. A long body goes through a memfd
that both have, whose pages stay warm: a socket would wake its reader for each part. So of messages
with such a body only one is on its way.

The engine's half of the same form is `pool/carrier.rs` in the crate of this package.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence

from .._engine import create_memfd

__all__ = [
    'ANSWER',
    'BEGIN',
    'BEGUN',
    'ENDED',
    'FAILED',
    'LEAVE',
    'SIGNAL',
    'TASK',
    'VALUE',
    'WANTED',
    'Channel',
]

# From a proxy: have a child begin; run a task; have the child leave in order; send it a signal.
BEGIN, TASK, LEAVE, SIGNAL = b'BTLS'
# To a proxy: the child has begun; it could not; the outcome of a task; the child has ended.
BEGUN, FAILED, ANSWER, ENDED = b'RFAE'
# From a child to its agent: it wants a value that the program has put; and the value.
WANTED, VALUE = b'WV'

_HEAD = struct.Struct('<BQ')
# A shorter body is sent and received with its head.
_SMALL = 64 * 1024
# A longer one goes through the memfd, which the flag beside the kind says. Of a memfd that has
# grown beyond the second the memory is given back.
_MIN_BULK, _MAX_KEPT = 1 << 20, 1 << 28
_IN_BULK = 0x80


class Channel:
    """One end of the way between two processes."""

    def __init__(self, sock: socket.socket, bulk: int) -> None:
        self._socket, self._bulk = sock, bulk
        # The bytes behind the last message that was received.
        self._rest = b''

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Returns two ends, and has both in this process until one is passed on."""
        ours, theirs = socket.socketpair()
        bulk = create_memfd('procession-carrier')
        return cls(ours, bulk), cls(theirs, os.dup(bulk))

    @classmethod
    def of_fds(cls, fd: int, bulk: int) -> Channel:
        """Returns the end that has come as two file descriptors."""
        return cls(socket.socket(fileno=fd), bulk)

    def fds(self) -> tuple[int, int]:
        """Returns the file descriptors of this end."""
        return self._socket.fileno(), self._bulk

    def fileno(self) -> int:
        """Returns the file descriptor of the socket; -1 once it is closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes this end."""
        if self._socket.fileno() != -1:
            self._socket.close()
            os.close(self._bulk)

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def send(self, kind: int, body: bytes = b'', fds: Sequence[int] = ()) -> None:
        """Sends one message, and copies of file descriptors beside a short one."""
        if len(body) >= _MIN_BULK:
            done, view = 0, memoryview(body)
            while done < len(body):
                done += os.pwrite(self._bulk, view[done : done + (1 << 30)], done)
            self._socket.sendall(_HEAD.pack(kind | _IN_BULK, len(body)))
            return
        head = _HEAD.pack(kind, len(body))
        if fds:
            socket.send_fds(self._socket, [head + body], fds)
        elif len(body) <= _SMALL:
            self._socket.sendall(head + body)
        else:
            self._socket.sendall(head)
            self._socket.sendall(body)

    def receive(self) -> tuple[int, bytes] | None:
        """Returns the kind and the body of the next message; `None` if the other end is closed."""
        try:
            return self._received(self._rest or self._socket.recv(_HEAD.size + _SMALL))
        except ConnectionError:
            return None

    def has_received(self) -> bool:
        """Returns whether a message, or a part of one, has come with the last."""
        return bool(self._rest)

    def receive_with_fds(self) -> tuple[int, bytes, list[int]] | None:
        """Returns the kind, the body and the file descriptors of the next message; `None` if the
        other end is closed.
        """
        # The answer to a question comes alone.
        assert not self._rest
        data, fds, _, _ = socket.recv_fds(self._socket, _HEAD.size + _SMALL, 2)
        message = self._received(data)
        return None if message is None else (*message, fds)

    def _received(self, data: bytes) -> tuple[int, bytes] | None:
        self._rest = b''
        while len(data) < _HEAD.size:
            if not data or not (more := self._socket.recv(_HEAD.size + _SMALL - len(data))):
                return None
            data += more
        kind, length = _HEAD.unpack_from(data)
        if kind & _IN_BULK:
            self._rest = data[_HEAD.size :]
            return kind & ~_IN_BULK, self._read_bulk(length)
        body, self._rest = data[_HEAD.size : _HEAD.size + length], data[_HEAD.size + length :]
        missing = length - len(body)
        if missing <= 0:
            return kind, body
        parts = [body]
        while missing > 0:
            part = self._socket.recv(missing, socket.MSG_WAITALL)
            if not part:
                return None
            parts.append(part)
            missing -= len(part)
        return kind, b''.join(parts)

    def _read_bulk(self, length: int) -> bytes:
        body = os.pread(self._bulk, length, 0)
        if len(body) < length:
            parts = [body]
            while sum(map(len, parts)) < length:
                part = os.pread(self._bulk, length, sum(map(len, parts)))
                if not part:
                    raise ConnectionError('a message is cut off')
                parts.append(part)
            body = b''.join(parts)
        if length > _MAX_KEPT:
            os.ftruncate(self._bulk, 0)
        return body
