"""The workers of a pool: how the parent starts them, and what each of them runs (`_worker`)."""

from __future__ import annotations

import _signal
import os
import sys
import threading

from . import _engine, _errors, _remote, _stacks, _titles, _tracebacks, process as _process, spawn, util

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ._engine import Child, Setting
    from ._places import Place

# In a worker whose tasks run on another machine: the socket and the memfd to its carrier.
_carrier: tuple[int, int] | None = None


def use_carrier(fd: int, bulk: int) -> None:
    """In a worker: from now on its tasks run on another machine."""
    global _carrier
    _carrier = fd, bulk


class Starting:
    """Starts the workers of a pool. The engine calls it, and it must not keep the pool."""

    def __init__(self, pool: Any, processes: int, daemon: bool, max_memory: int | None) -> None:
        self._ctx = pool._ctx
        self._process = pool.Process
        self._daemon = daemon
        self._call = (pool._initializer, pool._initargs, pool._finalizer)
        self._limits = (pool._maxtasksperchild, max_memory)
        self._places = pool._places
        self._workers: list[Any] = pool._workers
        self._processes = processes
        # Those of the first that the engine has not asked for yet.
        self._ahead: dict[int, Child | None] | None = None
        # The error of the last one that could not be started.
        self.error: Exception | None = None

    def __call__(
        self, name: str, control: int, slot: int, broker: int, blocked: Iterable[int], setting: Setting | None
    ) -> Child | None:
        # A Ctrl-C is for the program: a worker hears one in its tasks alone.
        self._mask = {*blocked, _signal.SIGINT}
        try:
            if setting is not None:
                self.let_go()
                return self._start(control, slot, broker, setting)
            if self._ahead is None:
                # All of the first at once: what this process does between two forks is memory that
                # their children do not share.
                self._ahead = {}
                self._ahead = {slot: self._start(control, slot, broker) for slot in range(self._processes)}
            if slot in self._ahead:
                return self._ahead.pop(slot)
            self.let_go()
            return self._start(control, slot, broker)
        except Exception as error:
            self.error = error
            raise

    def _start(self, control: int, slot: int, broker: int, setting: Any = None) -> Child | None:
        place = None if self._places is None else self._places[slot]
        args = (_Fd(control), slot, _Fd(broker), *self._limits, *self._call, place)
        process = self._process(self._ctx, target=_worker, args=args)
        process.name = process.name.replace('Process', 'PoolWorker')
        process.daemon = self._daemon
        process._is_worker = True
        process._slot = slot
        process._place = place
        if setting is not None:
            from ._output import surround

            surround(process, setting)
        process._hears_interrupts = False
        process._signal_mask = self._mask
        try:
            self._begin(process)
            self._workers.append(process)
            # Of a process before it that had its pid.
            # A context of the program's may make what is no process; the engine says so.
            _errors.forget_place(getattr(process, 'pid', None))
            util.debug('added worker')
            return _held(process)
        except BaseException:
            # Nobody else knows of it.
            if getattr(process, '_popen', None) is not None:
                getattr(process, 'kill', process.terminate)()
                process.join()
            raise

    def let_go(self) -> None:
        """Takes those that have ended off the pool's list. With the last that holds such a process
        its pidfd is closed.
        """
        if any(getattr(process, '_parent_pid', os.getpid()) != os.getpid() for process in self._workers):
            # In a process forked from the one that has the pool.
            return
        self._workers[:] = [process for process in self._workers if process.is_alive()]

    def _begin(self, process: Any) -> None:
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


def _held(process: Any) -> Child | None:
    """The engine's hold on a started process; `None` if it is none."""
    child = getattr(getattr(process, '_popen', None), '_child', None)
    if isinstance(child, _engine.Child):
        return child
    # Of another library: at once, as the start of the next may reap it.
    pid = getattr(process, 'pid', None)
    return None if pid is None else _engine.Child.of_others(pid, process.name, process.daemon)


class _Fd:
    """An fd of the parent's among a worker's arguments: inherited, or sent."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Any, ...]:
        from .reduction import DupFd

        return _received, (DupFd(self.fd),)


# The finalizers of this package and of `multiprocessing` have lower ones.
_FINALIZER_PRIORITY = 1000


def _received(sent: Any) -> _Fd:
    return _Fd(sent.detach())


def _worker(
    control: _Fd,
    slot: int,
    broker: _Fd,
    max_tasks: int | None,
    max_memory: int | None,
    initializer: Callable[..., object] | None,
    initargs: Iterable[Any],
    finalizer: Callable[[], object] | None,
    place: Place | None,
) -> None:
    """Serves the pool in a worker process."""
    if place is not None:
        if _process.current_worker() is None:
            # Forked, or another library's process, which nobody has prepared.
            place.enter()
        place.limit_loaded()
        place.limit_process()
    _process._become_worker(slot)
    if _process._link is None and (parent := _process.parent_process()) is not None:
        # Another library's process, which does not end with its parent by itself.
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    # The process's own handler comes first, though nothing is heard yet: one that the initializer
    # sets is to stay.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGINT])
    hear_interrupts = _process._hear_interrupts
    if hear_interrupts is not None and hear_interrupts is not spawn.hear_interrupts:
        hear_interrupts()
    _titles.show_worker(slot)
    _stacks.offer()
    if initializer is not None:
        _initialize(initializer, initargs)
    if finalizer is not None:
        # Before the finalizers of what it may need.
        util.Finalize(None, finalizer, exitpriority=_FINALIZER_PRIORITY)
    try:
        spawn.hear_interrupts()
        code = _engine.run_worker(control.fd, slot, broker.fd, max_tasks, max_memory, _carrier)
    except KeyboardInterrupt:
        # Outside of any task: it was for the program.
        code = 0
    util.debug('worker exiting')
    if code:
        sys.exit(code)


def _initialize(initializer: Callable[..., object], initargs: Iterable[Any]) -> None:
    pid = os.getpid()
    try:
        initializer(*initargs)
    except BaseException as error:
        if os.getpid() != pid:
            _remote.leave_copy(error)
        if not isinstance(error, Exception) or _process._link is None:
            raise
        # Others may fail for the same cause. The parent shows it once, if no worker can be kept.
        _tracebacks.annotate(error, 'in its initializer')
        _process._leave_outcome('raised', _tracebacks.cut(error))
        sys.exit(1)
    if os.getpid() != pid:
        # The initializer has forked this process, which is no worker. Its parent is.
        _remote.leave_copy(None)


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
