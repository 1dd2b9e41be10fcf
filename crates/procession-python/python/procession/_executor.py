"""The executor: `concurrent.futures` on our pool. Used in the parent, from any thread.

Tasks go into the pool's ring as soon as they are submitted, and no thread of Python's stands
between. What the executor adds is when its pool begins and ends:

* it begins with the first task. Where workers are not forked it begins small, and grows while tasks
  find no idle worker;
* it ends when the executor is shut down or gone, but only after all tasks that were submitted;
* the program's exit waits for all tasks, as with the standard library's executors.
"""

from __future__ import annotations

import collections
import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor
from multiprocessing.context import BaseContext
from typing import Any, Self, TypeVar

from . import _engine, _errors
from ._future import BrokenPoolError, Future, as_raised_here
from ._start_method import default_context
from ._steering import Start, Terms, steered
from .pool import Pool

__all__ = ['ProcessPoolExecutor']

_T = TypeVar('_T')

# The keywords about workers: those of a pool, without those that an executor gives it, and without
# those that are asked of one pool, since an executor has one after another.
_WORKER_TERMS = set(Pool.__init__.__kwdefaults__ or ()) - {'daemon', 'insights'}

# Seconds in which workers that were killed have ended.
_PATIENCE = 5.0

# Pools of executors, from their begin until their last worker is gone.
_pools: set[_Pool] = set()
_is_exiting = False


class ProcessPoolExecutor(Executor):
    """Runs calls in worker processes: `concurrent.futures.ProcessPoolExecutor` on this package's
    pool.

    `max_workers` is the number of workers, by default as many as this process may use cores.
    `mp_context` starts them, of this package or of `multiprocessing`; by default it is the default
    context, or `spawn` with `max_tasks_per_child`. `initializer(*initargs)` is called in each
    worker before its first task. A worker is replaced after `max_tasks_per_child` tasks. All
    workers end once the executor has had no task for `idle_timeout` seconds, and others begin with
    the next task.

    Further keywords are those of `procession.Pool` about workers, with the same meaning: `env`,
    `devices`, `cpus`, `threads`, `memory_limit`, `rlimits`, `finalizer`, `contextvars`, `output`,
    `logs`, `process_group`. What is shared out to workers (`cpus='spread'`, `threads='auto'`) is
    shared out to `max_workers`.

    :raises TypeError: a keyword is unknown.
    :raises ValueError: a number or a list does not fit.

    How it differs from the standard library's: a worker that is killed or crashes fails the one
    task that it ran, with `WorkerLost`, which is a `BrokenProcessPool` too, and the executor goes
    on; functions and arguments are pickled in `submit`; running tasks can be cancelled and limited
    in time.

    >>> from procession.futures import ProcessPoolExecutor
    >>> with ProcessPoolExecutor() as executor:
    ...     executor.submit(pow, 2, 8).result()
    256
    """

    __module__ = 'procession.futures'

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        idle_timeout: float | None = None,
        **workers: Any,
    ) -> None:
        limits = max_tasks_per_child, idle_timeout
        self._workers = _Workers(max_workers, mp_context, initializer, initargs, *limits, workers)
        self._terms = Terms()

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Has `fn(*args, **kwargs)` called in a worker; returns its future.

        Raises `RuntimeError` after `shutdown`, and `BrokenProcessPool` once no worker can be kept.
        What does not pickle is the future's exception.
        """
        return Future(self._workers.submit(fn, args, kwargs, self._terms))

    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[_T]:
        """Returns an iterator over `fn(*args)` for each `args` of `zip(*iterables)`, in their
        order.

        A worker is given `chunksize` calls at once. All calls are submitted at once; with
        `buffersize` only so many chunks are on their way or wait to be taken, and the iterables may
        be endless. The iterator raises `TimeoutError` if its results are not there `timeout`
        seconds after this call, and what a call raises. Then, or when it is closed, the calls that
        have not begun are cancelled.
        """
        if chunksize < 1:
            raise ValueError('chunksize must be >= 1.')
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError('buffersize must be an integer or None')
        if buffersize is not None and buffersize < 1:
            raise ValueError('buffersize must be None or > 0')
        if self._terms.timeout is not None or self._terms.retries:
            # They hold for each call, so each is a task.
            chunksize = 1
        end = None if timeout is None else time.monotonic() + timeout
        chunks = _batched(zip(*iterables), chunksize)
        first = itertools.islice(chunks, buffersize) if buffersize else chunks
        terms = self._terms
        call = self._workers.steered(fn, terms)
        calls = collections.deque(self._workers.submit_chunk(call, *chunk, terms) for chunk in first)
        # It does not hold the executor, which may be gone before its results are taken.
        more = None if buffersize is None else (weakref.ref(self._workers), call, chunks, terms)
        return _results(calls, end, more)

    def options(
        self,
        *,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: type[Exception] | tuple[type[Exception], ...] | None = None,
        backoff: float = 0.0,
    ) -> Self:
        """Returns a view of this executor, of the same workers, whose tasks have these terms.

        A task that runs longer than `timeout` seconds is ended with its worker, and fails with
        `procession.TaskTimeoutError`. One whose worker is lost is run again, up to `retries` times;
        so is one that raises an exception of the classes `retry_on`, by the same worker, which
        first waits `backoff` seconds, then twice as long each time. `timeout` is for all of that.
        To shut the view down is to shut the executor down.

        >>> executor.options(timeout=10, retries=2).submit(pow, 2, 8).result()
        256
        """
        terms = Terms(timeout, retries, retry_on, backoff)
        # Options that make no sense are errors here.
        steered(len, False, *terms[1:])
        view = type(self).__new__(type(self))
        view.__dict__.update(self.__dict__, _terms=terms)
        return view

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more tasks; waits until all are finished and the workers have ended, unless
        `wait` is false.

        With `cancel_futures` the tasks that have not begun are cancelled.
        """
        self._workers.shutdown(wait, cancel_futures)

    def terminate_workers(self) -> None:
        """Shuts down at once: tasks that have not begun are cancelled, and each worker gets
        SIGTERM.

        What a worker runs, unless it handles the signal, fails with `WorkerLost`, whatever its
        `retries`.
        """
        self._workers.end('terminate')

    def kill_workers(self) -> None:
        """As `terminate_workers`, by SIGKILL."""
        self._workers.end('kill')

    # The attributes that libraries and the standard library's tests read.

    @property
    def _max_workers(self) -> int:
        return self._workers.max_workers

    @property
    def _mp_context(self) -> BaseContext:
        return self._workers.context

    @property
    def _broken(self) -> str | bool:
        return self._workers.broken

    @property
    def _processes(self) -> dict[int, Any] | None:
        return self._workers.processes()

    @property
    def _shutdown_thread(self) -> bool:
        return self._workers.is_shut_down


