"""Executors: `procession.futures`, as programs use them that know `concurrent.futures`."""

import asyncio
import concurrent.futures
import gc
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from concurrent.futures.process import BrokenProcessPool

import procession
import pytest
from processes import all_end
from procession.futures import ProcessPoolExecutor, WorkerLost
from tasks import add, end_by, exit_by, fail, initialize, initialized, sleep, touch_and_wait, wait_for_file
from waits import SCALE, until

SECONDS = 30 * SCALE


@pytest.fixture(scope='module', autouse=True)
def _supervised():
    """The first pool of a process has the engine make what it keeps."""
    with procession.Pool(1) as pool:
        pool.apply(abs, (-1,))


def _begun(executor, tmp_path, name='begun'):
    """A task that runs until it is stopped."""
    path = tmp_path / name
    future = executor.submit(touch_and_wait, str(path))
    until(path.exists)
    return future


# --- calls and their results ----------------------------------------------------------------------


def test_calls_and_maps(ctx, nothing_left):
    with ProcessPoolExecutor(2, ctx, initialize, (7,)) as executor:
        assert isinstance(executor, concurrent.futures.Executor)
        future = executor.submit(add, 1, 2)
        assert isinstance(future, concurrent.futures.Future) and future.result(SECONDS) == 3
        assert future.done() and not future.cancelled() and not future.running() and future.exception() is None
        assert executor.submit(initialized).result(SECONDS) == 7
        assert executor.submit(dict, a=1).result(SECONDS) == {'a': 1}
        for chunksize in (1, 7, 1000):
            assert list(executor.map(add, range(100), range(100), chunksize=chunksize)) == [2 * i for i in range(100)]
        with pytest.raises(ValueError, match='not today') as caught:
            executor.submit(fail, 'not today').result(SECONDS)
        assert 'raise ValueError' in str(caught.value.__cause__)
        refused = executor.submit(print, threading.Lock())
        assert isinstance(refused.exception(SECONDS), (TypeError, pickle.PicklingError))
    del executor, future, refused, caught


def test_futures_are_waited_for_in_all_ways(ctx):
    with ProcessPoolExecutor(2, ctx) as executor:
        futures = [executor.submit(add, i, i) for i in range(50)]
        assert {future.result() for future in concurrent.futures.as_completed(futures, SECONDS)} == set(range(0, 100, 2))
        # Those that are done and those that are not, twice the same.
        futures += [executor.submit(add, i, i) for i in range(50, 100)]
        assert len(list(concurrent.futures.as_completed([*futures, *futures], SECONDS))) == 100
        done, not_done = concurrent.futures.wait([executor.submit(add, 1, 1) for _ in range(20)], SECONDS)
        assert len(done) == 20 and not not_done
        called, told = [], threading.Event()
        future = executor.submit(add, 1, 2)
        future.add_done_callback(lambda future: (called.append(future.result()), told.set()))
        assert told.wait(SECONDS) and called == [3]
        future.add_done_callback(lambda future: called.append('at once'))
        assert called == [3, 'at once']


