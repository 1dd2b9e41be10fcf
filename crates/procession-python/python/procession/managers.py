"""See `multiprocessing.managers`, whose source serves here on procession's contexts.

How it differs: what a client has acquired of a manager's locks is released when its process has
ended, and the next is told by :class:`procession.synchronize.OwnerDiedError`; and a proxy that came
to a child makes further proxies there, as iterators are.
"""

import functools

from procession import _addresses, _manager_locks
from procession._standard import adopt

adopt(__name__)


# The source's own class, which its other servers are subclasses of.
_init, _serve_client = Server.__init__, Server.serve_client  # noqa: F821 (adopted)


def _begin(self, registry, address, authkey, serializer):
    _init(self, registry, _addresses.short(address), authkey, serializer)


def _serve(self, conn):
    _manager_locks.serving(conn, functools.partial(_serve_client, self))


Server.__init__, Server.serve_client = _begin, _serve  # noqa: F821 (adopted)

for _name in ('Lock', 'RLock', 'Semaphore', 'BoundedSemaphore', 'Condition'):
    _proxy = SyncManager._registry[_name][3]  # noqa: F821 (adopted)
    SyncManager.register(_name, getattr(_manager_locks, _name), _proxy)  # noqa: F821 (adopted)


class _Elsewhere:
    """Stands for the manager in a process that has a proxy and not the manager: a proxy finds by it
    the types of further ones.
    """

    _registry = SyncManager._registry  # noqa: F821 (adopted)
    _state = None


_rebuild_proxy, _after_fork = RebuildProxy, BaseProxy._after_fork  # noqa: F821 (adopted)


def RebuildProxy(func, token, serializer, kwds):
    """Unpickles a proxy."""
    proxy = _rebuild_proxy(func, token, serializer, kwds)
    if getattr(proxy, '_manager', proxy) is None:
        proxy._manager = _Elsewhere
    return proxy


def _find_types_after_fork(self):
    _after_fork(self)
    self._manager = _Elsewhere


BaseProxy._after_fork = _find_types_after_fork  # noqa: F821 (adopted)
