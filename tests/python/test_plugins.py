"""Other libraries accept our contexts, pools, processes and queues where they accept those of
`multiprocessing`.
"""

import asyncio
import concurrent.futures
import functools
import logging
import logging.handlers
import multiprocessing
import multiprocessing.connection
import multiprocessing.managers
import multiprocessing.pool
import os
import selectors
import signal
import subprocess
import sys
import textwrap

import joblib
import numpy
import pebble
import procession
import procession.pool
import pytest
from joblib.externals import loky
from processes import KERNEL_REMEMBERS_ENDS, all_end
from tasks import (
    add,
    answer_thrice,
    end_by,
    fail,
    initialize,
    initialized,
    log_to,
    sleep,
    sum_of,
    tell_who,
    use_all,
    whose_process,
)
from waits import SCALE

SECONDS = 30 * SCALE


# --- contexts -------------------------------------------------------------------------------------


def test_a_context_passes_the_checks_that_libraries_make(ctx, method):
    # PyTorch's DataLoader, dask and joblib ask these.
    assert isinstance(ctx, multiprocessing.context.BaseContext)
    assert ctx.get_start_method() == method
    assert method in procession.get_all_start_methods()
    assert hasattr(ctx, 'Pool') and hasattr(ctx, 'Lock')
    assert issubclass(ctx.Process, multiprocessing.process.BaseProcess)
    assert ctx.Process._start_method == method


def test_a_pool_passes_the_checks_that_libraries_make(ctx):
    # dask asks whether it was given a pool of processes or of threads.
    with ctx.Pool(1) as pool, procession.pool.ThreadPool(1) as threads:
        assert isinstance(pool, multiprocessing.pool.Pool) and not isinstance(pool, multiprocessing.pool.ThreadPool)
        assert isinstance(threads, multiprocessing.pool.ThreadPool)


def test_both_packages_see_the_same_processes(ctx):
    queue, seen_alive = ctx.SimpleQueue(), ctx.Event()
    process = ctx.Process(target=tell_who, args=(queue, seen_alive))
    process.start()
    assert process in multiprocessing.active_children() and process in procession.active_children()
    seen_alive.set()
    ours, theirs, same_key = queue.get()
    process.join()
    assert ours == theirs == (process.name, process.pid, os.getpid()) and same_key
    assert process not in multiprocessing.active_children()


# --- concurrent.futures ---------------------------------------------------------------------------


def test_an_executor_runs_on_our_processes(ctx, method, nothing_left):
    with concurrent.futures.ProcessPoolExecutor(2, ctx, initialize, (7,)) as executor:
        assert executor.submit(add, 1, 2).result(SECONDS) == 3
        assert list(executor.map(add, range(100), range(100), chunksize=7)) == [2 * i for i in range(100)]
        assert executor.submit(initialized).result(SECONDS) == 7
        assert executor.submit(whose_process).result(SECONDS) == (True, method, method)
        with pytest.raises(ValueError, match='not today'):
            executor.submit(fail, 'not today').result(SECONDS)
    del executor


def test_an_executor_notices_that_its_worker_was_killed(ctx):
    with concurrent.futures.ProcessPoolExecutor(2, ctx) as executor:
        with pytest.raises(concurrent.futures.process.BrokenProcessPool):
            executor.submit(end_by, signal.SIGKILL).result(SECONDS)


@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_an_executors_workers_end_after_a_task_each(method):
    context = procession.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(3, context, max_tasks_per_child=1) as executor:
        assert list(executor.map(abs, range(-12, 0))) == list(range(12, 0, -1))


def test_an_executor_behind_asyncio(ctx):
    async def main(executor):
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, add, i, i) for i in range(10)))

    with concurrent.futures.ProcessPoolExecutor(2, ctx) as executor:
        assert asyncio.run(main(executor)) == [2 * i for i in range(10)]


# --- joblib, loky, pebble -------------------------------------------------------------------------


def test_joblib_takes_a_context_as_backend(ctx):
    results = joblib.Parallel(n_jobs=2, backend=ctx)(joblib.delayed(add)(i, 1) for i in range(20))
    assert results == list(range(1, 21))