class _Pool(Pool):
    """An executor's pool: `SystemExit` is a result of a task, and it ends when its executor says
    so.
    """

    def __init__(self, workers: int, context: BaseContext, start: Start, idle_timeout: float | None) -> None:
        self._engine_terms = {'idle_timeout': idle_timeout, 'carries_exits': True}
        self._owner = os.getpid()
        self._places = start.places
        # As the standard library's executors have them, not daemonic.
        super().__init__(workers, start.initializer, start.initargs, start.max_tasks, context, daemon=False, **start.terms)
        _pools.add(self)
        self._engine.when_gone(_Discard(weakref.ref(self)))

    def end(self, wait: bool) -> None:
        """Takes no more tasks, and waits for those that it has."""
        self.close()
        if wait:
            self.join()


def _pool_class(context: Any) -> type[_Pool]:
    """Returns the class of an executor's pools: on a cluster they are the cluster's pools too."""
    base = getattr(context, '_pool_class', None)
    return type('_ClusterPool', (_Pool, base), {}) if isinstance(base, type) else _Pool


class _Discard:
    """Lets go of a pool whose workers are gone."""

    def __init__(self, pool: weakref.ref[_Pool]) -> None:
        self._pool = pool

    def __call__(self) -> None:
        if (pool := self._pool()) is not None:
            _pools.discard(pool)


