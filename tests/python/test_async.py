"""Pools, queues and calls in event loops: asyncio, trio, and anyio on both."""

import asyncio
import itertools
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading

import anyio
import procession
import procession.aio
import pytest
import trio
from tasks import add, end_by, fail, sleep, touch_and_wait
from waits import SCALE

SECONDS = 30 * SCALE

RUNNERS = {
    'asyncio': lambda main: asyncio.run(main()),
    'trio': trio.run,
    'anyio-asyncio': lambda main: anyio.run(main, backend='asyncio'),
    'anyio-trio': lambda main: anyio.run(main, backend='trio'),
}


@pytest.fixture(scope='module', autouse=True)
def _ended():
    yield
    procession.aio.shutdown()


@pytest.fixture(params=RUNNERS)
def run(request):
    """Returns a function that runs an async function, in each library in turn."""
    return RUNNERS[request.param]


@pytest.fixture(params=['anyio-asyncio', 'anyio-trio'])
def run_anyio(request):
    """The same, in the two that have anyio's words for tasks and scopes."""
    return RUNNERS[request.param]


# --- results --------------------------------------------------------------------------------------


def test_results_are_awaited(run, ctx):
    async def main():
        assert await pool.apply_async(add, (1, 2)) == 3
        assert await pool.map_async(abs, range(-100, 0)) == list(range(100, 0, -1))
        results = [pool.apply_async(add, (i, i)) for i in range(50)]
        assert [await result for result in results] == [2 * i for i in range(50)]
        # Again, and one that is there already.
        assert await results[0] == 0
        assert await pool.apply_async(sleep, (0.05,)) is None
        with pytest.raises(ValueError, match='not today'):
            await pool.apply_async(fail, ('not today',))
        with pytest.raises(Exception, match='pickle'):
            await pool.apply_async(print, (threading.Lock(),))
        return 'done'

    with ctx.Pool(2) as pool:
        assert run(main) == 'done'


def test_a_lost_worker_is_told_and_replaced(run, ctx):
    async def main():
        # All workers at once: while all of the program waits in its loop, that has to start others.
        lost = [pool.apply_async(end_by, (signal.SIGKILL,)) for _ in range(2)]
        others = [pool.apply_async(add, (i, i)) for i in range(20)]
        for result in lost:
            with pytest.raises(procession.WorkerLost, match='SIGKILL'):
                await result
        return [await result for result in others]

    with ctx.Pool(2) as pool:
        for _ in range(2):
            assert run(main) == [2 * i for i in range(20)]


def test_tasks_of_a_loop_await_beside_each_other(run_anyio, ctx):
    async def main():
        seen = []

        async def one(number):
            seen.append(await pool.apply_async(add, (number, number)))

        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(one, number)
        return sorted(seen)

    with ctx.Pool(2) as pool:
        assert run_anyio(main) == [2 * i for i in range(50)]


def test_a_result_is_awaited_only_in_a_loop(ctx):
    async def main():
        return await pool.apply_async(sleep, (0.2,))

    with ctx.Pool(1) as pool:
        with pytest.raises(RuntimeError, match='event loop of asyncio or trio'):
            main().send(None)


# --- cancelling -----------------------------------------------------------------------------------


def test_cancelling_whoever_awaits_frees_the_worker(run_anyio, ctx, tmp_path):
    async def main():
        path = tmp_path / 'begun'

        async def wait():
            await pool.apply_async(touch_and_wait, (str(path),))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            while not path.exists():
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        return await pool.apply_async(add, (1, 2))

    with ctx.Pool(1) as pool:
        assert run_anyio(main) == 3
        assert pool.stats()['queued'] == 0


def test_what_has_not_begun_is_cancelled_with_whoever_awaits_it(run_anyio, ctx, tmp_path):
    async def main():
        running = pool.apply_async(touch_and_wait, (str(tmp_path / 'running'),))
        with anyio.move_on_after(0.1):
            await pool.apply_async(touch_and_wait, (str(tmp_path / 'queued'),))
        running.cancel()
        return await pool.apply_async(add, (1, 2))

    with ctx.Pool(1) as pool:
        assert run_anyio(main) == 3
    assert not (tmp_path / 'queued').exists()