def test_a_pool_of_workers_of_the_standard_librarys_context(method):
    context = multiprocessing.get_context(method)
    before = set(multiprocessing.active_children())
    with procession.pool.Pool(2, abs, (-1,), context=context) as pool:
        assert pool.map(abs, range(-100, 0)) == list(range(100, 0, -1))
        workers = pool._pool
        assert [type(worker) for worker in workers] == [context.Process] * 2
        with pytest.raises(procession.WorkerLost) as caught:
            pool.apply(end_by, (signal.SIGKILL,))
        # The standard library's fork server may have reaped its child, which is not a child of this
        # process.
        may_be_unknown = method == 'forkserver' and not KERNEL_REMEMBERS_ENDS
        assert caught.value.exitcode in ([-signal.SIGKILL, None] if may_be_unknown else [-signal.SIGKILL])
        assert pool.map(abs, range(-100, 0)) == list(range(100, 0, -1))
    pool.join()
    assert not any(worker.is_alive() for worker in workers)
    assert set(multiprocessing.active_children()) == before


def _exit_once(path):
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    os._exit(3)


def test_a_worker_of_the_standard_librarys_that_ends_at_once_is_replaced(method, tmp_path):
    context = multiprocessing.get_context(method)
    with procession.pool.Pool(6, _exit_once, (tmp_path / 'done',), context=context) as pool:
        assert pool.map(abs, range(-100, 0)) == list(range(100, 0, -1))
    pool.join()