class _Workers:
    """An executor's pool, while it has one. All views of an executor have the same."""

    def __init__(
        self,
        max_workers: int | None,
        context: BaseContext | None,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        max_tasks: int | None,
        idle_timeout: float | None,
        terms: dict[str, Any],
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError('max_workers must be greater than 0')
        if initializer is not None and not callable(initializer):
            raise TypeError('initializer must be a callable')
        if max_tasks is not None and not isinstance(max_tasks, int):
            raise TypeError('max_tasks_per_child must be an integer')
        if max_tasks is not None and max_tasks <= 0:
            raise ValueError('max_tasks_per_child must be >= 1')
        if idle_timeout is not None and not idle_timeout >= 0:
            raise ValueError('idle_timeout is a number of seconds, 0 or more')
        if context is None:
            context = default_context().get_context('spawn' if max_tasks is not None else None)
        self._pool_class = _pool_class(context)
        if max_workers is None:
            max_workers = _engine.available_parallelism() if self._pool_class is _Pool else context.cpu_count()
        self._is_forking = context.get_start_method() == 'fork'
        if max_tasks is not None and self._is_forking:
            raise ValueError(
                "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method; supply a different mp_context."
            )
        self.max_workers, self.context = max_workers, context
        self._why_broken: str | None = None
        self.is_shut_down = False
        self._start = Start(max_workers, initializer, initargs, max_tasks, terms, _WORKER_TERMS)
        self._carries_context = bool(terms.get('contextvars'))
        self._idle_timeout = idle_timeout
        # Of the calls that begin and end the pool.
        self._lock = threading.RLock()
        self._pool: _Pool | None = None
        # The one that was closed last, for a shutdown that waits.
        self._last: Callable[[], _Pool | None] = lambda: None
        self._size = 0
        self._finalizer: weakref.finalize[Any, Any] | None = None

    def submit(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], terms: Terms) -> Any:
        timeout, retries, retry_on, _ = terms
        if retry_on is not None or self._carries_context:
            fn = self.steered(fn, terms)
        return self._submit(lambda pool: pool._engine.apply(pool, fn, args, kwargs, timeout, retries))

    def submit_chunk(self, fn: Callable[..., Any], first: int, chunk: list[Any], terms: Terms) -> Any:
        """Submits calls of a function that `steered` returned."""
        return self._submit(lambda pool: pool._engine.apply_chunk(pool, fn, chunk, terms.timeout, terms.retries, first))

    def steered(self, fn: Callable[..., Any], terms: Terms) -> Callable[..., Any]:
        """Returns what calls `fn` as its caller asks, with the context of this thread."""
        return steered(fn, self._carries_context, *terms[1:])

    def _submit(self, submit: Callable[[_Pool], Any]) -> Any:
        while True:
            pool = self._pool
            if pool is None or _is_exiting:
                pool = self.begin()
            if self._size < self.max_workers and pool._engine.outstanding() >= self._size:
                self._grow(pool)
            try:
                return submit(pool)
            except _errors.BrokenPoolError as error:
                self._why_broken = str(error)
                raise as_raised_here(error) from error.__cause__
            except ValueError:
                # Closed, by a shutdown or since it was idle; or it is about the call.
                if not pool._engine.is_closed():
                    raise
                self._leave(pool)

    def cancel(self, futures: list[Future[Any]]) -> None:
        """Cancels these, also those that run. Under fork it starts workers in the place of those
        that this ends.
        """
        pool = self._pool
        pids = set(pool._engine.worker_pids()) if pool is not None and self._is_forking else set[int]()
        lost = sum(future.running() for future in futures)
        for future in futures:
            future.cancel(running=True)
        end = time.monotonic() + _PATIENCE
        while pids and pool is not None and len(pids) - len(pids.intersection(pool._engine.worker_pids())) < lost:
            if time.monotonic() > end:
                return
            time.sleep(0.001)

    @property
    def broken(self) -> str | bool:
        """Why no worker can be kept, or `False`."""
        pool = self._pool
        return self._why_broken or pool is not None and pool._engine.broken() or False

    def names_unknown(self, pickled: bytes) -> bool:
        """Returns whether a pickle names something of the main module that workers cannot find."""
        return bool(self.begin()._values.names_unknown(pickled))

    def processes(self) -> dict[int, Any] | None:
        pool = self._pool
        if pool is None:
            return None if self.is_shut_down else {}
        return {process.pid: process for process in pool._pool}

    def resize(self, max_workers: int) -> None:
        """Has at most so many workers from now on."""
        with self._lock:
            if self._start.places is not None:
                self._start.places.reach(max_workers)
            self.max_workers = max_workers
            pool = self._pool
            if pool is not None and (self._is_forking or self._size > max_workers):
                pool.resize(max_workers)
                self._size = max_workers

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        with self._lock:
            self.is_shut_down = True
            pool = self._pool
            self._leave(pool)
        if pool is None and (pool := self._last()) is None or pool._owner != os.getpid():
            return
        if cancel_futures:
            pool._engine.cancel_queued()
        if wait:
            pool.join()

    def end(self, how: str) -> None:
        """Has all workers ended by this method of a process, also after a shutdown that did not
        wait.
        """
        pool = self._pool or self._last()
        if pool is not None:
            pool._engine.end_retries()
        self.shutdown(wait=False, cancel_futures=True)
        for process in pool._pool if pool is not None else ():
            try:
                getattr(process, how)()
            except (ProcessLookupError, ValueError):
                # It has ended.
                continue

    def has_begun(self) -> bool:
        """Returns whether there is a pool."""
        return self._pool is not None

    def begin(self) -> _Pool:
        """Returns the pool; if there is none yet, it begins."""
        with self._lock:
            if self._why_broken is not None:
                raise BrokenPoolError(self._why_broken)
            if self.is_shut_down:
                raise RuntimeError('cannot schedule new futures after shutdown')
            if _is_exiting:
                raise RuntimeError('cannot schedule new futures after interpreter shutdown')
            if self._pool is None:
                # Under fork all begin at once, before the program has threads that a fork would
                # have to be refused for; on a cluster, where each start takes long.
                begins_whole = self._is_forking or self._pool_class is not _Pool
                size = self.max_workers if begins_whole else _engine.smallest_size(self.max_workers)
                pool = self._pool_class(size, self.context, self._start, self._idle_timeout)
                self._size, self._pool = size, pool
                self._finalizer = weakref.finalize(self, pool.end, False)
                self._finalizer.atexit = False
            return self._pool

    def _grow(self, pool: _Pool) -> None:
        with self._lock:
            if pool is self._pool and self._size < self.max_workers:
                size = self._size + 1
                try:
                    pool._engine.resize(size)
                except _errors.BrokenPoolError:
                    # The call that is to be submitted says so.
                    return
                except ValueError:
                    if not pool._engine.is_closed():
                        raise
                    return
                self._size = size

    def _leave(self, pool: _Pool | None) -> None:
        """Closes the pool, which finishes what it has; the next task begins another, if there is to
        be one.
        """
        with self._lock:
            if pool is not None and self._pool is pool:
                self._pool, self._last = None, weakref.ref(pool)
                if self._finalizer is not None:
                    self._finalizer.detach()
                if pool._owner == os.getpid():
                    pool.close()


