"""A program that mypy must accept under ``--strict``, and that runs: what type checkers know of the
package.

Each `assert_type` is a check of mypy's, and does nothing when the program runs.
"""

import asyncio
import ctypes
import multiprocessing.context
import multiprocessing.pool
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event as StandardEvent
from typing import Any, assert_type

import procession as mp
from procession.context import ForkContext, SpawnContext
from procession.futures import ProcessPoolExecutor
from procession.managers import SyncManager
from procession.pool import AsyncResult, IMapIterator, Pool
from procession.queues import JoinableQueue, Queue
from procession.shared_memory import SharedMemory
from procession.synchronize import Condition, Lock, OwnerDiedError


def length(text: str) -> int:
    return len(text)


def repeated(text: str, times: int) -> str:
    return text * times


def produce(queue: 'mp.Queue[str]', lock: Lock) -> int:
    with lock:
        queue.put('made')
    return 1


def size_of(pool: multiprocessing.pool.Pool, context: multiprocessing.context.BaseContext) -> int:
    return pool.apply(length, ('abc',)) + context.cpu_count() * 0


def show(line: mp.Line) -> None:
    assert_type(line.worker, int | None)


def shown(context: SpawnContext) -> None:
    process = context.Process(target=length, args=('a',), output=lambda line: print(line.text, line.worker), logs='INFO')
    process.start()
    with context.Pool(output=show, logs=True, process_group=True) as pool:
        assert_type(pool.apply(length, ('abc',)), int)
    ProcessPoolExecutor(output='null', logs=20).shutdown()


async def awaited(result: AsyncResult[int]) -> int:
    return assert_type(await result, int)


def pools(context: SpawnContext) -> None:
    with context.Pool(2, max_memory_per_child=1 << 30, daemon=False) as pool:
        assert_type(pool, Pool)
        assert_type(pool.map(length, ['a', 'bb'], timeout=30.0, retries=1), list[int])
        assert_type(pool.starmap(repeated, [('a', 2)]), list[str])
        assert_type(pool.imap(length, ['a'], buffersize=8), 'IMapIterator[int]')
        result = pool.apply_async(length, ('abc',), timeout=30.0)
        assert_type(result, AsyncResult[int])
        assert_type(result.get(30), int)
        assert_type(result.cancel(), bool)
        many: AsyncResult[list[int]] = pool.map_async(length, ['a'], callback=lambda lengths: print(sum(lengths)))
        assert_type(many.get(), list[int])
        assert_type(asyncio.run(awaited(pool.apply_async(length, ('ab',)))), int)
        pool.resize(3)
        assert_type(pool.stats()['respawns'], int)
        assert size_of(pool, context) == 3
        try:
            pool.apply(length, ('a',))
        except mp.TaskTimeoutError as error:
            assert_type(error.function, str)
        except mp.WorkerLost as error:
            assert_type(error.exitcode, int | None)
        except (mp.CancelledError, mp.BrokenPoolError):
            raise


def processes(context: ForkContext) -> None:
    queue: Queue[str] = context.Queue()
    lock = context.Lock()
    assert_type(lock, Lock)
    process = context.Process(target=produce, args=(queue, lock), daemon=True)
    process.start()
    try:
        outcome: int = process.result(timeout=30)
    except mp.ProcessLost as error:
        assert_type(error.pid, int | None)
        raise
    assert outcome == 1
    assert_type(queue.get(timeout=30), str)
    assert_type(process.exitcode, int | None)


def shared(context: ForkContext) -> None:
    number = context.Value(ctypes.c_int, 3, lock=context.RLock())
    assert_type(number, 'Synchronized[int]')
    bare = context.Value(ctypes.c_int, 4, lock=False)
    assert_type(bare, ctypes.c_int)
    with number.get_lock():
        number.value += bare.value
    assert_type(number.value, int)
    condition = context.Condition(context.Lock())
    assert_type(condition, Condition)
    with condition:
        assert_type(condition.wait_for(lambda: number.value), int)
    try:
        assert condition.acquire(timeout=1.0)
        condition.release()
    except OwnerDiedError as error:
        assert_type(error.pid, int | None)
    jobs: JoinableQueue[int] = mp.JoinableQueue(4)
    jobs.put(1)
    jobs.get()
    jobs.task_done()
    jobs.join()
    block = SharedMemory(create=True, size=8, track=False)
    block.buf[0] = 1
    block.close()
    block.unlink()
    left, right = mp.Pipe()
    left.send({'a': 1})
    received: Any = right.recv()
    assert received == {'a': 1}


def managed() -> None:
    with mp.Manager() as manager:
        assert_type(manager, SyncManager)
        numbers = manager.list([1, 2])
        numbers.append(3)
        assert sum(numbers) == 6


def refused() -> None:
    # Errors are found: under `--strict` an `ignore` that ignores nothing is an error.
    event: StandardEvent = mp.Event()  # type: ignore[assignment]
    event.set()
    print(mp.Process(target=length, arguments=('a',)))  # type: ignore[call-arg]


if __name__ == '__main__':
    pools(mp.get_context('spawn'))
    processes(mp.get_context('fork'))
    shared(mp.get_context('fork'))
    managed()
