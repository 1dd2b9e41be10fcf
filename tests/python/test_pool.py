"""Pools as their users see them when all goes well."""

import asyncio
import itertools
import multiprocessing.pool as standard_pool
import os
import threading
import time

import procession
import procession.pool
import pytest
from processes import run


def square(x):
    return x * x


def identity(x):
    return x


def add(a, b=0):
    return a + b


def pid_of(_):
    return os.getpid()


def slow(seconds):
    time.sleep(seconds)
    return seconds


def take_from(queue):
    return queue.get()


def under(lock, x):
    with lock:
        return x + 1


def remember(lock):
    global _remembered
    _remembered = lock


def use_remembered(x):
    with _remembered:
        return x


def nested(x):
    with procession.get_context('fork').Pool(1) as pool:
        return pool.apply(square, (x,))


@pytest.fixture
def pool(ctx):
    with ctx.Pool(2) as pool:
        yield pool


def test_calls_in_every_form(pool):
    assert pool.apply(add, (1,), {'b': 2}) == 3
    assert pool.apply_async(add, [4]).get(30) == 4
    assert pool.map(square, range(100)) == [x * x for x in range(100)]
    assert pool.map(square, range(10), 3) == [x * x for x in range(10)]
    assert pool.map(square, []) == []
    numbers = [0, -1, 2**62, -(2**63), 2**63 - 1, 7, 8, 9, 10] * 3
    assert pool.map(identity, numbers, 9) == numbers
    for others in ([1.5] * 20, [2**63] * 20, [True] * 20, [1] * 19 + [1.0], list(range(200_000)), [float('inf')] * 200_000):
        back = pool.map(identity, others)
        assert back == others and [type(x) for x in back[-2:]] == [type(x) for x in others[-2:]]
    assert pool.map_async(square, iter([1, 2])).get(30) == [1, 4]
    assert pool.starmap(add, [(1, 2), (3, 4)]) == [3, 7]
    assert pool.starmap_async(add, [(1,)]).get(30) == [1]
    assert list(pool.imap(square, range(1000))) == [x * x for x in range(1000)]
    assert list(pool.imap(square, range(10), chunksize=4)) == [x * x for x in range(10)]
    assert sorted(pool.imap_unordered(square, range(50), 7)) == [x * x for x in range(50)]


def test_a_result_says_how_it_is(pool):
    result = pool.apply_async(slow, (0.5,))
    assert not result.ready()
    with pytest.raises(ValueError, match='not ready'):
        result.successful()
    with pytest.raises(procession.TimeoutError):
        result.get(timeout=0.01)
    result.wait()
    assert result.ready() and result.successful()
    assert result.get() is result.get()


def test_callbacks_get_results_and_errors(pool):
    got = []
    pool.map_async(square, [1, 2], callback=got.append).get(30)
    failed = pool.apply_async(square, ('x',), error_callback=got.append)
    with pytest.raises(TypeError):
        failed.get(30)
    assert got[0] == [1, 4] and isinstance(got[1], TypeError)


def test_an_endless_generator_runs_within_a_bound(pool):
    pulled = itertools.count()
    results = pool.imap(square, pulled, buffersize=10)
    assert list(itertools.islice(results, 1000)) == [x * x for x in range(1000)]
    assert next(pulled) <= 1000 + 20


def test_a_lazy_map_times_out_and_goes_on(pool):
    results = pool.imap(slow, [0.5])
    with pytest.raises(procession.TimeoutError):
        results.next(timeout=0.01)
    assert results.next(30) == 0.5
    with pytest.raises(StopIteration):
        results.next()


def test_an_unconsumed_lazy_map_runs_to_its_end(ctx):
    counter = ctx.Value('i', 0)
    pool = ctx.Pool(2, initializer=remember, initargs=(counter,))
    results = pool.imap(count_one, range(1000), buffersize=4)
    pool.close()
    pool.join()
    assert counter.value == 1000
    assert len(list(results)) == 1000


def count_one(_):
    with _remembered.get_lock():
        _remembered.value += 1


def test_the_context_manager_and_the_order_of_the_end(ctx):
    pool = ctx.Pool(1)
    with pytest.raises(ValueError, match='still running'):
        pool.join()
    with pool:
        assert pool.apply(add, (1,)) == 1
    pool.join()
    for refused in (lambda: pool.apply(add, (1,)), lambda: pool.map(square, [1]), pool.__enter__):
        with pytest.raises(ValueError, match='Pool not running'):
            refused()


def test_handles_travel_as_arguments(ctx):
    queue, lock = ctx.Queue(), ctx.Lock()
    with ctx.Pool(1, initializer=remember, initargs=(lock,)) as pool:
        result = pool.apply_async(take_from, (queue,))
        queue.put('through')
        assert result.get(30) == 'through'
        assert pool.apply(under, (lock, 1)) == 2
        assert pool.map(use_remembered, [1, 2, 3]) == [1, 2, 3]


def test_workers_are_replaced_after_their_tasks(ctx):
    with ctx.Pool(1, maxtasksperchild=2) as pool:
        pids = [pool.apply(pid_of, (0,)) for _ in range(6)]
    assert len(set(pids)) == 3


def test_a_pool_grows_shrinks_and_tells(pool):
    pool.resize(4)
    assert len(pool._pool) == 4
    pool.resize(1)
    assert pool.map(square, range(10)) == [x * x for x in range(10)]
    stats = pool.stats()
    assert (stats['done'], stats['failed'], stats['lost'], stats['queued']) == (10, 0, 0, 0)
    assert any(worker['resident'] > 0 for worker in stats['workers'])