def _batched(items: Iterator[tuple[Any, ...]], size: int) -> Iterator[tuple[int, list[Any]]]:
    """Yields chunks, each with the index of its first item."""
    first = 0
    while chunk := list(itertools.islice(items, size)):
        yield first, chunk
        first += size


def _results(calls: collections.deque[Any], end: float | None, more: tuple[Any, ...] | None) -> Iterator[Any]:
    """The results of calls of chunks; with `more`, submits a chunk for each that is taken."""
    try:
        while calls:
            call = calls.popleft()
            if more is not None:
                workers, fn, chunks, terms = more
                if (owner := workers()) is not None and (chunk := next(chunks, None)) is not None:
                    calls.append(owner.submit_chunk(fn, *chunk, terms))
                del owner
            values = _values(call, end)
            del call
            values.reverse()
            while values:
                # No reference to it is left here.
                yield values.pop()
    finally:
        for call in calls:
            call._withdraw()


def _values(call: Any, end: float | None) -> list[Any]:
    timeout = None if end is None else end - time.monotonic()
    if not call._wait_finished(timeout):
        call._withdraw()
        raise TimeoutError()
    try:
        values: list[Any] = call._value()
    except _errors.CancelledError:
        raise CancelledError() from None
    except BaseException as error:
        raised = as_raised_here(error)
        if raised is error:
            raise
        raise raised from error.__cause__
    # The call, which has them too, is gone before the first is taken.
    return values


def _end_all() -> None:
    """At the program's exit: waits for all tasks of all executors."""
    global _is_exiting
    _is_exiting = True
    for pool in list(_pools):
        if pool._owner == os.getpid():
            pool.end(wait=True)


threading._register_atexit(_end_all)  # type: ignore[attr-defined]
