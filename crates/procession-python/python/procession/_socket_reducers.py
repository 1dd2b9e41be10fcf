"""The reducers of connections and sockets where addresses must be short. Our own resource sharer,
which listens at such addresses, hands them out. Used by whoever pickles or unpickles one.
"""

from ._standard import standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def reduce_connection(conn: 'Any') -> 'Any':
    """Returns what a connection pickles as."""
    return standard('connection').rebuild_connection, (_dup(conn.fileno()), conn.readable, conn.writable)


def reduce_socket(sock: 'Any') -> 'Any':
    """Returns what a socket pickles as."""
    return _rebuild_socket, (_dup(sock.fileno()), sock.family, sock.type, sock.proto)


def _rebuild_socket(dup: 'Any', family: int, kind: int, proto: int) -> 'Any':
    import socket

    return socket.socket(family, kind, proto, fileno=dup.detach())


def _dup(fd: int) -> 'Any':
    if standard('context').get_spawning_popen() is not None:
        return standard('reduction').DupFd(fd)
    from .resource_sharer import DupFd

    return DupFd(fd)
