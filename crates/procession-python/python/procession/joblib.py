"""The backend "procession" for joblib. Used in the parent; `register` makes it known to joblib::

    import joblib, procession.joblib

    procession.joblib.register()
    with joblib.parallel_config('procession', n_jobs=4):
        results = joblib.Parallel()(joblib.delayed(function)(argument) for argument in arguments)

The workers are an executor's, kept warm between calls. How it differs from joblib's own backend,
loky:

* a worker that is killed fails one batch of tasks, by `procession.futures.WorkerLost`, which names
  their functions. The call raises that, and the next call works;
* an array of at least `max_nbytes` bytes that several tasks have is sent once, in memory without a
  name, and not by a file.
"""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import sys
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import joblib  # type: ignore[import-untyped]
from joblib._parallel_backends import FallbackToBackend  # type: ignore[import-untyped]
from joblib.parallel import AutoBatchingMixin, BatchedCalls, ParallelBackendBase, SequentialBackend  # type: ignore[import-untyped]

from ._executor import ProcessPoolExecutor
from ._future import Future, WorkerLost
from ._remote import name_call
from ._shared_arrays import SharedArrays, load
from ._start_method import default_context
from ._steering import Terms, steered

__all__ = ['ProcessionBackend', 'register', 'shutdown']

# Seconds after which workers end that no call has needed.
_IDLE_TIMEOUT = 300.0
# So many executors are kept, of different terms.
_MOST_KEPT = 8

# Keywords that joblib itself gives a backend, beside those of its user.
_OF_JOBLIB = {*inspect.signature(joblib.Parallel.__init__).parameters, 'context'}

_lock = threading.Lock()
# Executors by their terms: the process, how many workers, their start method, their environment,
# when they end, and what else their user said of them.
_kept: dict[tuple[Any, ...], ProcessPoolExecutor] = {}


def register(*, make_default: bool = False) -> None:
    """Makes the backend known to joblib by the name "procession"; with `make_default` it is that of
    calls that name none.

    >>> import joblib, procession.joblib
    >>> procession.joblib.register()
    >>> joblib.Parallel(2, backend='procession')(joblib.delayed(abs)(x) for x in (-1, -2))
    [1, 2]
    """
    joblib.register_parallel_backend('procession', ProcessionBackend, make_default=make_default)


def shutdown() -> None:
    """Ends the workers that are kept for later calls, which then begin with others.

    Without it they end when they have been idle for long enough, and with the program.

    >>> procession.joblib.shutdown()
    """
    with _lock:
        executors = list(_kept.values())
        _kept.clear()
    for executor in executors:
        executor.shutdown()


class ProcessionBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs joblib's tasks in the workers of an executor.

    `parallel_config('procession', ...)` takes, beside what joblib knows, `start_method` (by default
    'forkserver'), `context`, which puts the workers on a cluster ('ray', 'dask', 'mpi', or such a
    context), and `idle_worker_timeout`, the seconds after which workers end that have no task
    (300).

    It takes the keywords of `procession.Pool` about workers: `env`, `devices`, `cpus`, `threads`,
    `memory_limit`, `rlimits`, `finalizer`, `contextvars`, `output`, `logs`, `process_group`. With
    `retries` a batch whose worker is lost is run again, so many times at most. With `retry_on`, an
    exception class or a tuple of them, so is a call that raises one of these, by the same worker,
    after `backoff` seconds, then twice as long each time.

    :raises TypeError: a keyword is unknown.
    :raises ValueError: a number or a list does not fit.
    """

    default_n_jobs = -1
    supports_inner_max_num_threads = True
    supports_retrieve_callback = True
    supports_sharedmem = False
    uses_threads = False

    _executor: ProcessPoolExecutor | None = None
    _arrays: SharedArrays | None = None
    _terms = Terms()

    def __init__(self, **terms: Any) -> None:
        super().__init__(**terms)
        # Of this call.
        self._running: set[Future[Any]] = set()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Returns how many workers a call has that asks for `n_jobs`."""
        if n_jobs == 0:
            raise ValueError('n_jobs == 0 in Parallel has no meaning')
        if n_jobs is None:
            return 1
        if not (self.in_main_thread() or self.nesting_level == 0):
            # A thread of a call within a call: its workers would be too many.
            return 1
        if n_jobs > 0:
            return n_jobs
        cluster = self._cluster()
        cpus: int = joblib.cpu_count() if cluster is None else cluster.cpu_count()
        return max(cpus + 1 + n_jobs, 1)

    def _cluster(self, context: Any = None) -> Any:
        """Returns the context of the cluster that the caller names, if any. joblib itself passes a
        context of `multiprocessing`, which means nothing here.
        """
        context = self.backend_kwargs.get('context') or context
        if isinstance(context, str):
            found = default_context().get_context(context)
            if not hasattr(found, '_cluster'):
                raise ValueError(
                    f'context={context!r} names no cluster: start_method={context!r} is what says how processes start here'
                )
            return found
        return context if hasattr(context, '_cluster') else None

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        *,
        max_nbytes: int | None = 1_000_000,
        mmap_mode: str | None = 'r',
        start_method: str | None = None,
        context: Any = None,
        idle_worker_timeout: float | None = None,
        **others: Any,
    ) -> int:
        """Prepares a call; returns how many workers it has."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        own: dict[str, Any] = self.backend_kwargs
        method = start_method or own.get('start_method') or 'forkserver'
        idle_timeout = idle_worker_timeout or own.get('idle_worker_timeout') or _IDLE_TIMEOUT
        workers = {name: value for name, value in {**own, **others}.items() if name not in _OF_JOBLIB}
        for name in 'start_method', 'idle_worker_timeout':
            workers.pop(name, None)
        tasks = {name: workers.pop(name) for name in workers.keys() & set(Terms._fields)}
        environment = self._prepare_worker_env(n_jobs)
        if workers:
            if 'threads' in workers and self.inner_max_num_threads is not None:
                raise ValueError('threads and inner_max_num_threads both limit the threads of workers: give one of them')
            environment = _unsaid(environment, n_jobs, workers)
        cluster = self._cluster(context)
        self._executor = _executor(n_jobs, cluster or method, tuple(sorted(environment.items())), idle_timeout, workers)
        self._terms = Terms(**tasks)
        if tasks:
            # Options that make no sense are errors here. Calls, not batches, are run again after an
            # exception.
            self._executor = self._executor.options(**tasks).options(retries=self._terms.retries)
        self._arrays = None
        # Machines share no memory.
        if max_nbytes is not None and mmap_mode is not None and cluster is None:
            self._arrays = SharedArrays(max_nbytes, mmap_mode)
        self.parallel = parallel
        return n_jobs

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Future[Any]:
        """Submits a batch."""
        executor = self._executor
        if executor is None:
            raise RuntimeError('this call of Parallel has ended: its backend takes no more tasks')
        batch = func if self._terms.retry_on is None else _retried(func, self._terms)
        future = executor.submit(_run, *self._pickled(batch, executor))
        vars(future)['_batch'] = func
        self._running.add(future)

        def finish(future: Any) -> None:
            self._running.discard(future)
            if callback is not None:
                callback(future)

        future.add_done_callback(finish)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Returns what a batch returned, or raises what it raised."""
        try:
            return out.result()
        except WorkerLost as error:
            batch = vars(out).get('_batch')
            lost = WorkerLost(error.pid, error.exitcode, _names(batch), error.by_oom_killer)
            lost.host = error.host
            raise lost from None

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancels the batches of this call, also those that run."""
        if self._executor is not None:
            self._executor._workers.cancel(list(self._running))

    def terminate(self) -> None:
        """Ends a call. The workers stay, for the next one."""
        self._executor = self._arrays = None
        self.reset_batch_stats()

    def _pickled(self, batch: Any, executor: ProcessPoolExecutor) -> tuple[Any, ...]:
        batch = _in_columns(batch)
        if self._arrays is None or 'numpy' not in sys.modules:
            # The pool pickles it.
            return (batch,)
        try:
            pickled = self._arrays.dumps(batch, pickle.Pickler)
            if b'__main__' not in pickled[0] or not executor._workers.names_unknown(pickled[0]):
                return pickled
        except Exception:
            # It may go by value.
            pass
        return self._arrays.dumps(batch, cloudpickle.Pickler)


class _Calls:
    """A batch of calls of one function, by position: its arguments alone, which pickle far quicker
    than a tuple and a dict each.
    """

    def __init__(self, function: Any, arguments: list[Any], is_single: bool, backend: Any, n_jobs: Any) -> None:
        self._parts = function, arguments, is_single, backend, n_jobs

    def __reduce__(self) -> Any:
        return _Calls, self._parts

    def __call__(self) -> list[Any]:
        function, arguments, is_single, backend, n_jobs = self._parts
        results: list[Any] = []
        with joblib.parallel_config(backend=backend, n_jobs=n_jobs):
            for each in arguments:
                args = (each,) if is_single else each
                try:
                    results.append(function(*args))
                except BaseException as error:
                    name_call(error, function, args)
                    raise
        return results


def _in_columns(batch: Any) -> Any:
    """The batch, in fewer objects if it is of one function."""
    if type(batch) is not BatchedCalls or not batch.items:
        return batch
    function = batch.items[0][0]
    if any(call[0] is not function or call[2] for call in batch.items):
        return batch
    arguments = [call[1] for call in batch.items]
    is_single = all(len(each) == 1 for each in arguments)
    if is_single:
        arguments = [each[0] for each in arguments]
    return _Calls(function, arguments, is_single, batch._backend, batch._n_jobs)


def _run(batch: Any, *more: Any) -> Any:
    """Worker: runs a batch."""
    if more:
        batch = load(batch, *more)
    return batch()


vars(_run)['_names_its_calls'] = True


def _retried(batch: Any, terms: Terms) -> Any:
    """The batch, of which each call is run again after exceptions."""
    steered_by_id: dict[int, Any] = {}
    for function, _, _ in batch.items:
        if id(function) not in steered_by_id:
            steered_by_id[id(function)] = steered(function, False, *terms[1:])
    batch = copy.copy(batch)
    batch.items = [(steered_by_id[id(function)], args, named) for function, args, named in batch.items]
    return batch


def _unsaid(environment: dict[str, str], n_jobs: int, workers: dict[str, Any]) -> dict[str, str]:
    """The variables by which joblib limits threads, without those of which the user has said
    something. What `env` returns for each slot is put in its place.
    """
    if 'threads' in workers:
        return {}
    env = workers.get('env')
    environments = [env]
    if callable(env):
        environments = [env(slot) for slot in range(n_jobs)]
        workers['env'] = _BySlot(environments)
    said = {name for one in environments if isinstance(one, Mapping) for name in one}
    return {name: value for name, value in environment.items() if name not in said}


class _BySlot:
    """The environments that a function returned for the slots."""

    def __init__(self, environments: list[Any]) -> None:
        self.environments = environments

    def __call__(self, slot: int) -> Any:
        return self.environments[slot]


def _frozen(value: Any) -> Hashable:
    """The value, or what tells it from others."""
    if isinstance(value, _BySlot):
        return _frozen(value.environments)
    if isinstance(value, Mapping):
        return tuple((name, _frozen(one)) for name, one in sorted(value.items(), key=lambda item: str(item[0])))
    if isinstance(value, (list, tuple)):
        return tuple(map(_frozen, value))
    return value if isinstance(value, Hashable) else repr(value)


def _executor(
    n_jobs: int, method: Any, environment: tuple[tuple[str, str], ...], idle_timeout: float, workers: dict[str, Any]
) -> ProcessPoolExecutor:
    """The executor of these terms. `method` is a start method or a context."""
    terms = (os.getpid(), n_jobs, method, environment, idle_timeout, _frozen(workers))
    with _lock:
        executor = _kept.pop(terms, None)
        if executor is None or executor._broken or executor._shutdown_thread:
            context = default_context().get_context(method) if isinstance(method, str) else method
            executor = ProcessPoolExecutor(n_jobs, context, _begin, (environment,), idle_timeout=idle_timeout, **workers)
        _kept[terms] = executor
        while len(_kept) > _MOST_KEPT:
            # The oldest: its calls are finished, and then its workers end.
            _kept.pop(next(iter(_kept)))
    return executor


def _begin(environment: tuple[tuple[str, str], ...]) -> None:
    """Worker: keeps the libraries that it has or will import to so many threads."""
    os.environ.update(environment)
    register()
    limit = dict(environment).get('OMP_NUM_THREADS')
    if limit is not None and 'numpy' in sys.modules:
        try:
            from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
        except ImportError:
            # Only those that are not loaded yet heed the environment.
            return
        threadpool_limits(int(limit))


def _names(batch: Any) -> str:
    """Returns what a batch is, for messages."""
    calls = getattr(batch, 'items', ())
    functions = {getattr(call[0], '__qualname__', type(call[0]).__qualname__): None for call in calls}
    count = len(calls)
    return f'a batch of {count} {"task" if count == 1 else "tasks"} of {", ".join(functions)}'
