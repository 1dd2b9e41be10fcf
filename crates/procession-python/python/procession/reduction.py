"""See `multiprocessing.reduction`: the standard library's own module, shared with it. Where its
resource sharer could not listen, sockets are registered with ours.
"""

from . import _addresses
from ._standard import share, standard

share(__name__)

if _addresses.have_long_variable() and _addresses.are_long():
    import socket

    from . import _socket_reducers

    standard('reduction').register(socket.socket, _socket_reducers.reduce_socket)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sys
    from multiprocessing.reduction import (
        HAVE_SEND_HANDLE as HAVE_SEND_HANDLE,
        AbstractReducer as AbstractReducer,
        DupFd as DupFd,
        ForkingPickler as ForkingPickler,
        dump as dump,
        recv_handle as recv_handle,
        recvfds as recvfds,
        register as register,
        send_handle as send_handle,
        sendfds as sendfds,
    )

    if sys.version_info < (3, 14):
        from multiprocessing.reduction import ACKNOWLEDGE as ACKNOWLEDGE

    __all__ = [
        'DupFd',
        'ForkingPickler',
        'dump',
        'recv_handle',
        'recvfds',
        'register',
        'send_handle',
        'sendfds',
    ]