def test_wait_for_cancels_the_call(ctx, tmp_path):
    async def main():
        for number in range(2):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pool.apply_async(touch_and_wait, (str(tmp_path / str(number)),)), 0.5)
        return await pool.apply_async(add, (1, 2))

    with ctx.Pool(1) as pool:
        assert asyncio.run(main()) == 3


def test_behind_a_shield_the_call_goes_on(ctx, tmp_path):
    async def main():
        result = pool.apply_async(sleep, (0.5,))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(result), 0.1)
        return await result, await pool.apply_async(add, (1, 2))

    with ctx.Pool(1) as pool:
        assert asyncio.run(main()) == (None, 3)


LEFT = """
    import asyncio, sys, time
    import procession

    async def wait_for(pool):
        for _ in range(3):
            try:
                await asyncio.wait_for(pool.apply_async(time.sleep, (1000,)), 0.2)
            except asyncio.TimeoutError:
                print('timed out', flush=True)
        # And one that nobody awaits to its end, whose result comes when the loop is gone.
        task = asyncio.ensure_future(asyncio.shield(pool.apply_async(time.sleep, (0.5,))))
        await asyncio.sleep(0.05)

    if __name__ == '__main__':
        with procession.get_context(sys.argv[1]).Pool(2) as pool:
            asyncio.run(wait_for(pool), debug=True)
            time.sleep(0.8)
            print(pool.apply(abs, (-3,)))
"""


def test_nothing_is_printed_for_calls_that_were_given_up(method, tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(textwrap.dedent(LEFT))
    ran = subprocess.run([sys.executable, program, method], capture_output=True, text=True, timeout=SECONDS)
    assert (ran.returncode, ran.stderr) == (0, '')
    assert ran.stdout.splitlines() == ['timed out'] * 3 + ['3']


TOLD_LATE = """
    import sys, time
    import procession

    def tell():
        time.sleep(0.3)
        print('told', flush=True)

    if __name__ == '__main__':
        pool = procession.get_context(sys.argv[1]).Pool(1)
        # As `async with` has it, whose loop is woken by then.
        pool._engine.when_gone(tell)
        pool.terminate()
"""


def test_a_program_ends_after_whoever_is_told_of_a_pools_end(method, tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(textwrap.dedent(TOLD_LATE))
    ran = subprocess.run([sys.executable, program, method], capture_output=True, text=True, timeout=SECONDS)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, 'told\n', '')


# --- lazy maps and pools --------------------------------------------------------------------------


def test_lazy_maps_are_iterated(run, ctx):
    async def main():
        assert [value async for value in pool.imap(abs, range(-500, 0))] == list(range(500, 0, -1))
        assert [value async for value in pool.imap(abs, range(-500, 0), 7)] == list(range(500, 0, -1))
        assert sorted([value async for value in pool.imap_unordered(abs, range(-500, 0))]) == list(range(1, 501))
        slow = [value async for value in pool.imap_unordered(_after, [0.3, 0.0])]
        assert sorted(slow) == [0.0, 0.3]
        endless = pool.imap(abs, itertools.count())
        taken = []
        async for value in endless:
            taken.append(value)
            if len(taken) == 300:
                break
        assert taken == list(range(300))
        failing = pool.imap(_even, range(4))
        assert await anext(failing) == 0
        with pytest.raises(ValueError, match='odd'):
            await anext(failing)
        assert await anext(failing) == 2
        assert [value async for value in pool.imap(abs, [])] == []
        return 'done'

    with ctx.Pool(2) as pool:
        assert run(main) == 'done'


def _after(seconds):
    sleep(seconds)
    return seconds


def _even(number):
    if number % 2:
        raise ValueError('odd')
    return number


def test_a_pool_ends_with_its_block(run, ctx, tmp_path):
    async def main():
        async with ctx.Pool(2) as pool:
            assert await pool.apply_async(add, (1, 2)) == 3
            running = pool.apply_async(touch_and_wait, (str(tmp_path / 'begun'),))
            workers = list(pool._pool)
        with pytest.raises(ValueError, match='not running'):
            pool.apply_async(add, (1, 2))
        with pytest.raises(procession.ProcessError):
            await running
        return [worker.is_alive() for worker in workers]

    assert run(main) == [False, False]


def test_a_program_ends_in_order_right_after_its_pool(method):
    # The pool's thread tells the loop that the workers are gone, while the interpreter ends.
    program = textwrap.dedent(f"""
        import asyncio
        import procession

        async def main():
            async with procession.get_context({method!r}).Pool(2) as pool:
                await pool.apply_async(abs, (-1,))

        if __name__ == '__main__':
            asyncio.run(main())
    """)
    for _ in range(8):
        ran = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, timeout=SECONDS)
        assert (ran.returncode, ran.stderr) == (0, '')


