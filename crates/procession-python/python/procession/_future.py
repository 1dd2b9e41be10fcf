"""Futures of executors, and what they raise. Used in the parent, in any thread.

A future is a `concurrent.futures.Future` whose call is the engine's. Whoever waits in `result`
waits in the engine: the thread that wants a result takes it off the workers' streams by itself, and
no other thread stands between. Only a future that is *watched* (it has a done-callback, or `wait`
or `as_completed` waits for it) is finished by the pool's thread, as soon as its result is there.

A future holds its call until its result has been taken over; then it is as any other that is done.

It fills in private parts of the standard library's future, so that the thread that waits for a
result takes it from the engine. A plain one, which the pool's thread finishes, was measured beside
it: the round trip took 5 times as long, and a thousand in flight 4 times.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future as _StandardFuture
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, LOGGER, PENDING, RUNNING
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from typing import Any, TypeVar, cast

from . import _errors
from ._remote import MaybeEncodingError, RemoteTraceback
from .pool import come_by

__all__ = ['BrokenPoolError', 'Future', 'WorkerLost']

_T = TypeVar('_T')

# Seconds between two looks of a thread that waits for several futures under fork.
_LOOK_EVERY = 0.1


class WorkerLost(_errors.WorkerLost, BrokenProcessPool):
    """A worker ended while it ran this task; the executor goes on.

    It is a `procession.WorkerLost`, which says what happened to the worker, and a
    `BrokenProcessPool`, so that clauses written for the standard library's executor catch it. There
    the executor is of no more use; here it is::

        try:
            future.result()
        except BrokenProcessPool:
            future = executor.submit(function)
    """

    __module__ = 'procession.futures'


class BrokenPoolError(_errors.BrokenPoolError, BrokenProcessPool):
    """The executor can keep no worker, and takes no more tasks; `__cause__` says why."""

    __module__ = 'procession.futures'


def as_raised_here(error: BaseException) -> BaseException:
    """Returns the error of a call of a pool as an executor raises it."""
    kind = type(error)
    if kind is MaybeEncodingError and isinstance(cause := error.__cause__, BaseException):
        if type(cause) is not RemoteTraceback:
            # The standard library's executor raises what pickling the result raised.
            cause.add_note(str(error))
            error = cause
    link, seen = error, set[int]()
    while (cause := link.__cause__) is not None and id(cause) not in seen:
        if type(cause) is RemoteTraceback:
            link.__cause__ = _RemoteTraceback(cause.tb)  # type: ignore[arg-type]
            break
        seen.add(id(cause))
        link = cause
    # One with a cause is of a pool that the task itself had.
    if kind is _errors.WorkerLost and error.__cause__ is None:
        raised: BaseException = WorkerLost(*error.args)
        vars(raised).update(vars(error))
    elif kind is _errors.BrokenPoolError or kind is _errors.ProcessError:
        raised = BrokenPoolError(*error.args)
    else:
        return error
    raised.__cause__ = error.__cause__
    return raised


class _AtFirstUse:
    """An attribute that most futures never need: made when it is first asked for, by whichever
    thread is first.
    """

    def __init__(self, make: Callable[[], Any], is_watched: bool = False) -> None:
        self._make, self._is_watched = make, is_watched

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, future: Future[Any] | None, owner: type | None = None) -> Any:
        if future is None:
            return self
        made = vars(future).setdefault(self._name, self._make())
        if self._is_watched:
            future._watch()
        return made


class _Waiters(list[Any]):
    """Those who wait for a future: `wait` and `as_completed`."""

    def append(self, waiter: Any) -> None:
        # It sleeps at an event of its own, where it would not come by to start a worker.
        if type(waiter.event) is threading.Event:
            waiter.event.__class__ = _ComingBy
        super().append(waiter)


class _ComingBy(threading.Event):
    """An event whose waiters come by at pools that are to be looked after."""

    def wait(self, timeout: float | None = None) -> bool:
        end = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            if come_by():
                left = _LOOK_EVERY if left is None else min(_LOOK_EVERY, left)
            super().wait(left)
        return self.is_set()


class _Watch:
    """Says that the pool's thread finishes a future."""


