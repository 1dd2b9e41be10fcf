"""See `multiprocessing.managers`, whose source serves here on procession's contexts.

How it differs: what a client has acquired of a manager's locks is released when its process has
ended, and the next is told by :class:`procession.synchronize.OwnerDiedError`; and a proxy that came
to a child makes further proxies there, as iterators are.
"""

from __future__ import annotations

import functools
import threading

from procession import _addresses, _attendance, _manager_locks
from procession._standard import adopt

adopt(__name__)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.managers import (
        BaseListProxy as BaseListProxy,
        BaseManager as BaseManager,
        BaseProxy as BaseProxy,
        DictProxy as DictProxy,
        ListProxy as ListProxy,
        Namespace as Namespace,
        RemoteError as RemoteError,
        Server as Server,
        SharedMemoryManager as SharedMemoryManager,
        SharedMemoryServer as SharedMemoryServer,
        SyncManager as SyncManager,
        Token as Token,
        ValueProxy as ValueProxy,
    )
    from typing import Any

    __all__ = ['BaseManager', 'BaseProxy', 'SharedMemoryManager', 'SyncManager', 'Token']

# Of the source's own classes parts are used and replaced here that no types are declared for. Its
# other servers are subclasses of this one.
_server: Any = Server
_init, _serve_client = _server.__init__, _server.serve_client


def _begin(self: Server, registry: Any, address: Any, authkey: bytes, serializer: str) -> None:
    _init(self, registry, _addresses.short(address), authkey, serializer)


def _serve(self: Server, conn: Connection) -> None:
    _manager_locks.serving(conn, functools.partial(_serve_client, self))


_server.__init__, _server.serve_client = _begin, _serve

_manager: Any = SyncManager
for _name in ('Lock', 'RLock', 'Semaphore', 'BoundedSemaphore', 'Condition'):
    _proxy = _manager._registry[_name][3]
    _manager.register(_name, getattr(_manager_locks, _name), _proxy)


class _Elsewhere:
    """Stands for the manager in a process that has a proxy and not the manager: a proxy finds by it
    the types of further ones.
    """

    _registry = _manager._registry
    _state = None


_base_proxy: Any = BaseProxy
_rebuild_proxy, _after_fork = globals()['RebuildProxy'], _base_proxy._after_fork


def RebuildProxy(func: Any, token: Any, serializer: str, kwds: dict[str, Any]) -> Any:
    """Unpickles a proxy."""
    proxy = _rebuild_proxy(func, token, serializer, kwds)
    if getattr(proxy, '_manager', proxy) is None:
        proxy._manager = _Elsewhere
    return proxy


def _find_types_after_fork(self: Any) -> None:
    _after_fork(self)
    self._manager = _Elsewhere


def _connect(self: Any) -> None:
    """Connects a thread of a client. Of a manager that may be on another machine, it says who it
    is.
    """
    if not self._serializer.startswith(_attendance.PREFIX):
        _connect_here(self)
        return
    address = self._token.address

    def connect() -> Any:
        return self._Client(address, authkey=self._authkey)

    identity = _attendance.attend(connect, functools.partial(_call, 'attend'), address)
    conn = connect()
    _call('accept_connection', conn, f'{threading.current_thread().name}{_attendance.SEPARATOR}{identity}')
    self._tls.connection = conn


def _call(method: str, conn: Any, argument: str) -> None:
    globals()['dispatch'](conn, None, method, (argument,))


_connect_here = _base_proxy._connect
_base_proxy._after_fork, _base_proxy._connect = _find_types_after_fork, _connect
# The connections to managers that may be on another machine. Each process that gets a proxy finds
# them here.
_clients: Any = globals()['listener_client']
_clients[_attendance.PREFIX + 'tcp'] = _clients['pickle']
