# The standard library's source, on our contexts.
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

__all__ = [
    'BaseManager',
    'BaseProxy',
    'SharedMemoryManager',
    'SyncManager',
    'Token',
]
