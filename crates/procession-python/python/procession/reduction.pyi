# The standard library's own module, shared with it.
from multiprocessing import reduction as _standard
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

__all__: list[str] = []
__all__ += _standard.__all__
