"""Waits outside the engine: in the event loop of asyncio or of trio, and so of anyio on either.
Used in the parent, in the thread of the loop.

Each wait has a `give_up`, called when the task that waits is cancelled.
"""

from __future__ import annotations

import os
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

__all__ = ['awaiting', 'next_of', 'rest', 'running_caller', 'running_library', 'until_readable', 'until_told', 'in_thread']

# Seconds that a result is looked for before the loop is left to run on: to be woken takes far
# longer than a short task.
_LOOK = 50e-6

# The number of awaits that this thread's loop is suspended in. A loop that has several at once is
# not kept from the others.
_waits = threading.local()


def running_library() -> str | None:
    """Returns which library's event loop runs in this thread: 'asyncio', 'trio', or `None`."""
    # A library that is not imported does not run.
    if (trio := sys.modules.get('trio')) is not None and _is_in_trio(trio):
        return 'trio'
    if (asyncio := sys.modules.get('asyncio')) is not None and asyncio._get_running_loop() is not None:
        return 'asyncio'
    return None


def running_caller() -> Callable[[Callable[[], Any]], Any] | None:
    """Returns what has a function called soon in this thread's event loop, from any thread; `None`
    if none runs.
    """
    library = running_library()
    if library == 'trio':
        caller: Callable[[Callable[[], Any]], Any] = sys.modules['trio'].lowlevel.current_trio_token().run_sync_soon
        return caller
    if library == 'asyncio':
        soon: Callable[[Callable[[], Any]], Any] = sys.modules['asyncio'].get_running_loop().call_soon_threadsafe
        return soon
    return None


def awaiting(result: Any) -> Generator[Any, Any, Any]:
    """Returns the iterator by which the result of a call is awaited. Cancelling the task that
    awaits cancels the call.
    """
    return _awaited(result).__await__()


async def _awaited(result: Any) -> Any:
    if not result._is_finished() and not _is_soon(result):
        if (pool := result._pool()) is not None:
            pool._note_loop()
            del pool
        _waits.count = _count_waits() + 1
        try:
            await until_told(result._when_finished, result.cancel)
        finally:
            _waits.count -= 1
    else:
        await _checkpoint()
    return result._value()


async def next_of(iterator: Any) -> Any:
    """Returns the next result of a lazy map; raises `StopAsyncIteration` at its end."""
    from ._errors import TimeoutError

    await _checkpoint()
    if (pool := iterator._pool()) is not None:
        pool._note_loop()
        del pool
    while True:
        try:
            return iterator.next(0)
        except StopIteration:
            raise StopAsyncIteration from None
        except TimeoutError as error:
            # A task may raise that too, and then it has a cause.
            if error.__cause__ is not None:
                raise
        await until_told(iterator._when_next, lambda: None)


async def until_told(register: Callable[[Callable[[], None]], Any], give_up: Callable[[], Any]) -> None:
    """Waits until the function is called, in whatever thread, that it gives to `register`."""
    if running_library() == 'trio':
        await _until_told_in_trio(register, give_up)
        return
    loop, future = _future()

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    def tell() -> None:
        try:
            loop.call_soon_threadsafe(wake)
        except RuntimeError:
            # The loop is closed, and nobody waits.
            if not loop.is_closed():
                raise

    register(tell)
    try:
        await future
    except BaseException:
        give_up()
        raise


async def _until_told_in_trio(register: Callable[[Callable[[], None]], Any], give_up: Callable[[], Any]) -> None:
    trio: Any = sys.modules['trio']
    task, token, waits = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token(), True

    def wake() -> None:
        nonlocal waits
        if waits:
            waits = False
            trio.lowlevel.reschedule(task)

    def tell() -> None:
        try:
            token.run_sync_soon(wake)
        except trio.RunFinishedError:
            # Nobody waits.
            return

    def abort(_raise_cancel: Any) -> Any:
        nonlocal waits
        waits = False
        give_up()
        return trio.lowlevel.Abort.SUCCEEDED

    await trio.lowlevel.checkpoint_if_cancelled()
    register(tell)
    await trio.lowlevel.wait_task_rescheduled(abort)


async def until_readable(fd: int) -> None:
    """Waits until there is something to read from a file descriptor. Any number of tasks may wait
    for one.
    """
    # Loops take a number once.
    copy = os.dup(fd)
    try:
        if running_library() == 'trio':
            await sys.modules['trio'].lowlevel.wait_readable(copy)
            return
        loop, future = _future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        loop.add_reader(copy, wake)
        try:
            await future
        finally:
            loop.remove_reader(copy)
    finally:
        os.close(copy)


async def rest(seconds: float) -> None:
    """Lets other tasks run for so many seconds."""
    await sys.modules[_library()].sleep(seconds)


async def in_thread(function: Callable[[], Any]) -> Any:
    """Calls a function that takes its time in a thread of the library's."""
    if _library() == 'trio':
        return await sys.modules['trio'].to_thread.run_sync(function)
    return await sys.modules['asyncio'].to_thread(function)


async def _checkpoint() -> None:
    if running_library() == 'trio':
        # Each call of its functions is one.
        await sys.modules['trio'].lowlevel.checkpoint()


def _is_soon(result: Any) -> bool:
    """Returns whether the result comes in a moment, if the program awaits nothing else of ours."""
    return _count_waits() == 0 and running_library() == 'asyncio' and bool(result._wait_finished(_LOOK))


def _count_waits() -> int:
    count: int = getattr(_waits, 'count', 0)
    return count


def _future() -> tuple[Any, Any]:
    _library()
    loop = sys.modules['asyncio'].get_running_loop()
    return loop, loop.create_future()


def _library() -> str:
    library = running_library()
    if library is None:
        raise RuntimeError('this is awaited in an event loop of asyncio or trio, or of anyio on either: none runs in this thread')
    return library


def _is_in_trio(trio: Any) -> bool:
    lowlevel = getattr(trio, 'lowlevel', None)
    return lowlevel is not None and bool(lowlevel.in_trio_run())