def test_stats_count_calls_whatever_travels_together(ctx):
    with ctx.Pool(1) as pool:
        pool.map(square, range(10))
        pool.map(square, range(10), chunksize=4)
        pool.starmap(pow, [(2, 3)] * 5)
        assert list(pool.imap(square, range(7), chunksize=3)) == [x * x for x in range(7)]
        pool.map(square, range(6), timeout=60)
        pool.apply(square, (3,))
        stats = pool.stats()
        assert (stats['done'], stats['failed'], stats['lost'], stats['queued']) == (39, 0, 0, 0)
        assert [worker['done'] for worker in stats['workers']] == [39]
        # A chunk ends with the first of its calls that raises; the chunk behind it is run.
        with pytest.raises(ZeroDivisionError):
            pool.starmap(divmod, [(1, 1), (1, 1), (1, 0), (1, 1), (1, 1)], chunksize=4)
        stats = pool.stats()
        assert (stats['done'], stats['failed'], stats['lost']) == (40, 1, 0)
        assert [worker['done'] for worker in stats['workers']] == [43]


def test_calls_are_lost_with_their_chunk(ctx):
    with ctx.Pool(1) as pool:
        with pytest.raises(procession.WorkerLost):
            pool.map(os._exit, range(8), chunksize=4)
        stats = pool.stats()
        assert (stats['done'], stats['failed'], stats['lost'], stats['queued']) == (0, 0, 8, 0)


def test_results_are_awaited_in_asyncio(pool):
    async def main():
        return await asyncio.gather(pool.apply_async(square, (3,)), pool.map_async(square, [1, 2]))

    assert asyncio.run(main()) == [9, [1, 4]]


def test_nested_pools(ctx):
    with ctx.Pool(1, daemon=False) as pool:
        assert pool.apply(nested, (5,)) == 25


def test_many_threads_submit(pool):
    results = {}

    def work(n):
        results[n] = [pool.apply(square, (n + i,)) for i in range(50)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {n: [(n + i) ** 2 for i in range(50)] for n in range(8)}


def test_functions_that_no_module_has(pool):
    pytest.importorskip('cloudpickle')
    factor = 3
    assert pool.map(lambda x: x * factor, [1, 2]) == [3, 6]


def test_large_arrays_cross_and_are_the_receivers_own(pool):
    numpy = pytest.importorskip('numpy')
    array = numpy.arange(1 << 20, dtype=numpy.float64)
    back = pool.apply(increment, (array,))
    assert back.flags.writeable and (back == array + 1).all() and array[0] == 0
    back[0] = 7
    fortran = numpy.asfortranarray(numpy.arange(60_000.0).reshape(200, 300))
    assert (pool.apply(transpose, (fortran,)) == fortran.T).all()
    assert pool.apply(len, (b'x' * (3 << 20),)) == 3 << 20


def increment(array):
    array += 1
    return array


def transpose(array):
    return array.T


def test_a_maps_result_is_a_map_result(pool):
    result = pool.map_async(abs, [-1])
    assert type(result).__name__ == 'MapResult' and isinstance(result, procession.pool.ApplyResult)
    assert type(pool.apply_async(abs, (-1,))).__name__ == 'ApplyResult'


def test_a_pool_with_unknown_arguments_says_so_and_nothing_else(tmp_path):
    done = run(
        tmp_path,
        """
        import procession

        try:
            procession.Pool(2, unknown=1)
        except TypeError as error:
            print(error)
    """,
    )
    assert 'unknown' in done.stdout and done.stderr == ''


def test_an_event_loop_may_close_before_the_result_it_awaits_is_there(tmp_path):
    done = run(
        tmp_path,
        """
        import asyncio, time, procession

        async def wait(pool):
            return await pool.apply_async(time.sleep, (0.2,))

        async def main(pool):
            waiting = asyncio.ensure_future(wait(pool))
            await asyncio.sleep(0.05)
            return waiting

        if __name__ == '__main__':
            with procession.get_context('fork').Pool(1) as pool:
                asyncio.run(main(pool))
                pool.close()
                pool.join()
                print('done')
    """,
    )
    assert (done.stdout, done.stderr) == ('done\n', '')


def test_a_daemon_thread_that_waits_is_silent_at_the_end(tmp_path):
    done = run(
        tmp_path,
        """
        import sys, threading, time, procession

        class Slow:
            def __del__(self):
                time.sleep(0.4)

        if __name__ == '__main__':
            context = procession.get_context('fork')
            lock, queue, event, simple = context.Lock(), context.Queue(), context.Event(), context.SimpleQueue()
            barrier = context.Barrier(2)
            lock.acquire()
            waits = [lock.acquire, queue.get, event.wait, simple.get, barrier.wait,
                     lambda: lock.acquire(timeout=0.2), lambda: event.wait(0.2)]
            for wait in waits:
                threading.Thread(target=wait, daemon=True).start()
            time.sleep(0.1)
            sys.slow = Slow()
    """,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_the_module_has_the_names_that_programs_import_from_it():
    from procession.pool import ApplyResult, AsyncResult, MapResult, Pool, ThreadPool, TimeoutError

    assert TimeoutError is procession.TimeoutError
    assert issubclass(MapResult, ApplyResult) and AsyncResult is ApplyResult
    assert issubclass(Pool, standard_pool.Pool) and ThreadPool is standard_pool.ThreadPool


def test_an_iterable_that_asks_for_its_own_map_is_told(ctx):
    def items():
        yield 1
        with pytest.raises(RuntimeError, match='outside of the iterable'):
            results.next(timeout=0.1)
        yield 2

    with ctx.Pool(1) as pool:
        results = pool.imap(abs, items(), buffersize=1)
        assert list(results) == [1, 2]