def test_results_are_waited_for_by_many_threads_at_once(ctx):
    with ProcessPoolExecutor(2, ctx) as executor:
        futures = [executor.submit(add, i, i) for i in range(300)]
        seen = [[] for _ in range(6)]

        def by_result(to):
            to.extend(future.result(SECONDS) for future in futures)

        def by_wait(to):
            concurrent.futures.wait(futures, SECONDS)
            to.extend(future.result(0) for future in futures)

        threads = [threading.Thread(target=[by_result, by_wait][i % 2], args=(seen[i],)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [[2 * i for i in range(300)]] * 6


def test_a_callback_may_wait_for_another_future(ctx):
    with ProcessPoolExecutor(2, ctx) as executor:
        other, told, seen = executor.submit(add, 2, 2), threading.Event(), []
        executor.submit(add, 1, 1).add_done_callback(lambda future: (seen.append(other.result(SECONDS)), told.set()))
        assert told.wait(SECONDS) and seen == [4]


def test_the_result_is_returned_while_callbacks_run(ctx):
    with ProcessPoolExecutor(1, ctx) as executor:
        may_end, in_callback = threading.Event(), threading.Event()
        future = executor.submit(add, 1, 1)
        future.add_done_callback(lambda _: (in_callback.set(), may_end.wait(SECONDS)))
        assert in_callback.wait(SECONDS)
        assert future.result(SECONDS) == 2
        may_end.set()


def test_an_executor_behind_asyncio(ctx):
    async def main(executor):
        loop = asyncio.get_running_loop()
        results = await asyncio.gather(*(loop.run_in_executor(executor, add, i, i) for i in range(10)))
        wrapped = await asyncio.wrap_future(executor.submit(add, 1, 2))
        with pytest.raises(ValueError, match='not today'):
            await asyncio.wrap_future(executor.submit(fail, 'not today'))
        return results, wrapped

    with ProcessPoolExecutor(2, ctx) as executor:
        assert asyncio.run(main(executor)) == ([2 * i for i in range(10)], 3)


def test_an_exit_in_a_task_is_its_exception_and_the_worker_goes_on(ctx):
    with ProcessPoolExecutor(1, ctx) as executor:
        worker = executor.submit(os.getpid).result(SECONDS)
        with pytest.raises(SystemExit):
            executor.submit(exit_by, 3).result(SECONDS)
        assert executor.submit(os.getpid).result(SECONDS) == worker


def test_a_map_pulls_no_more_than_its_buffer(ctx):
    pulled = []

    def numbers():
        for number in range(10_000_000):
            pulled.append(number)
            yield number

    with ProcessPoolExecutor(2, ctx) as executor:
        results = executor.map(abs, numbers(), buffersize=4)
        assert len(pulled) == 4
        assert [next(results) for _ in range(3)] == [0, 1, 2] and len(pulled) == 7
        results.close()
        for wrong, error in ((0, ValueError), ('2', TypeError)):
            with pytest.raises(error, match='buffersize'):
                executor.map(abs, [1], buffersize=wrong)


def test_a_map_that_is_out_of_time_cancels_what_has_not_begun(method, tmp_path):
    context = procession.get_context(method)
    with ProcessPoolExecutor(1, context) as executor:
        paths = [str(tmp_path / name) for name in 'abc']
        results = executor.map(wait_for_file, paths, [str(tmp_path / 'go')] * 3, timeout=0.2)
        until((tmp_path / 'a').exists)
        with pytest.raises(TimeoutError):
            next(results)
        (tmp_path / 'go').touch()
        assert executor.submit(add, 1, 1).result(SECONDS) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a', 'go']


# --- lost workers ---------------------------------------------------------------------------------


def test_a_killed_worker_fails_its_future_alone(ctx, nothing_left):
    with ProcessPoolExecutor(2, ctx) as executor:
        futures = [executor.submit(end_by, signal.SIGKILL) if i == 3 else executor.submit(add, i, i) for i in range(20)]
        with pytest.raises(BrokenProcessPool, match='SIGKILL') as caught:
            futures[3].result(SECONDS)
        assert isinstance(caught.value, procession.WorkerLost) and type(caught.value) is WorkerLost
        assert caught.value.exitcode == -signal.SIGKILL and type(pickle.loads(pickle.dumps(caught.value))) is WorkerLost
        assert [future.result(SECONDS) for i, future in enumerate(futures) if i != 3] == [2 * i for i in range(20) if i != 3]
        assert list(executor.map(abs, range(-10, 0))) == list(range(10, 0, -1))
    del executor, futures, caught


def test_a_map_over_a_killed_worker_raises_there(ctx):
    with ProcessPoolExecutor(1, ctx) as executor:
        results = executor.map(end_by, [signal.SIGKILL])
        with pytest.raises(BrokenProcessPool, match='SIGKILL'):
            next(results)
        assert executor.submit(add, 1, 1).result(SECONDS) == 2


def test_terms_of_a_view_hold_for_its_tasks(ctx, tmp_path):
    with ProcessPoolExecutor(1, ctx) as executor:
        view = executor.options(timeout=0.2, retries=0)
        with pytest.raises(procession.TaskTimeoutError):
            view.submit(sleep, 1000).result(SECONDS)
        again = executor.options(retries=1)
        assert again.submit(pid_of_second, str(tmp_path / 'first')).result(SECONDS) == executor.submit(os.getpid).result(SECONDS)
        assert list(again.map(abs, [-1, -2], chunksize=2)) == [1, 2]
        assert executor.submit(sleep, 0.5).result(SECONDS) is None
    with pytest.raises(RuntimeError, match='after shutdown'):
        view.submit(add, 1, 1)


def pid_of_second(path):
    try:
        os.mkdir(path)
    except FileExistsError:
        return os.getpid()
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_initializer_that_raises_breaks_the_executor(ctx):
    with ProcessPoolExecutor(1, ctx, fail, ('no beginning',)) as executor:
        with pytest.raises(BrokenProcessPool):
            executor.submit(add, 1, 1).result(SECONDS)
        until(lambda: executor._broken)
        with pytest.raises(BrokenProcessPool) as caught:
            executor.submit(add, 1, 1)
        assert isinstance(caught.value, procession.BrokenPoolError)


def test_whoever_waits_in_a_loop_or_for_several_gets_new_workers(ctx):
    async def main(executor):
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, *call) for call in calls_of(executor)]
        return await asyncio.gather(*calls, return_exceptions=True)

    def calls_of(executor):
        # Both workers are lost before anybody asks for more.
        return [(end_by, signal.SIGKILL), (end_by, signal.SIGKILL), *((add, i, i) for i in range(20))]

    with ProcessPoolExecutor(2, ctx) as executor:
        for _ in range(2):
            results = asyncio.run(main(executor))
            assert [type(result) for result in results[:2]] == [WorkerLost] * 2 and results[2:] == [2 * i for i in range(20)]
        futures = [executor.submit(*call) for call in calls_of(executor)]
        assert len(list(concurrent.futures.as_completed(futures, SECONDS))) == 22
        futures = [executor.submit(*call) for call in calls_of(executor)]
        assert concurrent.futures.wait(futures, SECONDS).not_done == set()


