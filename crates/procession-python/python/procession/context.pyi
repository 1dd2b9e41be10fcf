import ctypes
from _ctypes import _CData
from collections.abc import Callable, Iterable, Sequence
from ctypes import _SimpleCData, c_char
from logging import Logger
from multiprocessing import context as _standard
from multiprocessing.sharedctypes import Synchronized, SynchronizedArray, SynchronizedString
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, overload

from . import queues, synchronize
from ._errors import (
    AuthenticationError as AuthenticationError,
    BrokenPoolError as BrokenPoolError,
    BufferTooShort as BufferTooShort,
    CancelledError as CancelledError,
    ProcessError as ProcessError,
    ProcessLost as ProcessLost,
    TaskTimeoutError as TaskTimeoutError,
    TimeoutError as TimeoutError,
    WorkerLost as WorkerLost,
)
from ._processes import (
    ForkProcess as ForkProcess,
    ForkServerProcess as ForkServerProcess,
    Process as Process,
    SpawnProcess as SpawnProcess,
)
from ._spawning import (
    answers_multiprocessing as answers_multiprocessing,
    assert_spawning as assert_spawning,
    get_spawning_popen as get_spawning_popen,
    note_maker as note_maker,
    set_spawning_popen as set_spawning_popen,
)
from .pool import Pool as _Pool

__all__ = ()

_LockLike: TypeAlias = synchronize.Lock | synchronize.RLock
_T = TypeVar('_T')
_CT = TypeVar('_CT', bound=_CData)

_ProcessLost = ProcessLost
_WorkerLost = WorkerLost
_TaskTimeoutError = TaskTimeoutError
_CancelledError = CancelledError
_BrokenPoolError = BrokenPoolError
_Process = Process

# Locks, results and processes of ours are not the standard library's by class: hence what is
# ignored here.

class BaseContext(_standard.BaseContext):
    ProcessLost: ClassVar[type[_ProcessLost]]
    WorkerLost: ClassVar[type[_WorkerLost]]
    TaskTimeoutError: ClassVar[type[_TaskTimeoutError]]
    CancelledError: ClassVar[type[_CancelledError]]
    BrokenPoolError: ClassVar[type[_BrokenPoolError]]
    def Lock(self) -> synchronize.Lock: ...  # type: ignore[override]
    def RLock(self) -> synchronize.RLock: ...  # type: ignore[override]
    def Condition(self, lock: _LockLike | None = None) -> synchronize.Condition: ...  # type: ignore[override]
    def Semaphore(self, value: int = 1) -> synchronize.Semaphore: ...  # type: ignore[override]
    def BoundedSemaphore(self, value: int = 1) -> synchronize.BoundedSemaphore: ...  # type: ignore[override]
    def Event(self) -> synchronize.Event: ...  # type: ignore[override]
    def Barrier(  # type: ignore[override]
        self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None
    ) -> synchronize.Barrier: ...
    def Queue(self, maxsize: int = 0) -> queues.Queue[Any]: ...
    def JoinableQueue(self, maxsize: int = 0) -> queues.JoinableQueue[Any]: ...  # type: ignore[override]
    def SimpleQueue(self) -> queues.SimpleQueue[Any]: ...
    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        *,
        max_memory_per_child: int | None = None,
        daemon: bool = True,
    ) -> _Pool: ...
    @overload  # type: ignore[override]
    def Value(self, typecode_or_type: type[_SimpleCData[_T]], *args: Any, lock: Literal[True] | _LockLike = True) -> Synchronized[_T]: ...
    @overload
    def Value(self, typecode_or_type: type[_CT], *args: Any, lock: Literal[False]) -> _CT: ...
    @overload
    def Value(self, typecode_or_type: type[_CT], *args: Any, lock: Literal[True] | _LockLike = True) -> Synchronized[_CT]: ...
    @overload
    def Value(self, typecode_or_type: str, *args: Any, lock: Literal[True] | _LockLike = True) -> Synchronized[Any]: ...
    @overload
    def Value(self, typecode_or_type: str | type[_CData], *args: Any, lock: bool | _LockLike = True) -> Any: ...
    @overload  # type: ignore[override]
    def Array(
        self, typecode_or_type: type[_CT], size_or_initializer: int | Sequence[Any], *, lock: Literal[False]
    ) -> ctypes.Array[_CT]: ...
    @overload
    def Array(
        self, typecode_or_type: type[c_char], size_or_initializer: int | Sequence[Any], *, lock: Literal[True] | _LockLike = True
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
    @overload  # type: ignore[override]
    def get_context(self, method: None = None) -> DefaultContext: ...
    @overload
    def get_context(self, method: Literal['fork']) -> ForkContext: ...
    @overload
    def get_context(self, method: Literal['spawn']) -> SpawnContext: ...
    @overload
    def get_context(self, method: Literal['forkserver']) -> ForkServerContext: ...
    @overload
    def get_context(self, method: str) -> BaseContext: ...

class DefaultContext(BaseContext, _standard.DefaultContext):  # type: ignore[misc]
    Process: ClassVar[type[_Process]]  # type: ignore[assignment]
    def __init__(self) -> None: ...

class ForkContext(BaseContext, _standard.ForkContext):  # type: ignore[misc]
    Process: ClassVar[type[ForkProcess]]  # type: ignore[assignment]

class SpawnContext(BaseContext, _standard.SpawnContext):  # type: ignore[misc]
    Process: ClassVar[type[SpawnProcess]]  # type: ignore[assignment]

class ForkServerContext(BaseContext, _standard.ForkServerContext):  # type: ignore[misc]
    Process: ClassVar[type[ForkServerProcess]]  # type: ignore[assignment]

_default_context: DefaultContext
