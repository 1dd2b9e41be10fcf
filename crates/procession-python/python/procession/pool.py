"""Pools of worker processes. Used in the parent; the workers run `_workers.py`.

The engine does the work: its task ring, its workers' result streams, its worker handler, which
notices deaths and replaces workers. The API must be Python, and is here.

How it differs from `multiprocessing.pool`: a worker that is killed, crashes or exits fails the task
that it ran, with `WorkerLost`, and no other; functions and arguments are pickled in the thread that
submits; lazy maps look ahead by a bound; a callback that raises becomes the result of its call.
"""

from __future__ import annotations

import atexit
import operator
import os
import threading
import warnings
import weakref

from . import _engine, util
from ._standard import standard
from ._start_method import default_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from multiprocessing import pool as _standard
    from multiprocessing.context import BaseContext, TimeoutError as TimeoutError
    from multiprocessing.pool import CLOSE as CLOSE, INIT as INIT, RUN as RUN, TERMINATE as TERMINATE, ThreadPool as ThreadPool
    from types import TracebackType
    from typing import Any, Literal, NoReturn, Self, TypeAlias, TypedDict, TypeVar

    from ._engine import (
        ApplyResult as ApplyResult,
        IMapIterator as IMapIterator,
        Line,
        MapResult as MapResult,
        Pool as _EnginePool,
    )
    from ._insights import Insights
    from ._places import Places
    from ._remote import MaybeEncodingError as MaybeEncodingError, RemoteTraceback as RemoteTraceback
    from ._workers import Starting

    AsyncResult = ApplyResult
    IMapUnorderedIterator = IMapIterator

    _S = TypeVar('_S')
    _T = TypeVar('_T')

    _RetryOn: TypeAlias = type[Exception] | tuple[type[Exception], ...] | None
    # `retry_on`, `backoff`, `return_exceptions` and `fail_fast` of a map.
    _Steering: TypeAlias = tuple[_RetryOn, float, bool, bool]

    class _WorkerStats(TypedDict):
        pid: int
        # Job, task, seconds since its start.
        running: tuple[int, int, float] | None
        done: int
        resident: int

    class _Stats(TypedDict):
        workers: list[_WorkerStats]
        queued: int
        done: int
        failed: int
        lost: int
        respawns: int

else:
    _standard = standard('pool')
    INIT = _standard.INIT
    RUN = _standard.RUN
    CLOSE = _standard.CLOSE
    TERMINATE = _standard.TERMINATE

    ExceptionWithTraceback = _standard.ExceptionWithTraceback
    ThreadPool = _standard.ThreadPool
    TimeoutError = _standard.TimeoutError
    mapstar = _standard.mapstar
    starmapstar = _standard.starmapstar
    rebuild_exc = _standard.rebuild_exc

    ApplyResult = AsyncResult = _engine.ApplyResult
    MapResult = _engine.MapResult
    IMapIterator = IMapUnorderedIterator = _engine.IMapIterator

    def __getattr__(name):
        if name in ('MaybeEncodingError', 'RemoteTraceback'):
            # Only those who look at such errors have their module loaded by an import.
            from . import _remote

            return getattr(_remote, name)
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


# A pool's thread that is in Python code when the interpreter is finalized would end the program by
# SIGABRT.
atexit.register(_engine.end_engine_calls)

__all__ = ['Pool', 'ThreadPool']

# Pools by fork, for threads that come by at all of them.
_forking: weakref.WeakSet[Pool] = weakref.WeakSet()


def come_by() -> bool:
    """Starts workers in the place of lost ones, where that is left to the program's threads.
    Returns whether there are such pools.
    """
    pools = list(_forking)
    for pool in pools:
        if pool._state in (RUN, CLOSE):
            pool._repopulate_pool()
    return bool(pools)