class Future(_StandardFuture[_T]):
    """The result of a call that an executor was given.

    It is what `concurrent.futures` knows (`as_completed`, `wait` and `asyncio.wrap_future` take
    it), and `cancel` can stop a running task too.
    """

    __module__ = 'procession.futures'

    _condition = _AtFirstUse(threading.Condition)
    _done_callbacks = _AtFirstUse(list)
    # Only those who wait for it ask for that.
    _waiters = _AtFirstUse(lambda: _Waiters(), is_watched=True)
    _result: Any = None
    _exception: BaseException | None = None
    # The state as far as it has been taken over from the call, and the call until then.
    _known: str = PENDING
    _call: Any = None

    def __init__(self, call: Any) -> None:
        self._call = call

    @property
    def _state(self) -> str:
        if self._known is PENDING and (call := self._call) is not None:
            if call._is_finished():
                self._take_over()
            elif call._is_running():
                return RUNNING
        return self._known

    @_state.setter
    def _state(self, state: str) -> None:
        self._known = state

    def result(self, timeout: float | None = None) -> _T:
        """Returns what the call returned, or raises what it raised; waits for it, for `timeout`
        seconds at most.

        Raises `TimeoutError` if there is no result by then, `CancelledError` if the future was
        cancelled, and `WorkerLost` if the worker ended while it ran the task.
        """
        self._await(timeout)
        error = self._exception
        if error is not None:
            try:
                raise error
            finally:
                # The error's traceback holds this frame.
                del self, error
        return cast(_T, self._result)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Returns what the call raised, or `None`; waits as `result` does."""
        self._await(timeout)
        return self._exception

    def cancel(self, running: bool = False) -> bool:
        """Cancels the call if it has not begun, or, with `running=True`, also if it runs: its
        worker is ended and replaced.

        Returns whether it is cancelled. The standard library's future cannot stop what runs, and
        takes no argument.

        >>> future = executor.submit(time.sleep, 1000)
        >>> future.cancel(running=True)
        True
        """
        if self._known is PENDING and (call := self._call) is not None:
            # Whatever became of the call, `cancelled` sees it.
            call.cancel() if running else call._withdraw()
        return self.cancelled()

    def add_done_callback(self, fn: Callable[[_StandardFuture[_T]], object]) -> None:
        """Has `fn(self)` called when the future is done; at once if it is.

        It is called in the pool's thread, so it should be brief: the results of other futures that
        are watched wait for it.
        """
        if self._known is PENDING:
            self._watch()
        super().add_done_callback(fn)

    def _await(self, timeout: float | None) -> None:
        if self._known is PENDING and (call := self._call) is not None:
            if not call._wait_finished(timeout):
                raise TimeoutError()
            self._take_over()
        if self._known is CANCELLED_AND_NOTIFIED or self._known is CANCELLED:
            raise CancelledError()

    def _watch(self) -> None:
        """Has the pool's thread finish it, unless it is being finished by those who wait for its
        result alone.
        """
        mine = _Watch()
        if vars(self).setdefault('_finished_by', mine) is mine and (call := self._call) is not None:
            call._when_finished(self._tell)
            if (pool := call._pool()) is not None:
                pool._note_loop()

    def _take_over(self) -> None:
        """Takes the result over from the call, which has it."""
        if vars(self).setdefault('_finished_by', None) is None:
            # More than one thread may do so at a time: all find the same.
            self._read()
            return
        with self._condition:
            if self._known is not PENDING:
                return
            state = self._read()
            for waiter in self._waiters:
                if state is CANCELLED_AND_NOTIFIED:
                    waiter.add_cancelled(self)
                elif self._exception is not None:
                    waiter.add_exception(self)
                else:
                    waiter.add_result(self)
            self._condition.notify_all()

    def _read(self) -> str:
        call = self._call
        if call is None:
            return self._known
        state = FINISHED
        try:
            self._result = call._value()
        except _errors.CancelledError:
            state = CANCELLED_AND_NOTIFIED
        except BaseException as error:
            # The call keeps one error for all; what it is here is kept likewise.
            vars(self).setdefault('_exception', as_raised_here(error))
        self._known = state
        self._call = None
        return state

    def _tell(self) -> None:
        """In the pool's thread, once, when the call of a watched future is finished."""
        self._take_over()
        with self._condition:
            callbacks, self._done_callbacks = self._done_callbacks, []
        for callback in callbacks:
            try:
                callback(self)
            except Exception:
                LOGGER.exception('exception calling callback for %r', self)