def test_workers_of_the_standard_librarys_end_with_their_parent(method, tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(
        textwrap.dedent("""
        import multiprocessing, os, signal, sys, time
        import procession.pool

        def linger(parent):
            print(os.getpid(), flush=True)
            os.kill(parent, signal.SIGKILL)
            time.sleep(600)

        if __name__ == '__main__':
            context = multiprocessing.get_context(sys.argv[1])
            procession.pool.Pool(1, linger, (os.getpid(),), context=context).apply(abs, (-1,))
    """)
    )
    with subprocess.Popen([sys.executable, program, method], stdout=subprocess.PIPE, text=True) as killed:
        worker = int(killed.stdout.readline())
    assert killed.returncode == -signal.SIGKILL
    assert all_end([worker])


def test_a_pool_of_a_context_with_a_method_of_its_own():
    class Context(multiprocessing.context.SpawnContext):
        _name = 'mine'

        def get_start_method(self, allow_none=False):
            return self._name

    with procession.pool.Pool(1, context=Context()) as pool:
        assert pool.apply(abs, (-1,)) == 1


def test_joblib_maps_large_arrays_for_our_workers(ctx):
    array = numpy.arange(300_000, dtype='f8')
    results = joblib.Parallel(n_jobs=2, backend=ctx, max_nbytes=1000)(joblib.delayed(sum_of)(array) for _ in range(4))
    assert results == [array.sum()] * 4


@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_loky_runs_on_our_processes(ctx):
    # loky itself does not run on fork.
    with loky.ProcessPoolExecutor(2, context=ctx) as executor:
        assert list(executor.map(add, range(10), range(10))) == [2 * i for i in range(10)]
        assert executor.submit(whose_process).result(SECONDS)[0]


def test_pebble_runs_on_our_processes(ctx, method, nothing_left):
    with pebble.ProcessPool(2, context=ctx) as pool:
        assert pool.schedule(add, args=(1, 2)).result(SECONDS) == 3
        assert list(pool.map(functools.partial(add, 1), range(10)).result()) == list(range(1, 11))
        assert pool.schedule(whose_process).result(SECONDS) == (True, method, method)
        slow = pool.schedule(sleep, args=(1000,), timeout=0.5)
        with pytest.raises(concurrent.futures.TimeoutError):
            slow.result(SECONDS)
        with pytest.raises(pebble.ProcessExpired):
            pool.schedule(end_by, args=(signal.SIGKILL,)).result(SECONDS)
        assert pool.schedule(add, args=(2, 2)).result(SECONDS) == 4
    del pool, slow


# --- things to wait for ---------------------------------------------------------------------------


def test_sentinels_queues_and_connections_are_waited_for_together(ctx):
    queue, (here, there) = ctx.SimpleQueue(), ctx.Pipe()
    process = ctx.Process(target=answer_thrice, args=(queue, there))
    process.start()
    there.close()
    waited = [process.sentinel, queue._reader, here]
    assert multiprocessing.connection.wait(waited, 0) == []
    with selectors.DefaultSelector() as selector:
        for each in waited:
            selector.register(each, selectors.EVENT_READ)
        assert selector.select(0) == []

        here.send('queue')
        assert [key.fileobj for key, _ in selector.select(SECONDS)] == [queue._reader]
        assert multiprocessing.connection.wait(waited, SECONDS) == [queue._reader]
        assert queue.get() == 'put'

        here.send('connection')
        assert [key.fileobj for key, _ in selector.select(SECONDS)] == [here]
        assert multiprocessing.connection.wait(waited, SECONDS) == [here]
        assert here.recv() == 'sent'

        here.send('end')
        assert multiprocessing.connection.wait([process.sentinel], SECONDS) == [process.sentinel]
        assert process.sentinel in [key.fileobj for key, _ in selector.select(SECONDS)]
    process.join()


def test_a_queue_is_waited_for_by_its_reader(ctx):
    queue = ctx.Queue()
    assert multiprocessing.connection.wait([queue._reader], 0) == []
    queue.put('item')
    assert multiprocessing.connection.wait([queue._reader], SECONDS) == [queue._reader]
    assert queue.get() == 'item'
    queue.close()
    queue.join_thread()


# --- between the packages -------------------------------------------------------------------------


@pytest.mark.parametrize('theirs_run', [False, True], ids=['in our child', 'in the child of the standard library'])
@pytest.mark.parametrize('theirs_made', [False, True], ids=['ours', 'of the standard library'])
def test_locks_queues_connections_and_values_travel_to_children_of_both(method, theirs_made, theirs_run):
    maker = (multiprocessing if theirs_made else procession).get_context(method)
    runner = (multiprocessing if theirs_run else procession).get_context(method)
    lock, event, value, queue, simple = maker.Lock(), maker.Event(), maker.Value('i', 1), maker.Queue(), maker.SimpleQueue()
    here, there = maker.Pipe()
    lock.acquire()
    process = runner.Process(target=use_all, args=(lock, event, value, queue, simple, there))
    process.start()
    there.close()
    assert queue.get(timeout=SECONDS) == 'begun'
    lock.release()
    assert event.wait(SECONDS)
    assert (here.recv(), simple.get(), value.value) == ('received', 'got', 2)
    process.join(SECONDS)
    assert process.exitcode == 0
    queue.close()
    queue.join_thread()


def test_a_manager_of_the_standard_library_on_our_process(ctx, nothing_left):
    with multiprocessing.managers.SyncManager(ctx=ctx) as manager:
        assert isinstance(manager._process, ctx.Process)
        words = manager.dict(one=1)
        process = ctx.Process(target=words.update, kwargs={'two': 2})
        process.start()
        process.join()
        assert words.copy() == {'one': 1, 'two': 2}
        del words, process
    del manager


def test_log_records_come_by_our_queue(ctx):
    queue, records = ctx.Queue(), []
    handler = logging.Handler()
    handler.emit = records.append
    listener = logging.handlers.QueueListener(queue, handler)
    listener.start()
    process = ctx.Process(target=log_to, args=(queue, 'hello %s', 'there'))
    process.start()
    process.join()
    listener.stop()
    assert [record.getMessage() for record in records] == ['hello there']
    queue.close()
    queue.join_thread()


# --- at exit --------------------------------------------------------------------------------------

LEFT_OPEN = r"""
import sys, time
import procession

def slowly(number):
    time.sleep(0.2)
    sys.stdout.write(f'task {number}\n')  # in one piece, beside another worker's
    sys.stdout.flush()

if __name__ == '__main__':
    context = procession.get_context(sys.argv[1])
    if sys.argv[2] == 'executor':
        import concurrent.futures
        pool = concurrent.futures.ProcessPoolExecutor(2, context)
        results = [pool.submit(slowly, number) for number in range(3)]
    elif sys.argv[2] == 'pebble':
        import pebble
        pool = pebble.ProcessPool(2, context=context)
        results = [pool.schedule(slowly, args=(number,)) for number in range(3)]
    else:
        import joblib
        pool = joblib.Parallel(n_jobs=2, backend=context).__enter__()
        pool(joblib.delayed(slowly)(number) for number in range(3))
    print('end of main', flush=True)
"""


@pytest.mark.parametrize('library', ['executor', 'pebble', 'joblib'])
def test_a_pool_that_is_left_open_is_shut_down_before_its_processes_are_joined(method, library, tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(LEFT_OPEN)
    ran = subprocess.run([sys.executable, program, method, library], capture_output=True, text=True, timeout=SECONDS)
    assert (ran.returncode, ran.stderr) == (0, ''), ran.stderr
    lines = ran.stdout.splitlines()
    assert 'end of main' in lines
    if library != 'pebble':  # which drops at exit what has not begun
        assert sorted(lines) == ['end of main', 'task 0', 'task 1', 'task 2']
