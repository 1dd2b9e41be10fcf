# The standard library's source, on our contexts.
from multiprocessing import managers as _standard
from multiprocessing.managers import *
from multiprocessing.managers import (
    BaseListProxy as BaseListProxy,
    DictProxy as DictProxy,
    ListProxy as ListProxy,
    Namespace as Namespace,
    RemoteError as RemoteError,
    Server as Server,
    SharedMemoryServer as SharedMemoryServer,
    ValueProxy as ValueProxy,
)

__all__: list[str] = []
__all__ += _standard.__all__
