"""Contexts of clusters: the whole API of the package, for processes on other machines. Used in the
driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from .._base_context import BaseContext
from .._errors import NotRemote

if TYPE_CHECKING:
    from multiprocessing.managers import SyncManager

    from ._cluster import Keeper
    from ._pool import RemotePool
    from ._put import Put
    from ._tls import Identity

__all__ = ['RemoteContext']


class RemoteContext(BaseContext):
    """The context that :func:`procession.get_context` returns for 'ray', 'dask' and 'mpi'.

    It has what every context has. Queues, locks and the like live in a manager's process beside the
    program, and are reached over TCP, with TLS if the program has given a certificate. Things that
    need memory or file descriptors of one machine raise :class:`NotRemote`, which says what to use
    instead.
    """

    def __init__(self, name: str, cluster: Keeper, identity: Identity | None) -> None:
        from ._process import make_process_class

        self._name, self._cluster, self._identity = name, cluster, identity
        self._manager: SyncManager | None = None
        self.Process = make_process_class(self)

    def get_start_method(self, allow_none: bool = False) -> str:
        """Returns the name of the context."""
        return self._name

    def set_start_method(self, method: str | None, force: bool = False) -> NoReturn:
        """Raises `ValueError`: the machines of a cluster have one way to start processes."""
        raise ValueError('cannot set start method of concrete context')

    def get_context(self, method: str | None = None) -> Any:
        """Returns this context, or that of the start method `method`."""
        if method in (None, self._name):
            return self
        base: Any = super()
        return base.get_context(method)

    def cpu_count(self) -> int:
        """Returns how many workers have room in the cluster."""
        return self._cluster.capacity()

    @property
    def _pool_class(self) -> type[RemotePool]:
        from ._pool import RemotePool

        return RemotePool

    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        **terms: Any,
    ) -> RemotePool:
        """Returns a pool of workers on the machines of the cluster, by default one for each
        processor.

        :raises ValueError: the cluster has fewer processors than `processes`.
        """
        return self._pool_class(processes, initializer, initargs, maxtasksperchild, context=self, **terms)

    def put(self, value: object) -> Put:
        """Brings `value` to the machines of the cluster once; returns a handle, which is cheap to
        send with any number of tasks. A task gets the value in the place of the handle, its arrays
        read-only.

        ::

            table = ctx.put(numpy.ones(10_000_000))
            pool.starmap(look_up, [(table, key) for key in keys])
        """
        from ._put import put
        from ._values import RemoteValues

        return put(self._cluster, RemoteValues(), value)

    def Manager(self) -> SyncManager:
        """Returns a started manager, whose process is beside the program's, and whose objects are
        reached over TCP.
        """
        from ._sync import start_manager

        return start_manager(self._cluster.address(), self._identity)

    def _of_manager(self, name: str, *args: Any) -> Any:
        if self._manager is None:
            self._manager = self.Manager()
        return getattr(self._manager, name)(*args)

    def Lock(self) -> Any:
        """Returns a lock, which any process or thread may release."""
        return self._of_manager('Lock')

    def RLock(self) -> Any:
        """Returns a lock that its owner may acquire again."""
        return self._of_manager('RLock')

    def Condition(self, lock: Any = None) -> Any:
        """Returns a condition on `lock`, or on an `RLock` of its own."""
        return self._of_manager('Condition', *(() if lock is None else (lock,)))

    def Semaphore(self, value: int = 1) -> Any:
        """Returns a semaphore of `value` permits."""
        return self._of_manager('Semaphore', value)

    def BoundedSemaphore(self, value: int = 1) -> Any:
        """Returns a semaphore that never has more than its first `value` permits."""
        return self._of_manager('BoundedSemaphore', value)

    def Event(self) -> Any:
        """Returns an event, which is not set."""
        return self._of_manager('Event')

    def Barrier(self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None) -> Any:
        """Returns a barrier for so many parties; the manager's process calls `action` each time it
        opens.
        """
        return self._of_manager('Barrier', parties, action, timeout)

    def Queue(self, maxsize: int = 0) -> Any:
        """Returns a queue of at most `maxsize` items; 0: as many as memory holds."""
        return self._of_manager('RemoteQueue', maxsize)

    def JoinableQueue(self, maxsize: int = 0) -> Any:
        """Returns a queue with `task_done` and `join`."""
        return self._of_manager('RemoteQueue', maxsize)

    def SimpleQueue(self) -> Any:
        """Returns a queue with little more than `put` and `get`."""
        return self._of_manager('RemoteQueue', 0)

    def Pipe(self, duplex: bool = True) -> NoReturn:
        """Raises `NotRemote`."""
        raise NotRemote(
            'the ends of a Pipe are file descriptors of this machine. Use two Queues of this context, or a '
            "procession.connection.Listener here and a Client there, with this context's authkey"
        )

    def share(self, value: object) -> NoReturn:
        """Raises `NotRemote`."""
        raise NotRemote(
            'share() keeps a value in memory of this machine. Use put() of this context, which brings it to each machine once'
        )

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> NoReturn:
        """Raises `NotRemote`."""
        raise _needs_memory('Value', 'Manager().Value() or Manager().Namespace()')

    def Array(self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> NoReturn:
        """Raises `NotRemote`."""
        raise _needs_memory(
            'Array', 'Manager().list() or Manager().Array(), or pass the array (with put() it goes to each machine once)'
        )

    def RawValue(self, typecode_or_type: Any, *args: Any) -> NoReturn:
        """Raises `NotRemote`."""
        raise _needs_memory('RawValue', 'Manager().Value() or Manager().Namespace()')

    def RawArray(self, typecode_or_type: Any, size_or_initializer: Any) -> NoReturn:
        """Raises `NotRemote`."""
        raise _needs_memory('RawArray', 'Manager().list(), or pass the array (with put() it goes to each machine once)')

    def set_forkserver_preload(self, module_names: Sequence[str]) -> NoReturn:
        """Raises `NotRemote`."""
        raise NotRemote('no fork server makes the processes of a cluster. Import modules in the initializer of the Pool')

    def set_executable(self, executable: str) -> NoReturn:
        """Raises `NotRemote`."""
        raise NotRemote("the cluster's own Python runs the workers: choose it where the cluster is started")

    def __reduce__(self) -> NoReturn:
        raise NotRemote('a context of a cluster belongs to the program that made it: send what the task needs of it')

    def _check_available(self) -> None:
        """It is, once it is made."""


def _needs_memory(name: str, instead: str) -> NotRemote:
    return NotRemote(f'{name} needs memory that all processes share, and machines share none. Use {instead}')