class Pool(_standard.Pool):
    """A pool of worker processes.

    `processes` is their number, by default as many as this process may use cores.
    `initializer(*initargs)` is called in each worker before its first task. A worker is replaced
    after `maxtasksperchild` tasks, or once it has more than `max_memory_per_child` bytes of memory
    of its own. Workers are daemonic unless `daemon` is false. `context` may be another library's.

    Each worker may have what is its own, by its slot (`current_worker().slot`): environment
    variables (`env`, a dict or a function of the slot), `devices` (one entry for each worker),
    processors (`cpus`: 'spread', or one entry for each worker), and at most so many `threads` of
    BLAS and OpenMP ('auto': its share of the processors).

    A task that has its worker take more than `memory_limit` bytes of memory of its own fails with
    `MemoryLimitError`, and its worker is replaced. `rlimits` are the kernel's limits of each
    worker, by name: `{'NOFILE': 64}`.

    `finalizer()` is called in each worker that leaves in order: after `close`, and when it is
    replaced after its tasks; not in one that is killed, as by `terminate` and the end of `with`.
    With `contextvars` tasks see the context variables of the thread that submits, and
    OpenTelemetry's context: the variables that are globals of a module and whose values pickle.

    What workers print, also by C code, goes where `output` says: `'prefix'` prints each line on
    this process's matching stream behind `[worker 0]`, `'null'` drops it, and a function gets each
    line, as an object with `text`, `stream`, `worker`, `name` and `pid`. With `logs`, true or a
    level, what they log goes through this process's handlers, with `record.worker`. With
    `process_group` each worker leads a process group, so that what it starts ends with it.

    With `insights` workers measure how they spend their time, which `Pool.insights` tells.
    """

    if TYPE_CHECKING:
        _state: str
        # The engine's pool; `None` until it is made.
        _engine: _EnginePool
        _engine_terms: dict[str, Any]
        _places: Places | None
        _starting: Starting
        _values: Any
        # Of any library.
        _ctx: Any
        _workers: list[Any]
        _cache: dict[int, Any]
        _feeds: list[weakref.ref[IMapIterator[Any]]]
        # By thread: what has its event loop call a function soon.
        _callers: dict[int, Callable[[Callable[[], Any]], Any]]

    # Of one whose `__init__` has not begun.
    _state = INIT
    # The terms that subclasses ask of the engine besides.
    _engine_terms = {}
    # That of a subclass which has made it itself.
    _places = None

    def __new__(cls, *args: Any, context: BaseContext | None = None, **terms: Any) -> Self:
        if cls is Pool:
            found = getattr(context or default_context().get_context(), '_pool_class', None)
            # A stand-in for a context, in a test, has an attribute of any name.
            cls = found if isinstance(found, type) else cls
        return super().__new__(cls)

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
        env: Mapping[str, str | None] | Callable[[int], Mapping[str, str | None]] | None = None,
        devices: Sequence[int | str | Sequence[int | str]] | None = None,
        cpus: Literal['spread'] | Sequence[int | Sequence[int]] | None = None,
        threads: int | Literal['auto'] | None = None,
        memory_limit: int | None = None,
        rlimits: Mapping[str, int | tuple[int, int]] | None = None,
        finalizer: Callable[[], object] | None = None,
        contextvars: bool = False,
        output: Literal['inherit', 'null', 'prefix'] | Callable[[Line], object] | None = None,
        logs: bool | int | str = False,
        process_group: bool = False,
        insights: bool = False,
    ) -> None:
        self._state = INIT
        self._engine = None  # type: ignore[assignment]
        self._ctx = context or default_context().get_context()
        self._cache = {}
        self._initializer = initializer
        self._initargs = initargs
        self._maxtasksperchild = maxtasksperchild
        if processes is None:
            processes = _engine.available_parallelism()
        if processes < 1:
            raise ValueError('Number of processes must be at least 1')
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError('maxtasksperchild must be a positive int or None')
        if max_memory_per_child is not None and max_memory_per_child <= 0:
            raise ValueError('max_memory_per_child must be a positive number of bytes or None')
        if initializer is not None and not callable(initializer):
            raise TypeError('initializer must be a callable')
        if finalizer is not None or memory_limit is not None:
            from ._steering import check_terms

            check_terms(memory_limit, finalizer)
        self._finalizer = finalizer
        self._carries_context = contextvars
        # Weak references without a callback: a Ctrl-C that came in one would be ignored. Those of
        # feeds that are gone are taken off now and then.
        self._feeds = []
        self._most_feeds = 8
        self._workers = []
        if not (env is None and devices is None and cpus is None and threads is None and rlimits is None):
            from ._places import Places

            self._places = Places(processes, env, devices, cpus, threads, rlimits)
        terms = dict(self._engine_terms)
        if insights:
            terms['insights'] = True
        most = max_memory_per_child
        if memory_limit is not None:
            terms['memory_limit'] = memory_limit
            # A worker that is large leaves before a task has to answer for it.
            most = memory_limit if most is None else min(most, memory_limit)
        # It holds a function of the program's.
        self._surroundings = None
        if not (output is None and logs is False and process_group is False):
            from ._output import Surroundings

            self._surroundings = Surroundings(output, logs, process_group)
            terms['surroundings'] = self._surroundings.for_pool()
        self._starting = starting = self._make_starting(processes, daemon, most)
        limits = (maxtasksperchild, most)
        method = self._ctx.get_start_method()
        if method not in _engine.get_all_start_methods():
            # Another library's, which says itself in which threads it forks.
            method = 'spawn'
        self._values = values = self._make_values()
        try:
            self._engine = _engine.Pool(processes, method, starting, values, *limits, **terms)
        except BaseException as error:
            # Also what a handler raised. The engine may not know all of them.
            for process in self._workers:
                # They have no tasks, and may not hear a SIGTERM.
                getattr(process, 'kill', process.terminate)()
            for process in self._workers:
                process.join()
            if isinstance(error, Exception) and starting.error is not None:
                raise starting.error from None
            raise
        self._callers = {}
        if method == 'fork':
            self._engine.when_vacant(_VacancyCallback(self._callers, weakref.ref(self)))
            _forking.add(self)
        self._terminate = util.Finalize(self, _terminate, args=(self._engine, starting), exitpriority=15)
        self._state = RUN

    def apply(
        self,
        func: Callable[..., _T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        *,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: _RetryOn = None,
        backoff: float = 0.0,
    ) -> _T:
        """Returns `func(*args, **kwds)`, called in a worker; raises what it raises.

        Raises `WorkerLost` if the worker was killed or ended by the task, `TaskTimeoutError` after
        `timeout` seconds of the task's run, `BrokenPoolError` if no worker can be kept, and
        `ValueError` if the pool takes no more. An interrupted wait cancels the call.
        """
        if self._state != RUN:
            self._check_running()
        if retry_on is not None or self._carries_context:
            func = self._steered(func, retries, retry_on, backoff)
        returned: _T = self._engine.apply(self, func, args, kwds, timeout, retries, True)
        return returned

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
        retry_on: _RetryOn = None,
        backoff: float = 0.0,
    ) -> ApplyResult[_T]:
        """Has `func(*args, **kwds)` called in a worker; returns its `AsyncResult`.

        A task that runs longer than `timeout` seconds is ended with its worker, and fails with
        `TaskTimeoutError`. One whose worker is lost is run again, up to `retries` times; so is one
        that raises an exception of the classes `retry_on`, by the same worker, which first waits
        `backoff` seconds, then twice as long each time. `timeout` is for all of that.
        """
        if self._state != RUN:
            self._check_running()
        if retry_on is not None or self._carries_context:
            func = self._steered(func, retries, retry_on, backoff)
        result: ApplyResult[_T] = self._engine.apply(self, func, args, kwds, timeout, retries)
        if callback is not None or error_callback is not None:
            result._call_back(callback, error_callback)
        return result

    def map(
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: _RetryOn = None,
        backoff: float = 0.0,
        return_exceptions: bool = False,
        fail_fast: bool = False,
        progress: bool | str = False,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> list[_T]:
        """Returns the list of `func(x)` for each `x` of the iterable; of errors, as in `apply`, the
        first one's is raised.

        `timeout` is in seconds, for each call of `func`; `chunksize` is how many items a worker is
        given at once. `retry_on` and `backoff` are those of `apply_async`.

        With `return_exceptions` the exception of an item takes the place of its result; with
        `fail_fast` the first exception ends the call, and items that have not begun do not begin.
        `progress`, true or a description, shows a bar of tqdm or rich, or a line on a terminal.
        `checkpoint` is the path of a file in which results are kept as they come, so that the same
        call after a crash runs what is missing; then each item travels by itself.
        """
        steering = retry_on, backoff, return_exceptions, fail_fast
        if progress or checkpoint is not None:
            return self._map_shown(func, iterable, chunksize, False, timeout, retries, steering, progress, checkpoint)
        results: list[_T] = self._map(func, iterable, chunksize, False, timeout, retries, steering, True)
        return results

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
        retry_on: _RetryOn = None,
        backoff: float = 0.0,
        return_exceptions: bool = False,
        fail_fast: bool = False,
    ) -> MapResult[list[_T]]:
        """As `map`, but returns an `AsyncResult`."""
        steering = retry_on, backoff, return_exceptions, fail_fast
        result: MapResult[list[_T]] = self._map(func, iterable, chunksize, False, timeout, retries, steering)
        if callback is not None or error_callback is not None:
            result._call_back(callback, error_callback)
        return result

    def starmap(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: _RetryOn = None,
        backoff: float = 0.0,
        return_exceptions: bool = False,
        fail_fast: bool = False,
        progress: bool | str = False,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> list[_T]:
        """Returns the list of `func(*x)` for each `x` of the iterable; else as `map`."""
        steering = retry_on, backoff, return_exceptions, fail_fast
        if progress or checkpoint is not None:
            return self._map_shown(func, iterable, chunksize, True, timeout, retries, steering, progress, checkpoint)
        results: list[_T] = self._map(func, iterable, chunksize, True, timeout, retries, steering, True)
        return results

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
        retry_on: _RetryOn = None,
        backoff: float = 0.0,
        return_exceptions: bool = False,
        fail_fast: bool = False,
    ) -> MapResult[list[_T]]:
        """As `starmap`, but returns an `AsyncResult`."""
        steering = retry_on, backoff, return_exceptions, fail_fast
        result: MapResult[list[_T]] = self._map(func, iterable, chunksize, True, timeout, retries, steering)
        if callback is not None or error_callback is not None:
            result._call_back(callback, error_callback)
        return result

    def imap(  # type: ignore[override]
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: _RetryOn = None,
        backoff: float = 0.0,
        return_exceptions: bool = False,
        fail_fast: bool = False,
        progress: bool | str = False,
    ) -> IMapIterator[_T]:
        """Yields `func(x)` for each `x` of the iterable, in its order.

        The iterable is pulled as results are taken, at most `buffersize` items ahead of them (by
        default 64 for each worker), so that an endless one runs in constant memory. What it raises
        is raised where its results are taken.

        The rest is as in `map`. With `return_exceptions` each item travels by itself.
        """
        steering = retry_on, backoff, return_exceptions, fail_fast
        return self._imap(func, iterable, chunksize, True, buffersize, timeout, retries, steering, progress)

    def imap_unordered(  # type: ignore[override]
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: _RetryOn = None,
        backoff: float = 0.0,
        return_exceptions: bool = False,
        fail_fast: bool = False,
        progress: bool | str = False,
    ) -> IMapIterator[_T]:
        """As `imap`, but yields results as they come."""
        steering = retry_on, backoff, return_exceptions, fail_fast
        return self._imap(func, iterable, chunksize, False, buffersize, timeout, retries, steering, progress)

    def close(self) -> None:
        """Takes no more tasks. Workers end when those that were given are finished."""
        util.debug('closing pool')
        if self._state == RUN:
            self._state = CLOSE
            self._engine.close()

    def terminate(self) -> None:
        """Ends the workers at once and gives up what is not finished, without a callback: `get`
        then raises.
        """
        util.debug('terminating pool')
        self._state = TERMINATE
        self._terminate()

    def join(self) -> None:
        """Waits until all tasks are finished and all workers have ended; call `close` or
        `terminate` first.
        """
        util.debug('joining pool')
        if self._state == RUN:
            raise ValueError('Pool is still running')
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError('In unknown state')
        for feed in [reference() for reference in self._feeds]:
            if feed is not None:
                feed._pull_all()
        self._engine.join()
        for process in list(self._workers):
            process.join()
        self._starting.let_go()

    def resize(self, processes: int) -> None:
        """Keeps so many workers from now on; of fewer, those that are too many end after the task
        that they run.

        Raises `ValueError` for less than one, and for more than the pool has room for, which the
        error tells.
        """
        self._check_running()
        if processes < 1:
            raise ValueError('Number of processes must be at least 1')
        if self._places is not None:
            self._places.reach(processes)
        self._starting.error = None
        try:
            self._engine.resize(processes)
        except ValueError:
            if self._starting.error is not None:
                # The system's own error at the start of a worker.
                raise self._starting.error from None
            raise

    def stats(self) -> _Stats:
        """Returns what the pool is doing now, as a dict.

        `workers`: for each its `pid`, what it is `running` (job, task, seconds; or `None`), how
        many tasks it has `done`, its `resident` memory in bytes. Tasks `queued`, `done`, `failed`
        and `lost`, and how many workers were started in the place of others: `respawns`.

        A task is one call of the function, also where a chunk of them travels together. Tasks are
        `queued` while no worker has begun their chunk, and `done` once their result has arrived. If
        a task of a chunk raises, it is the one that has `failed`; the others of the chunk, whose
        results are dropped, are in no count. If a worker is lost, so is the chunk that it was at.
        """
        return self._engine.stats()  # type: ignore[return-value]

    def insights(self) -> Insights:
        """Returns the use of the workers' time so far, and the five slowest tasks; for a pool made
        with `insights=True`. `multiprocessing` has no such thing.

        Printed it is a table. Its fields are plain data: `workers` (for each slot `started`,
        `tasks` and `times`), `total`, and `slowest` (for each `seconds`, `job`, `index`, `slot`,
        `call`). Times are seconds of `start_up`, `waiting`, `working` and `pickling`, and have
        `shares`. The times of a worker that was killed or replaced stay in the sums of its slot. A
        task whose worker is lost is not among the slowest; its time counts as work.

            with Pool(insights=True) as pool:
                pool.map(load, paths)
                print(pool.insights())

        :raises ValueError: if the pool does not measure.
        """
        from ._insights import insights_of

        return insights_of(self._engine)

    @property
    def _processes(self) -> int:
        return self._engine.size() if self._engine else 0

    @property
    def _pool(self) -> list[Any]:
        """The worker processes that are alive."""
        if self._engine is None or self._state == INIT:
            return []
        alive = self._engine.worker_pids()
        known = {process.pid: process for process in self._workers}
        return [known[pid] for pid in alive if pid in known]

    def _repopulate_pool(self) -> None:
        self._engine.worker_pids()

    def _note_loop(self) -> None:
        """Notes that the event loop of this thread, if it has one, can have the thread come by.

        Under fork it is the program's threads that start a worker in a lost one's place, as they
        come by to submit or to wait. One that waits in its event loop does not come by of its own
        accord.
        """
        if self._ctx.get_start_method() != 'fork':
            return
        # Programs without an event loop never need it.
        from ._waiting import running_caller

        if (call_soon := running_caller()) is not None:
            self._callers[threading.get_ident()] = call_soon

    def _make_starting(self, processes: int, daemon: bool, max_memory: int | None) -> Starting:
        from ._workers import Starting

        return Starting(self, processes, daemon, max_memory)

    def _make_values(self) -> Any:
        from . import spawn
        from ._by_value import Values

        return Values(self._ctx.get_start_method() == 'fork' or spawn.finds_main())

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError('Pool not running')

    def _steered(self, func: Callable[..., Any], retries: int, retry_on: _RetryOn, backoff: float) -> Callable[..., Any]:
        """Returns what calls `func` as the caller asks."""
        from ._steering import steered

        return steered(func, self._carries_context, retries, retry_on, backoff)

    def _checked(self, func: Callable[..., Any], retries: int, steering: _Steering) -> tuple[Callable[..., Any], bool, bool]:
        """Returns what calls `func` as the caller of a map asks, and what becomes of exceptions."""
        self._check_running()
        retry_on, backoff, return_exceptions, fail_fast = steering
        if return_exceptions and fail_fast:
            raise ValueError('return_exceptions goes on after an exception and fail_fast ends the call at one: give one of them')
        if retry_on is not None or self._carries_context:
            func = self._steered(func, retries, retry_on, backoff)
        return func, return_exceptions, fail_fast

    def _map(
        self,
        func: Callable[..., Any],
        iterable: Any,
        chunksize: int | None,
        is_star: bool,
        timeout: float | None,
        retries: int,
        steering: _Steering,
        waits: bool = False,
    ) -> Any:
        func, return_exceptions, fail_fast = self._checked(func, retries, steering)
        if chunksize is not None and chunksize < 1:
            raise ValueError(f'Chunksize must be 1+, not {chunksize:n}')
        # A range becomes lists in parts; if each part is one item, all at once is quicker.
        is_sliced = type(iterable) is list or (type(iterable) is range and chunksize != 1)
        items = iterable if is_sliced else list(iterable)
        return self._engine.map(self, func, items, chunksize, is_star, timeout, retries, waits, return_exceptions, fail_fast)

    def _map_shown(
        self,
        func: Callable[..., Any],
        iterable: Any,
        chunksize: int | None,
        is_star: bool,
        timeout: float | None,
        retries: int,
        steering: _Steering,
        progress: bool | str,
        checkpoint: str | os.PathLike[str] | None,
    ) -> list[Any]:
        """As `_map`, with a bar or a checkpoint."""
        items = iterable if type(iterable) in (list, range) else list(iterable)
        if checkpoint is not None:
            from . import _checkpoint

            steered, return_exceptions, fail_fast = self._checked(func, retries, steering)
            call = 'starmap' if is_star else 'map'
            terms = timeout, retries
            return _checkpoint.run(
                self, steered, func, items, call, os.fspath(checkpoint), terms, return_exceptions, fail_fast, progress
            )
        from . import _progress

        result: MapResult[list[Any]] = self._map(func, items, chunksize, is_star, timeout, retries, steering)
        total = len(items)
        bar = None
        try:
            bar = _progress.shown(progress, lambda: total - result._remaining(), total)
            return result.get()
        except BaseException:
            # Over already, unless the wait was interrupted.
            result.cancel()
            raise
        finally:
            if bar is not None:
                bar.close()

    def _imap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        is_ordered: bool,
        buffersize: int | None,
        timeout: float | None,
        retries: int,
        steering: _Steering,
        progress: bool | str,
    ) -> IMapIterator[Any]:
        func, return_exceptions, fail_fast = self._checked(func, retries, steering)
        if chunksize < 1:
            raise ValueError(f'Chunksize must be 1+, not {chunksize:n}')
        expected = operator.length_hint(iterable, -1)
        gives = 'errors' if return_exceptions else 'values'
        feed = self._engine.imap(
            self,
            func,
            iter(iterable),
            chunksize,
            is_ordered,
            buffersize,
            timeout,
            retries,
            gives,
            fail_fast,
            None if expected < 0 else expected,
        )
        if progress:
            from . import _progress

            bar = _progress.shown(progress, _Taken(feed), None if expected < 0 else expected)
            if bar is not None:
                feed._at_end(bar.close)
        if len(self._feeds) >= self._most_feeds:
            self._feeds = [reference for reference in self._feeds if reference() is not None]
            self._most_feeds = 8 + 2 * len(self._feeds)
        self._feeds.append(weakref.ref(feed))
        return feed

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None) -> None:
        self.terminate()

    async def __aenter__(self) -> Self:
        self._check_running()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        # As `terminate`, with the loop free meanwhile.
        self._state = TERMINATE
        self._engine.begin_to_terminate()
        from ._waiting import until_told

        await until_told(self._engine.when_gone, lambda: None)
        self._terminate()

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError('pool objects cannot be passed between processes or pickled')

    def __del__(self, _warn: Any = warnings.warn, RUN: Any = RUN) -> None:
        if self._state == RUN:
            _warn(f'unclosed running multiprocessing pool {self!r}', ResourceWarning, source=self)
            self._terminate()

    def __repr__(self) -> str:
        cls = self.__class__
        size = self._engine.size() if self._engine else 0
        return f'<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={size}>'


class _Taken:
    """Counts the results of a lazy map that have been taken, while somebody has it."""

    def __init__(self, feed: IMapIterator[Any]) -> None:
        self._feed = weakref.ref(feed)

    def __call__(self) -> int | None:
        feed = self._feed()
        return None if feed is None else feed._taken()


class _VacancyCallback:
    """Has the threads whose event loops are known come by, so that one of them starts a worker. The
    engine calls it.
    """

    def __init__(self, callers: dict[int, Callable[[Callable[[], Any]], Any]], pool: weakref.ref[Pool]) -> None:
        self._callers, self._pool = callers, pool

    def __call__(self) -> None:
        for thread, call_soon in list(self._callers.items()):
            try:
                call_soon(self._come_by)
            except RuntimeError:
                # The loop has ended.
                self._callers.pop(thread, None)

    def _come_by(self) -> None:
        pool = self._pool()
        if pool is not None:
            pool._repopulate_pool()


def _terminate(engine: _EnginePool, starting: Starting) -> None:
    engine.terminate()
    starting.let_go()
