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
