"""Pools of worker processes. Used in the parent; `_worker` runs in the workers.

The engine does the work: its task ring, its workers' result streams, its worker handler, which
notices deaths and replaces workers. Here is what must be Python: the API, how a worker process is
started, and what happens to values that plain pickle refuses.

How it differs from `multiprocessing.pool`: a worker that is killed, crashes or exits fails the task
that it ran, with `WorkerLost`, and no other; functions and arguments are pickled in the thread that
submits; lazy maps look ahead by a bound; a callback that raises becomes the result of its call.
"""

import _signal
import atexit
import os
import sys
import threading
import warnings
import weakref

from . import _engine, _titles, _tracebacks, spawn, util
from . import process as _process
from ._remote import MaybeEncodingError, RemoteTraceback
from ._by_value import Values
from ._standard import standard
from ._start_method import default_context
from ._waiting import running_caller, until_told

_standard = standard('pool')

# A pool's thread that is in Python code when the interpreter is finalized would end the program by
# SIGABRT.
atexit.register(_engine.end_engine_calls)

__all__ = ['Pool', 'ThreadPool']

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


# Pools by fork, for threads that come by at all of them.
_forking = weakref.WeakSet()


def come_by():
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
    """

    # Of one whose `__init__` has not begun.
    _state = INIT
    # What subclasses ask of the engine besides.
    _engine_terms = {}

    def __init__(
        self,
        processes=None,
        initializer=None,
        initargs=(),
        maxtasksperchild=None,
        context=None,
        *,
        max_memory_per_child=None,
        daemon=True,
    ):
        self._state = INIT
        self._engine = None
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
        if initializer is not None and not callable(initializer):
            raise TypeError('initializer must be a callable')
        # Weak references without a callback: a Ctrl-C that came in one would be ignored. Those of
        # feeds that are gone are taken off now and then.
        self._feeds = []
        self._most_feeds = 8
        self._workers = []
        starting = _Starting(self, processes, daemon, max_memory_per_child)
        limits = (maxtasksperchild, max_memory_per_child)
        method = self._ctx.get_start_method()
        if method not in _engine.get_all_start_methods():
            # Another library's, which says itself in which threads it forks.
            method = 'spawn'
        self._values = values = Values(self._ctx.get_start_method() == 'fork' or spawn.finds_main())
        try:
            self._engine = _engine.Pool(processes, method, starting, values, *limits, **self._engine_terms)
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
        self._terminate = util.Finalize(self, _terminate, args=(self._engine, self._workers), exitpriority=15)
        self._state = RUN

    def apply(self, func, args=(), kwds={}, *, timeout=None, retries=0):
        """Returns `func(*args, **kwds)`, called in a worker; raises what it raises.

        Raises `WorkerLost` if the worker was killed or ended by the task, `TaskTimeoutError` after
        `timeout` seconds of the task's run, `BrokenPoolError` if no worker can be kept, and
        `ValueError` if the pool takes no more. An interrupted wait cancels the call.
        """
        if self._state != RUN:
            self._check_running()
        return self._engine.apply(self, func, args, kwds, timeout, retries, True)

    def apply_async(
        self, func, args=(), kwds={}, callback=None, error_callback=None, *, timeout=None, retries=0
    ):
        """Has `func(*args, **kwds)` called in a worker; returns its `AsyncResult`.

        A task that runs longer than `timeout` seconds is ended with its worker, and fails with
        `TaskTimeoutError`. One whose worker is lost is run again, up to `retries` times.
        """
        if self._state != RUN:
            self._check_running()
        result = self._engine.apply(self, func, args, kwds, timeout, retries)
        if callback is not None or error_callback is not None:
            result._call_back(callback, error_callback)
        return result

    def map(self, func, iterable, chunksize=None, *, timeout=None, retries=0):
        """Returns the list of `func(x)` for each `x` of the iterable; of errors, as in `apply`, the
        first one's is raised.

        `timeout` is in seconds, for each call of `func`; `chunksize` is how many items a worker is
        given at once.
        """
        return self._map(func, iterable, chunksize, False, None, None, timeout, retries, True)

    def map_async(
        self, func, iterable, chunksize=None, callback=None, error_callback=None, *, timeout=None, retries=0
    ):
        """As `map`, but returns an `AsyncResult`."""
        return self._map(func, iterable, chunksize, False, callback, error_callback, timeout, retries)

    def starmap(self, func, iterable, chunksize=None, *, timeout=None, retries=0):
        """Returns the list of `func(*x)` for each `x` of the iterable."""
        return self._map(func, iterable, chunksize, True, None, None, timeout, retries, True)

    def starmap_async(
        self, func, iterable, chunksize=None, callback=None, error_callback=None, *, timeout=None, retries=0
    ):
        """As `starmap`, but returns an `AsyncResult`."""
        return self._map(func, iterable, chunksize, True, callback, error_callback, timeout, retries)

    def imap(self, func, iterable, chunksize=1, *, buffersize=None, timeout=None, retries=0):
        """Yields `func(x)` for each `x` of the iterable, in its order.

        The iterable is pulled as results are taken, at most `buffersize` items ahead of them (by
        default 64 for each worker), so that an endless one runs in constant memory. What it raises
        is raised where its results are taken.
        """
        return self._imap(func, iterable, chunksize, True, buffersize, timeout, retries)

    def imap_unordered(self, func, iterable, chunksize=1, *, buffersize=None, timeout=None, retries=0):
        """As `imap`, but yields results as they come."""
        return self._imap(func, iterable, chunksize, False, buffersize, timeout, retries)

    def close(self):
        """Takes no more tasks. Workers end when those that were given are finished."""
        util.debug('closing pool')
        if self._state == RUN:
            self._state = CLOSE
            self._engine.close()

    def terminate(self):
        """Ends the workers at once and gives up what is not finished, without a callback: `get`
        then raises.
        """
        util.debug('terminating pool')
        self._state = TERMINATE
        self._terminate()

    def join(self):
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
        _let_go(self._workers)

    def resize(self, processes):
        """Keeps so many workers from now on; of fewer, those that are too many end after the task
        that they run.

        Raises `ValueError` for less than one, and for more than the pool has room for, which the
        error tells.
        """
        self._check_running()
        if processes < 1:
            raise ValueError('Number of processes must be at least 1')
        self._engine.resize(processes)

    def stats(self):
        """What the pool is doing now, as a dict.

        `workers`: for each its `pid`, what it is `running` (job, task, seconds; or `None`), how
        many tasks it has `done`, its `resident` memory in bytes. Tasks `queued`, `done`, `failed`
        and `lost`, and how many workers were started in the place of others: `respawns`.

        A task is one call of the function, also where a chunk of them travels together. Tasks are
        `queued` while no worker has begun their chunk, and `done` once their result has arrived. If
        a task of a chunk raises, it is the one that has `failed`; the others of the chunk, whose
        results are dropped, are in no count. If a worker is lost, so is the chunk that it was at.
        """
        return self._engine.stats()

    @property
    def _processes(self):
        return self._engine.size() if self._engine else 0

    @property
    def _pool(self):
        """The worker processes that are alive."""
        if self._engine is None or self._state == INIT:
            return []
        alive = self._engine.worker_pids()
        known = {process.pid: process for process in self._workers}
        return [known[pid] for pid in alive if pid in known]

    def _repopulate_pool(self):
        self._engine.worker_pids()

    def _note_loop(self):
        """Notes that the event loop of this thread, if it has one, can have the thread come by.

        Under fork it is the program's threads that start a worker in a lost one's place, as they
        come by to submit or to wait. One that waits in its event loop does not come by of its own
        accord.
        """
        if self._ctx.get_start_method() == 'fork' and (call_soon := running_caller()) is not None:
            self._callers[threading.get_ident()] = call_soon

    def _check_running(self):
        if self._state != RUN:
            raise ValueError('Pool not running')

    def _map(self, func, iterable, chunksize, is_star, callback, error_callback, timeout, retries, waits=False):
        self._check_running()
        if chunksize is not None and chunksize < 1:
            raise ValueError(f'Chunksize must be 1+, not {chunksize:n}')
        # A range becomes lists in parts; if each part is one item, all at once is quicker.
        is_sliced = type(iterable) is list or (type(iterable) is range and chunksize != 1)
        items = iterable if is_sliced else list(iterable)
        result = self._engine.map(self, func, items, chunksize, is_star, timeout, retries, waits)
        if callback is not None or error_callback is not None:
            result._call_back(callback, error_callback)
        return result

    def _imap(self, func, iterable, chunksize, is_ordered, buffersize, timeout, retries):
        self._check_running()
        if chunksize < 1:
            raise ValueError(f'Chunksize must be 1+, not {chunksize:n}')
        feed = self._engine.imap(self, func, iter(iterable), chunksize, is_ordered, buffersize, timeout, retries)
        if len(self._feeds) >= self._most_feeds:
            self._feeds = [reference for reference in self._feeds if reference() is not None]
            self._most_feeds = 8 + 2 * len(self._feeds)
        self._feeds.append(weakref.ref(feed))
        return feed

    def __enter__(self):
        self._check_running()
        return self

    def __exit__(self, exc_type, exc_val, exc_tb):
        self.terminate()

    async def __aenter__(self):
        self._check_running()
        return self

    async def __aexit__(self, exc_type, exc_val, exc_tb):
        # As `terminate`, with the loop free meanwhile.
        self._state = TERMINATE
        self._engine.begin_to_terminate()
        await until_told(self._engine.when_gone, lambda: None)
        self._terminate()

    def __reduce__(self):
        raise NotImplementedError('pool objects cannot be passed between processes or pickled')

    def __del__(self, _warn=warnings.warn, RUN=RUN):
        if self._state == RUN:
            _warn(f'unclosed running multiprocessing pool {self!r}', ResourceWarning, source=self)
            self._terminate()

    def __repr__(self):
        cls = self.__class__
        size = self._engine.size() if self._engine else 0
        return f'<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={size}>'


class _VacancyCallback:
    """Has the threads whose event loops are known come by, so that one of them starts a worker. The
    engine calls it.
    """

    def __init__(self, callers, pool):
        self._callers, self._pool = callers, pool

    def __call__(self):
        for thread, call_soon in list(self._callers.items()):
            try:
                call_soon(self._come_by)
            except RuntimeError:
                # The loop has ended.
                self._callers.pop(thread, None)

    def _come_by(self):
        pool = self._pool()
        if pool is not None:
            pool._repopulate_pool()


class _Starting:
    """How a pool's workers are started. The engine calls it, and it must not keep the pool."""

    def __init__(self, pool, processes, daemon, max_memory):
        self._ctx = pool._ctx
        self._process = pool.Process
        self._daemon = daemon
        self._call = (pool._initializer, pool._initargs)
        self._limits = (pool._maxtasksperchild, max_memory)
        self._workers = pool._workers
        self._processes = processes
        # Those of the first that the engine has not asked for yet.
        self._ahead = None
        # Why the last one that could not be started could not.
        self.error = None

    def __call__(self, name, control, slot, broker, blocked):
        # A Ctrl-C is for the program: a worker hears one in its tasks alone.
        self._mask = {*blocked, _signal.SIGINT}
        try:
            if self._ahead is None:
                # All of the first at once: what this process does between two forks is memory that
                # their children do not share.
                self._ahead = {}
                self._ahead = {slot: self._start(control, slot, broker) for slot in range(self._processes)}
            if slot in self._ahead:
                return self._ahead.pop(slot)
            _let_go(self._workers)
            return self._start(control, slot, broker)
        except Exception as error:
            self.error = error
            raise

    def _start(self, control, slot, broker):
        args = (_Fd(control), slot, _Fd(broker), *self._limits, *self._call)
        process = self._process(self._ctx, target=_worker, args=args)
        process.name = process.name.replace('Process', 'PoolWorker')
        process.daemon = self._daemon
        process._is_worker = True
        process._hears_interrupts = False
        process._signal_mask = self._mask
        try:
            self._begin(process)
            self._workers.append(process)
            util.debug('added worker')
            return _held(process)
        except BaseException:
            # Nobody else knows of it.
            if getattr(process, '_popen', None) is not None:
                getattr(process, 'kill', process.terminate)()
                process.join()
            raise

    def _begin(self, process):
        if isinstance(process, _process.BaseProcess):
            process.start()
            return
        # Another library's children, and the servers and trackers that it starts for them, have the
        # signals blocked that are blocked here: all.
        blocked = _signal.pthread_sigmask(_signal.SIG_SETMASK, self._mask)
        try:
            process.start()
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, blocked)


