# The standard library's own module, shared with it.
from multiprocessing.reduction import *
from multiprocessing.reduction import (
    ACKNOWLEDGE as ACKNOWLEDGE,
    HAVE_SEND_HANDLE as HAVE_SEND_HANDLE,
    AbstractReducer as AbstractReducer,
    DupFd as DupFd,
    ForkingPickler as ForkingPickler,
    recv_handle as recv_handle,
    recvfds as recvfds,
    register as register,
    send_handle as send_handle,
    sendfds as sendfds,
)

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