# --- cancelling -----------------------------------------------------------------------------------


def test_what_has_not_begun_is_cancelled_and_what_runs_is_not(ctx, tmp_path):
    with ProcessPoolExecutor(1, ctx) as executor:
        running = _begun(executor, tmp_path)
        queued = [executor.submit(touch_and_wait, str(tmp_path / f'queued-{i}')) for i in range(3)]
        assert running.running() and not queued[0].running()
        assert not running.cancel() and not running.cancelled()
        told = []
        queued[1].add_done_callback(told.append)
        assert queued[0].cancel() and queued[1].cancel() and queued[0].cancelled() and queued[0].cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            queued[0].result()
        with pytest.raises(concurrent.futures.CancelledError):
            queued[1].exception(SECONDS)
        assert concurrent.futures.wait(queued[:2], SECONDS).not_done == set()
        until(lambda: told == [queued[1]])
        worker = executor.submit(os.getpid)
        assert running.cancel(running=True) and running.cancelled() and running.cancel()
        assert queued[2].cancel(running=True)
        assert worker.result(SECONDS) > 0 and not worker.cancel() and not worker.cancelled()
    assert not (tmp_path / 'queued-0').exists() and not (tmp_path / 'queued-1').exists()


def test_cancelling_an_asyncio_future_cancels_what_has_not_begun(ctx, tmp_path):
    async def main(executor):
        loop = asyncio.get_running_loop()
        running = _begun(executor, tmp_path)
        queued = loop.run_in_executor(executor, touch_and_wait, str(tmp_path / 'queued'))
        queued.cancel()
        with pytest.raises(asyncio.CancelledError):
            await queued
        assert running.cancel(running=True)
        return await loop.run_in_executor(executor, add, 1, 2)

    with ProcessPoolExecutor(1, ctx) as executor:
        assert asyncio.run(main(executor)) == 3
    assert not (tmp_path / 'queued').exists()


def test_shutdown_cancels_what_has_not_begun(ctx, tmp_path):
    executor = ProcessPoolExecutor(1, ctx)
    go = tmp_path / 'go'
    running = executor.submit(wait_for_file, str(tmp_path / 'begun'), str(go))
    until((tmp_path / 'begun').exists)
    queued = [executor.submit(add, i, i) for i in range(100)]
    mapped = executor.map(add, range(10), range(10))
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in queued)
    with pytest.raises(concurrent.futures.CancelledError):
        next(mapped)
    go.touch()
    assert running.result(SECONDS) == 'done'
    executor.shutdown()