def _held(process):
    """The engine's hold on a started process; `None` if it is none."""
    child = getattr(getattr(process, '_popen', None), '_child', None)
    if isinstance(child, _engine.Child):
        return child
    # Of another library: at once, as the start of the next may reap it.
    pid = getattr(process, 'pid', None)
    return None if pid is None else _engine.Child.of_others(pid, process.name, process.daemon)


class _Fd:
    """An fd of the parent's among a worker's arguments: inherited, or sent."""

    def __init__(self, fd):
        self.fd = fd

    def __reduce__(self):
        from .reduction import DupFd

        return _received, (DupFd(self.fd),)


def _received(sent):
    return _Fd(sent.detach())


def _worker(control, slot, broker, max_tasks, max_memory, initializer, initargs):
    """What a worker process runs."""
    if _process._link is None and (parent := _process.parent_process()) is not None:
        # Another library's process, which does not end with its parent by itself.
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    # The process's own handler comes first, though nothing is heard yet: one that the initializer
    # sets is to stay.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGINT])
    if _process._hear_interrupts not in (None, spawn.hear_interrupts):
        _process._hear_interrupts()
    _titles.show_worker(slot)
    if initializer is not None:
        _initialize(initializer, initargs)
    try:
        spawn.hear_interrupts()
        code = _engine.run_worker(control.fd, slot, broker.fd, max_tasks, max_memory)
    except KeyboardInterrupt:
        # Outside of any task: it was for the program.
        code = 0
    util.debug('worker exiting')
    if code:
        sys.exit(code)


def _initialize(initializer, initargs):
    try:
        initializer(*initargs)
    except Exception as error:
        if _process._link is None:
            raise
        # Others may fail for the same cause. The parent shows it once, if no worker can be kept.
        _tracebacks.annotate(error, 'in its initializer')
        _process._leave_outcome('raised', _tracebacks.cut(error))
        sys.exit(1)


def _end_with(parent):
    parent.join()
    os._exit(1)


def _terminate(engine, workers):
    engine.terminate()
    _let_go(workers)


def _let_go(workers):
    """Takes those that have ended off the list. With the last that holds such a process its pidfd
    is closed.
    """
    if any(getattr(process, '_parent_pid', os.getpid()) != os.getpid() for process in workers):
        # In a process forked from the one that has the pool.
        return
    workers[:] = [process for process in workers if process.is_alive()]
