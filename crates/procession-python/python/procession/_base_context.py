"""The base of every context: the whole API of the package. Used in any process, from any thread.

The contexts of start methods (`context.py`) and those of clusters (`remote/_context.py`) are
subclasses. They find one another by the names here.
"""

from . import _spawning, process as _process
from ._engine import Line
from ._errors import (
    BrokenPoolError,
    CancelledError,
    MemoryLimitError,
    NotRemote,
    ProcessLost,
    TaskTimeoutError,
    WorkerLost,
)
from ._standard import standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    import multiprocessing.context as _standard
    from _ctypes import _CData
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from ctypes import _SimpleCData, c_char
    from logging import Logger, _Level
    from multiprocessing.connection import Connection
    from multiprocessing.managers import SyncManager
    from multiprocessing.sharedctypes import Synchronized, SynchronizedArray, SynchronizedString
    from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, overload

    from . import _engine, _errors, queues, synchronize
    from ._share import Shared
    from .pool import Pool as _Pool

    _LockLike: TypeAlias = synchronize.Lock | synchronize.RLock
    _T = TypeVar('_T')
    _CT = TypeVar('_CT', bound=_CData)
else:
    _standard = standard('context')

# The contexts of start methods, and what makes those of clusters of arguments and options, by name.
concrete_contexts: 'dict[str, Any]' = {}
makers: 'dict[str, Callable[[tuple[Any, ...], dict[str, Any]], BaseContext]]' = {}