def test_workers_are_killed_after_a_shutdown_that_did_not_wait(ctx, tmp_path):
    executor = ProcessPoolExecutor(1, ctx)
    running = _begun(executor, tmp_path)
    executor.shutdown(wait=False)
    executor.kill_workers()
    with pytest.raises(BrokenProcessPool, match='SIGKILL'):
        running.result(SECONDS)


@pytest.mark.parametrize('how', ['terminate_workers', 'kill_workers'])
def test_workers_are_ended_at_once_whatever_the_retries(ctx, how, tmp_path):
    executor = ProcessPoolExecutor(1, ctx)
    running = _begun(executor.options(retries=5), tmp_path)
    queued = executor.submit(add, 1, 1)
    workers = list(executor._processes)
    getattr(executor, how)()
    with pytest.raises(BrokenProcessPool, match='SIGTERM' if how == 'terminate_workers' else 'SIGKILL'):
        running.result(SECONDS)
    assert queued.cancelled()
    with pytest.raises(RuntimeError, match='after shutdown'):
        executor.submit(add, 1, 1)
    executor.shutdown()
    assert all_end(workers)


# --- begin and end --------------------------------------------------------------------------------


def test_an_executor_that_is_gone_finishes_its_tasks_and_ends_its_workers(ctx, nothing_left):
    executor = ProcessPoolExecutor(2, ctx)
    worker = executor.submit(os.getpid).result(SECONDS)
    futures, mapped = [executor.submit(add, i, i) for i in range(20)], executor.map(add, range(20), range(20))
    reference = weakref.ref(executor)
    del executor
    gc.collect()
    assert reference() is None
    assert [future.result(SECONDS) for future in futures] == list(mapped) == [2 * i for i in range(20)]
    assert all_end([worker])
    del futures, mapped


def test_shutdown_without_a_wait_finishes_the_tasks(ctx, nothing_left):
    executor = ProcessPoolExecutor(2, ctx)
    futures = [executor.submit(add, i, i) for i in range(20)]
    workers = list(executor._processes)
    executor.shutdown(wait=False)
    assert executor._processes is None
    assert [future.result(SECONDS) for future in futures] == [2 * i for i in range(20)]
    executor.shutdown()
    assert all_end(workers)
    del executor, futures


def test_workers_begin_as_they_are_needed(method, tmp_path):
    with ProcessPoolExecutor(3, procession.get_context(method)) as executor:
        assert executor._processes == {}
        for _ in range(3):
            executor.submit(add, 1, 1).result(SECONDS)
        # Under fork all begin at once, since later there may be threads.
        assert len(executor._processes) == (3 if method == 'fork' else 1)
        go = str(tmp_path / 'go')
        futures = [executor.submit(wait_for_file, str(tmp_path / str(i)), go) for i in range(5)]
        until(lambda: len(list(tmp_path.iterdir())) == 3)
        assert len(executor._processes) == 3
        pathlib.Path(go).touch()
        assert [future.result(SECONDS) for future in futures] == ['done'] * 5


@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_workers_are_replaced_after_their_tasks(ctx):
    with ProcessPoolExecutor(1, ctx, max_tasks_per_child=2) as executor:
        pids = [executor.submit(os.getpid).result(SECONDS) for _ in range(6)]
    assert len(set(pids)) == 3 and pids[0] == pids[1]


def test_idle_workers_end_and_others_begin_with_the_next_task(ctx, nothing_left):
    with ProcessPoolExecutor(2, ctx, idle_timeout=0.1) as executor:
        first = executor.submit(os.getpid).result(SECONDS)
        assert all_end([first])
        second = executor.submit(os.getpid).result(SECONDS)
        assert second != first
        assert list(executor.map(abs, [-1, -2])) == [1, 2]
    assert all_end([second])
    del executor


