"""Frames between a Rust program and its bridge program, and between an actor and its agent, which
is that program's executable. Used in the bridge program and in actors.

The Rust half, which says what each kind is, is `bridge/frame.rs` in the crate `procession`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

__all__ = [
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
    'fields',
    'receive_frame',
    'send_frame',
]

#: Raised with every change of the frames.
VERSION = 1

PROGRAM, CAPACITY, HIRE, START, RELEASE, MESSAGE, READY, FAILED, DONE, REFUSED, NOT_STARTED, LOST = range(1, 13)

_HEAD = struct.Struct('<BIQ')
_LENGTH = struct.Struct('<I')
# A longer body is refused: no message is so long.
_MAX_BODY = 1 << 33
# A shorter body is sent with its head; and the bytes that are received at a time.
_SMALL, _PART = 64 * 1024, 1 << 20


def send_frame(sock: socket.socket, kind: int, subject: int, body: bytes = b'') -> None:
    """Sends a frame. Waits while the other end takes none."""
    head = _HEAD.pack(kind, subject, len(body))
    if len(body) <= _SMALL:
        sock.sendall(head + body)
    else:
        sock.sendall(head)
        sock.sendall(body)


def receive_frame(sock: socket.socket) -> tuple[int, int, bytes] | None:
    """Returns the kind, the subject and the body of the next frame; `None` if the other end is
    closed.

    :raises ValueError: it is too long.
    """
    try:
        head = _received(sock, _HEAD.size)
        if head is None:
            return None
        kind, subject, length = _HEAD.unpack(head)
        if length > _MAX_BODY:
            raise ValueError(f'a frame of {length} bytes')
        body = _received(sock, length)
    except ConnectionError:
        return None
    return None if body is None else (kind, subject, bytes(body))


def _received(sock: socket.socket, length: int) -> bytearray | None:
    # Memory is taken as the bytes come.
    data = bytearray()
    while len(data) < length:
        part = sock.recv(min(length - len(data), _PART))
        if not part:
            return None
        data += part
    return data


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