# --- calls without a pool -------------------------------------------------------------------------


def test_a_call_runs_in_a_worker(run_anyio, tmp_path):
    async def main():
        assert await procession.aio.run(add, 1, 2) == 3
        assert await procession.aio.run(os.getpid) != os.getpid()
        with pytest.raises(ValueError, match='not today'):
            await procession.aio.run(fail, 'not today')
        with pytest.raises(procession.TaskTimeoutError):
            await procession.aio.run(touch_and_wait, str(tmp_path / 'timeout'), timeout=0.2)
        with pytest.raises(procession.WorkerLost):
            await procession.aio.run(end_by, signal.SIGKILL)
        with anyio.move_on_after(0.5) as scope:
            await procession.aio.run(touch_and_wait, str(tmp_path / 'cancelled'))
        assert scope.cancelled_caught
        return await procession.aio.run(add, 2, 2)

    assert run_anyio(main) == 4


# --- queues ---------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', ['Queue', 'JoinableQueue', 'SimpleQueue'])
def test_items_of_a_queue_are_awaited(run, method, kind):
    context = procession.get_context(method)

    async def main():
        await questions.aput(1)
        assert await answers.aget() == 2
        for number in range(100):
            await questions.aput(number)
        return [await answers.aget() for _ in range(100)]

    questions, answers = getattr(context, kind)(), getattr(context, kind)()
    process = context.Process(target=_double_all, args=(questions, answers))
    process.start()
    assert run(main) == [2 * i for i in range(100)]
    questions.put(None)
    process.join()
    questions.close()
    answers.close()


def _double_all(questions, answers):
    while (number := questions.get()) is not None:
        answers.put(2 * number)


def test_many_tasks_await_one_queue_without_a_thread_each(run_anyio, ctx):
    async def main():
        seen = []

        async def take():
            seen.append(await items.aget())

        before = threading.active_count()
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(take)
            await anyio.sleep(0.05)
            assert threading.active_count() == before
            for number in range(20):
                await items.aput(number)
        return sorted(seen)

    items = ctx.Queue()
    assert run_anyio(main) == list(range(20))
    items.close()


def test_room_in_a_queue_is_awaited_and_a_cancelled_wait_takes_nothing(run_anyio, ctx):
    async def main():
        await items.aput('first')
        with anyio.move_on_after(0.1) as scope:
            await items.aput('never')
        assert scope.cancelled_caught
        async with anyio.create_task_group() as group:
            group.start_soon(items.aput, 'second')
            await anyio.sleep(0.05)
            assert await items.aget() == 'first'
        assert await items.aget() == 'second'
        with anyio.move_on_after(0.1) as scope:
            await items.aget()
        assert scope.cancelled_caught
        await items.aput('third')
        return await items.aget()

    items = ctx.Queue(1)
    assert run_anyio(main) == 'third'
    with pytest.raises(queue.Empty):
        items.get_nowait()
    items.close()
    with pytest.raises(ValueError, match='closed'):
        run_anyio(lambda: items.aget())