def test_bad_arguments_are_refused(ctx):
    for terms, error, text in (
        ({'max_workers': 0}, ValueError, 'max_workers'),
        ({'initializer': 5}, TypeError, 'initializer'),
        ({'max_tasks_per_child': 0}, ValueError, 'max_tasks_per_child'),
        ({'max_tasks_per_child': 1.5}, TypeError, 'max_tasks_per_child'),
        ({'idle_timeout': -1}, ValueError, 'idle_timeout'),
    ):
        with pytest.raises(error, match=text):
            ProcessPoolExecutor(**{'mp_context': ctx, **terms})
    with pytest.raises(ValueError, match="incompatible with the 'fork'"):
        ProcessPoolExecutor(mp_context=procession.get_context('fork'), max_tasks_per_child=1)
    assert ProcessPoolExecutor(max_tasks_per_child=1)._mp_context.get_start_method() == 'spawn'
    with ProcessPoolExecutor(1, ctx) as executor:
        with pytest.raises(ValueError, match='chunksize'):
            executor.map(abs, [1], chunksize=0)
        with pytest.raises(ValueError, match='timeout'):
            executor.options(timeout=float('nan')).submit(abs, 1)
        assert executor.submit(abs, -1).result(SECONDS) == 1


def test_a_context_of_the_standard_library_is_taken(method):
    import multiprocessing

    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, context) as executor:
        assert executor._mp_context is context
        assert list(executor.map(add, range(10), range(10))) == list(range(0, 20, 2))


# --- the warm one ---------------------------------------------------------------------------------


def test_the_reusable_executor_is_kept_while_it_can_be_used(ctx):
    get = procession.futures.get_reusable_executor
    executor = get(1, ctx)
    assert get(1, ctx) is executor and executor.submit(add, 1, 1).result(SECONDS) == 2
    with pytest.raises(BrokenProcessPool):
        executor.submit(end_by, signal.SIGKILL).result(SECONDS)
    assert get(2, ctx) is executor and executor._max_workers == 2
    assert list(executor.map(abs, [-1, -2, -3])) == [1, 2, 3]
    other = get(2, ctx, timeout=20)
    assert other is not executor and get(1, ctx, reuse=True) is other
    with pytest.raises(RuntimeError, match='after shutdown'):
        executor.submit(abs, 1)
    other.shutdown()
    last = get(1, ctx, timeout=20, kill_workers=True)
    assert last is not other and last.submit(add, 1, 1).result(SECONDS) == 2
    assert get(1, ctx, timeout=20, reuse=False) is not last
    get(1, ctx, timeout=20).shutdown()
    with pytest.raises(ValueError, match='max_workers'):
        get(0)


# --- the end of the program -----------------------------------------------------------------------

LEFT_OPEN = r"""
import sys, time
import procession
from procession.futures import ProcessPoolExecutor, get_reusable_executor

def slowly(number):
    time.sleep(0.2)
    sys.stdout.write(f'task {number}\n')  # in one piece, beside another worker's
    sys.stdout.flush()

if __name__ == '__main__':
    method, how = sys.argv[1:]
    context = procession.get_context(method)
    executor = get_reusable_executor(2, context) if how == 'reusable' else ProcessPoolExecutor(2, context)
    results = [executor.submit(slowly, number) for number in range(3)]
    if how == 'without-a-wait':
        executor.shutdown(wait=False)
    elif how == 'gone':
        del executor, results
    elif how == 'submit-at-exit':
        import atexit
        def submit():
            try:
                executor.submit(slowly, 4)
            except RuntimeError as error:
                print(error, flush=True)
        atexit.register(submit)
    print('end of main', flush=True)
"""


@pytest.mark.parametrize('how', ['open', 'without-a-wait', 'gone', 'reusable', 'submit-at-exit'])
def test_the_program_ends_after_all_tasks(method, how, tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(LEFT_OPEN)
    ran = subprocess.run([sys.executable, program, method, how], capture_output=True, text=True, timeout=SECONDS)
    assert (ran.returncode, ran.stderr) == (0, ''), ran.stderr
    late = ['cannot schedule new futures after interpreter shutdown'] if how == 'submit-at-exit' else []
    assert sorted(ran.stdout.splitlines()) == sorted(['end of main', 'task 0', 'task 1', 'task 2', *late])


def test_an_executor_within_a_task_of_an_executor(ctx, method):
    with ProcessPoolExecutor(1, ctx) as executor:
        assert executor.submit(_sum_by_executor, method, 10).result(SECONDS) == sum(range(10))


def _sum_by_executor(method, number):
    with ProcessPoolExecutor(2, procession.get_context(method)) as executor:
        return sum(executor.map(abs, range(number)))
