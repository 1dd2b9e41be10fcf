"""Frames between a Rust program and its bridge program, and between an actor and its agent, which
is that program's executable. Used in the bridge program and in actors.

The Rust half, which says what each kind is, is `bridge/frame.rs` in the crate `procession`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

__all__ = [
    'ASK',
    'CAPACITY',
    'DONE',
    'FAILED',
    'HIRE',
    'LOST',
    'MESSAGE',
    'NOT_STARTED',
    'PROGRAM',
    'READY',
    'REFUSED',
    'RELEASE',
    'START',
    'VERSION',
    'FrameReader',
    'fields',
    'send_frame',
]

#: Raised with every change of the frames.
VERSION = 2

PROGRAM, CAPACITY, HIRE, START, RELEASE, MESSAGE, READY, FAILED, DONE, REFUSED, NOT_STARTED, LOST, ASK = range(1, 14)

_HEAD = struct.Struct('<BIQ')
_LENGTH = struct.Struct('<I')
# A longer body is refused: no message is so long.
_MAX_BODY = 1 << 33
# A shorter body is sent and received with its head; and the bytes of a longer one that are received
# at a time.
_SMALL, _PART = 64 * 1024, 1 << 20


def send_frame(sock: socket.socket, kind: int, subject: int, body: bytes = b'') -> None:
    """Sends a frame. Waits while the other end takes none."""
    head = _HEAD.pack(kind, subject, len(body))
    if len(body) <= _SMALL:
        sock.sendall(head + body)
    else:
        sock.sendall(head)
        sock.sendall(body)


class FrameReader:
    """Receives the frames that come over a socket. One thread at a time uses it."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        # The bytes behind the last frame.
        self._rest = b''

    def has_received(self) -> bool:
        """Returns whether a frame, or a part of one, has come with the last."""
        return bool(self._rest)

    def receive(self) -> tuple[int, int, bytes] | None:
        """Returns the kind, the subject and the body of the next frame; `None` if the other end is
        closed.

        :raises ValueError: it is too long.
        """
        data, self._rest = self._rest, b''
        try:
            while len(data) < _HEAD.size:
                if not (more := self._socket.recv(_HEAD.size + _SMALL)):
                    return None
                data += more
            kind, subject, length = _HEAD.unpack_from(data)
            if length > _MAX_BODY:
                raise ValueError(f'a frame of {length} bytes')
            end = _HEAD.size + length
            body, self._rest = data[_HEAD.size : end], data[end:]
            missing = length - len(body)
            if missing > 0:
                # Memory is taken as the bytes come.
                parts = [body]
                while missing > 0:
                    if not (part := self._socket.recv(min(missing, _PART))):
                        return None
                    parts.append(part)
                    missing -= len(part)
                body = b''.join(parts)
        except ConnectionError:
            return None
        return kind, subject, body


def fields(body: bytes) -> Iterator[bytes]:
    """Returns the fields of a body, each of which has its length before it.

    :raises ValueError: the body is cut short.
    """
    at = 0
    while at < len(body):
        (length,) = _LENGTH.unpack_from(body, at)
        at += _LENGTH.size
        if length > len(body) - at:
            raise ValueError('the body of a frame is cut short')
        yield body[at : at + length]
        at += length
