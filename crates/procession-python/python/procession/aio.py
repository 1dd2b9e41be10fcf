"""Calls in worker processes for programs of asyncio, trio or anyio. Used in the parent, in an event
loop::

    import asyncio, procession.aio

    async def main():
        print(await procession.aio.run(pow, 2, 8))

    if __name__ == '__main__':
        asyncio.run(main())

Pools have the rest: the result of `apply_async` and `map_async` is awaited, `imap` and
`imap_unordered` are iterated by `async for`, and `async with` ends a pool. Queues have `aget` and
`aput`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from ._executor import _Workers
from ._start_method import default_context
from ._steering import Terms
from ._waiting import in_thread

__all__ = ['run', 'shutdown']

_T = TypeVar('_T')

# Seconds after which workers end that nobody has needed.
_IDLE_TIMEOUT = 300.0

# The workers of this process.
_kept: tuple[int, _Workers] | None = None


async def run(func: Callable[..., _T], *args: Any, timeout: float | None = None) -> _T:
    """Returns `func(*args)`, called in a worker process; raises what it raises.

    Cancelling the task that awaits this ends the call with its worker. A call that runs longer than
    `timeout` seconds is ended with its worker, and raises `procession.TaskTimeoutError`. If the
    worker is lost, this raises `procession.WorkerLost`.

    There are as many workers as this process may use cores, started by the fork server as they are
    needed; they end after five minutes without a call. The first call waits, in a thread, until the
    first one has begun.

    How it differs from `anyio.to_process.run_sync`: a cancelled call is always ended, it takes a
    `timeout`, it runs under asyncio without anyio, and a result's large buffers do not go through a
    pipe.
    """
    workers = _workers()
    if not workers.has_begun():
        await in_thread(workers.begin)
    result: _T = await workers.submit(func, args, {}, Terms(timeout))
    return result


def shutdown() -> None:
    """Ends the workers that are kept for `run`, once they have finished what they run; waits for
    that. Later calls have others.

    Without it they end when they have been idle for long enough, and with the program.
    """
    global _kept
    kept, _kept = _kept, None
    if kept is not None and kept[0] == os.getpid():
        kept[1].shutdown(wait=True, cancel_futures=False)


def _workers() -> _Workers:
    global _kept
    if _kept is None or _kept[0] != os.getpid():
        context = default_context().get_context('forkserver')
        _kept = os.getpid(), _Workers(None, context, None, (), None, _IDLE_TIMEOUT, {})
    return _kept[1]