# Locks, queues, results and pools of ours are not the standard library's by class: hence what is
# ignored here.
class BaseContext(_standard.BaseContext):
    """The part that every context has."""

    __module__ = 'procession.context'

    if TYPE_CHECKING:
        ProcessLost: ClassVar[type[_errors.ProcessLost]]
        WorkerLost: ClassVar[type[_errors.WorkerLost]]
        TaskTimeoutError: ClassVar[type[_errors.TaskTimeoutError]]
        CancelledError: ClassVar[type[_errors.CancelledError]]
        MemoryLimitError: ClassVar[type[_errors.MemoryLimitError]]
        BrokenPoolError: ClassVar[type[_errors.BrokenPoolError]]
        NotRemote: ClassVar[type[_errors.NotRemote]]

        Line: ClassVar[type[_engine.Line]]

        @staticmethod
        def current_worker() -> _process.Worker | None: ...

    else:
        ProcessLost = ProcessLost
        WorkerLost = WorkerLost
        TaskTimeoutError = TaskTimeoutError
        CancelledError = CancelledError
        MemoryLimitError = MemoryLimitError
        BrokenPoolError = BrokenPoolError
        NotRemote = NotRemote

        Line = Line

        current_worker = staticmethod(_process.current_worker)

    def Manager(self) -> 'SyncManager':
        """Returns a started manager, whose process is of this context."""
        from .managers import SyncManager

        manager = SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def Pipe(self, duplex: bool = True) -> 'tuple[Connection[Any, Any], Connection[Any, Any]]':
        """Returns two connections, the ends of a pipe; of one that is not duplex the first receives
        and the second sends.
        """
        from .connection import Pipe

        return Pipe(duplex)

    def share(self, value: '_T') -> 'Shared[_T]':
        """Puts `value` (an array, a frame, a table, bytes) into shared memory once; returns a
        handle, whose `value` is a read-only view of it in each process.
        """
        from ._share import share

        return share(value)

    def Lock(self) -> 'synchronize.Lock':  # type: ignore[override]
        """Returns a lock, which any process or thread may release."""
        from .synchronize import Lock

        return Lock(ctx=self.get_context())

    def RLock(self) -> 'synchronize.RLock':  # type: ignore[override]
        """Returns a lock that its owner may acquire again."""
        from .synchronize import RLock

        return RLock(ctx=self.get_context())

    def Condition(self, lock: '_LockLike | None' = None) -> 'synchronize.Condition':  # type: ignore[override]
        """Returns a condition on `lock`, or on an `RLock` of its own."""
        from .synchronize import Condition

        return Condition(lock, ctx=self.get_context())

    def Semaphore(self, value: int = 1) -> 'synchronize.Semaphore':  # type: ignore[override]
        """Returns a semaphore of `value` permits."""
        from .synchronize import Semaphore

        return Semaphore(value, ctx=self.get_context())

    def BoundedSemaphore(self, value: int = 1) -> 'synchronize.BoundedSemaphore':  # type: ignore[override]
        """Returns a semaphore that never has more than its first `value` permits."""
        from .synchronize import BoundedSemaphore

        return BoundedSemaphore(value, ctx=self.get_context())

    def Event(self) -> 'synchronize.Event':  # type: ignore[override]
        """Returns an event, which is not set."""
        from .synchronize import Event

        return Event(ctx=self.get_context())

    def Barrier(  # type: ignore[override]
        self, parties: int, action: 'Callable[[], object] | None' = None, timeout: 'float | None' = None
    ) -> 'synchronize.Barrier':
        """Returns a barrier for so many parties; one of them calls `action` each time it opens."""
        from .synchronize import Barrier

        return Barrier(parties, action, timeout, ctx=self.get_context())

    def Queue(self, maxsize: int = 0) -> 'queues.Queue[Any]':
        """Returns a queue of at most `maxsize` items; 0: as many as memory holds."""
        from .queues import Queue

        return Queue(maxsize, ctx=self.get_context())

    def JoinableQueue(self, maxsize: int = 0) -> 'queues.JoinableQueue[Any]':  # type: ignore[override]
        """Returns a queue with `task_done` and `join`."""
        from .queues import JoinableQueue

        return JoinableQueue(maxsize, ctx=self.get_context())

    def SimpleQueue(self) -> 'queues.SimpleQueue[Any]':
        """Returns a queue with little more than `put` and `get`."""
        from .queues import SimpleQueue

        return SimpleQueue(ctx=self.get_context())

    if TYPE_CHECKING:

        def Pool(
            self,
            processes: int | None = None,
            initializer: Callable[..., object] | None = None,
            initargs: Iterable[Any] = (),
            maxtasksperchild: int | None = None,
            *,
            max_memory_per_child: int | None = None,
            daemon: bool = True,
            env: Mapping[str, str | None] | Callable[[int], Mapping[str, str | None]] | None = None,
            devices: Sequence[int | str | Sequence[int | str]] | None = None,
            cpus: Literal['spread'] | Sequence[int | Sequence[int]] | None = None,
            threads: int | Literal['auto'] | None = None,
            memory_limit: int | None = None,
            rlimits: Mapping[str, int | tuple[int, int]] | None = None,
            finalizer: Callable[[], object] | None = None,
            contextvars: bool = False,
            output: Literal['inherit', 'null', 'prefix'] | Callable[[_engine.Line], object] | None = None,
            logs: bool | int | str = False,
            process_group: bool = False,
            insights: bool = False,
        ) -> _Pool: ...

    else:

        def Pool(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, **terms):
            """Returns a pool of worker processes."""
            from .pool import Pool

            return Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context(), **terms)

    if TYPE_CHECKING:

        @overload
        def RawValue(self, typecode_or_type: type[_CT], *args: Any) -> _CT: ...
        @overload
        def RawValue(self, typecode_or_type: str, *args: Any) -> Any: ...

    def RawValue(self, typecode_or_type: 'Any', *args: 'Any') -> 'Any':
        """Returns a ctypes object in shared memory, without a lock."""
        from .sharedctypes import RawValue

        return RawValue(typecode_or_type, *args)

    if TYPE_CHECKING:

        @overload
        def RawArray(self, typecode_or_type: type[_CT], size_or_initializer: int | Sequence[Any]) -> ctypes.Array[_CT]: ...
        @overload
        def RawArray(self, typecode_or_type: str, size_or_initializer: int | Sequence[Any]) -> Any: ...

    def RawArray(self, typecode_or_type: 'Any', size_or_initializer: 'Any') -> 'Any':
        """Returns a ctypes array in shared memory, without a lock."""
        from .sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    if TYPE_CHECKING:

        @overload  # type: ignore[override]
        def Value(
            self, typecode_or_type: type[_SimpleCData[_T]], *args: Any, lock: Literal[True] | _LockLike = True
        ) -> Synchronized[_T]: ...
        @overload
        def Value(self, typecode_or_type: type[_CT], *args: Any, lock: Literal[False]) -> _CT: ...
        @overload
        def Value(self, typecode_or_type: type[_CT], *args: Any, lock: Literal[True] | _LockLike = True) -> Synchronized[_CT]: ...
        @overload
        def Value(self, typecode_or_type: str, *args: Any, lock: Literal[True] | _LockLike = True) -> Synchronized[Any]: ...
        @overload
        def Value(self, typecode_or_type: str | type[_CData], *args: Any, lock: bool | _LockLike = True) -> Any: ...

    def Value(self, typecode_or_type: 'Any', *args: 'Any', lock: 'Any' = True) -> 'Any':
        """Returns a ctypes object in shared memory, with a lock."""
        from .sharedctypes import Value

        return Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    if TYPE_CHECKING:

        @overload  # type: ignore[override]
        def Array(
            self, typecode_or_type: type[_CT], size_or_initializer: int | Sequence[Any], *, lock: Literal[False]
        ) -> ctypes.Array[_CT]: ...
        @overload
        def Array(
            self,
            typecode_or_type: type[c_char],
            size_or_initializer: int | Sequence[Any],
            *,
            lock: Literal[True] | _LockLike = True,
        ) -> SynchronizedString: ...
        @overload
        def Array(
            self,
            typecode_or_type: type[_SimpleCData[_T]],
            size_or_initializer: int | Sequence[Any],
            *,
            lock: Literal[True] | _LockLike = True,
        ) -> SynchronizedArray[_T]: ...
        @overload
        def Array(
            self, typecode_or_type: str, size_or_initializer: int | Sequence[Any], *, lock: Literal[True] | _LockLike = True
        ) -> SynchronizedArray[Any]: ...
        @overload
        def Array(
            self, typecode_or_type: str | type[_CData], size_or_initializer: int | Sequence[Any], *, lock: bool | _LockLike = True
        ) -> Any: ...

    def Array(self, typecode_or_type: 'Any', size_or_initializer: 'Any', *, lock: 'Any' = True) -> 'Any':
        """Returns a ctypes array in shared memory, with a lock."""
        from .sharedctypes import Array

        return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    def freeze_support(self) -> None:
        """In a frozen program: does a child's work if this process is one, and does not return
        then; see :func:`procession.spawn.freeze_support`.
        """
        from .spawn import freeze_support

        freeze_support()

    def get_logger(self) -> 'Logger':
        """Returns the package's logger."""
        from .util import get_logger

        return get_logger()

    def log_to_stderr(self, level: '_Level | None' = None) -> 'Logger':
        """Turns logging on, to stderr."""
        from .util import log_to_stderr

        return log_to_stderr(level)

    def allow_connection_pickling(self) -> None:
        """Has connections and sockets travel to children, which they do anyway."""
        from . import connection  # noqa: F401

    def set_executable(self, executable: str) -> None:
        """Sets the Python that `spawn` and the fork server execute, not `sys.executable`."""
        from .spawn import set_executable

        set_executable(executable)

    # From 3.15 on the standard library's takes an option.
    def set_forkserver_preload(self, module_names: 'list[str]') -> None:  # type: ignore[override, unused-ignore]
        """Sets the modules that the fork server imports before it makes its first child."""
        from .forkserver import set_forkserver_preload

        set_forkserver_preload(module_names)

    def get_context(  # type: ignore[override]
        self, method: 'str | None' = None, *args: 'Any', **options: 'Any'
    ) -> 'BaseContext':
        """Returns this context, or that of the start method `method`.

        'ray', 'dask' and 'mpi' are contexts too, whose processes are on the machines of a cluster:
        `docs/scale` says how they differ and which `options` they take.
        """
        if method is None:
            return self
        if method in makers:
            return makers[method](args, options)
        if args or options:
            raise TypeError(f'the context {method!r} takes no options')
        try:
            context: BaseContext = concrete_contexts[method]
        except KeyError:
            raise ValueError(f'cannot find context for {method!r}') from None
        context._check_available()
        return context

    @property
    def reducer(self) -> 'Any':
        """The module that says how objects are pickled for children, and in queues, pools and
        pipes; or an object with its names.

        Set it before the first pipe is made, as with the standard library.
        """
        return _spawning.reducer

    @reducer.setter
    def reducer(self, reduction: 'Any') -> None:
        _spawning.set_reducer(reduction)
