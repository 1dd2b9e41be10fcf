from collections.abc import Callable, Iterable, Mapping
from multiprocessing import pool as _standard
from multiprocessing.context import BaseContext, TimeoutError as TimeoutError
from types import TracebackType
from typing import Any, Final, TypedDict, TypeVar, type_check_only
from typing_extensions import Self

from multiprocessing.pool import ThreadPool as ThreadPool

from ._engine import ApplyResult as ApplyResult, IMapIterator as IMapIterator, MapResult as MapResult

__all__ = ['Pool', 'ThreadPool']

_S = TypeVar('_S')
_T = TypeVar('_T')

INIT: Final = 'INIT'
RUN: Final = 'RUN'
CLOSE: Final = 'CLOSE'
TERMINATE: Final = 'TERMINATE'

@type_check_only
class _WorkerStats(TypedDict):
    pid: int
    # Job, task, seconds since its start.
    running: tuple[int, int, float] | None
    done: int
    resident: int

@type_check_only
class _Stats(TypedDict):
    workers: list[_WorkerStats]
    queued: int
    done: int
    failed: int
    lost: int
    respawns: int

AsyncResult = ApplyResult
IMapUnorderedIterator = IMapIterator

def come_by() -> bool: ...

class Pool(_standard.Pool):
    _engine: Any
    _values: Any
    _engine_terms: dict[str, Any]
    @property
    def _pool(self) -> list[Any]: ...
    def _repopulate_pool(self) -> None: ...
    def _note_loop(self) -> None: ...
    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
        *,
        max_memory_per_child: int | None = None,
        daemon: bool = True,
    ) -> None: ...
    def apply(
        self,
        func: Callable[..., _T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        *,
        timeout: float | None = None,
        retries: int = 0,
    ) -> _T: ...
    def apply_async(  # type: ignore[override]
        self,
        func: Callable[..., _T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[_T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        retries: int = 0,
    ) -> ApplyResult[_T]: ...
    def map(
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int = 0,
    ) -> list[_T]: ...
    def map_async(  # type: ignore[override]
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = None,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        retries: int = 0,
    ) -> MapResult[list[_T]]: ...
    def starmap(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int = 0,
    ) -> list[_T]: ...
    def starmap_async(  # type: ignore[override]
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        retries: int = 0,
    ) -> MapResult[list[_T]]: ...
    def imap(  # type: ignore[override]
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
    ) -> IMapIterator[_T]: ...
    def imap_unordered(  # type: ignore[override]
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
    ) -> IMapIterator[_T]: ...
    def close(self) -> None: ...
    def terminate(self) -> None: ...
    def join(self) -> None: ...
    def resize(self, processes: int) -> None: ...
    def stats(self) -> _Stats: ...
    def __del__(self, _warn: Any = ..., RUN: Any = ...) -> None: ...
    def __enter__(self) -> Self: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None: ...
    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None: ...
