"""The rows of the table. Each measures one library in a process of its own, and returns one number.

A forked child has the modules that its parent has imported. So a row imports where it needs them
the modules that it uses beside the library: a program that has the library and little else is
measured.
"""

import gc
import os
import sys
import time

import libraries
import programs
import tasks

MIB = 1 << 20
ARRAY = 64 * MIB
# Workers of a pool that has many for its cores.
MANY = 64
# Seconds that a measurement goes on, beyond its first batch.
LONG = 0.4


class Row:
    """One row. `must` is the bound of the figure that `of` names: the ratio to the `rival`'s, or
    our own figure.
    """

    def __init__(
        self,
        name,
        what,
        unit,
        measure,
        must=None,
        of='ratio',
        *,
        libraries=libraries.POOLS,
        pairs=5,
        rival='multiprocessing',
    ):
        self.name, self.what, self.unit, self.measure = name, what, unit, measure
        self.must, self.of, self.libraries, self.pairs, self.rival = must, of, libraries, pairs, rival

    @property
    def is_rate(self):
        """Returns whether more is better."""
        return self.unit.endswith('/s')


def batches(work, number):
    """Returns how many a second: `work` does `number`. It is the median of the runs that fit into
    the time.
    """
    work()
    rates, end = [], time.perf_counter() + LONG
    while not rates or time.perf_counter() < end:
        begun = time.perf_counter()
        work()
        rates.append(number / (time.perf_counter() - begun))
    return median(rates)


def each(work, number):
    """Returns the median of the seconds of single calls."""
    times = []
    for _ in range(number):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return median(times)


def median(figures):
    import statistics

    return statistics.median(figures)


# --- pools ----------------------------------------------------------------------------------------


def round_trip(library):
    pool = libraries.pool(library)
    each(lambda: pool.call(tasks.same, 1), 200)
    seconds = each(lambda: pool.call(tasks.same, 1), 3000)
    pool.end()
    return seconds * 1e6


def callback(library):
    """Measures from the submission to the callback, as a multiple of the time that a thread takes
    that waits in `get`.
    """
    import queue
    import threading

    pool, results, told = libraries.pool(library), queue.SimpleQueue(), threading.Lock()
    told.acquire()

    def get_all():
        while (result := results.get()) is not None:
            result.get()
            told.release()

    def by_callback():
        pool.submit(tasks.same, 1, lambda _: told.release())
        told.acquire()

    def by_get():
        results.put(pool.submit(tasks.same, 1))
        told.acquire()

    thread = threading.Thread(target=get_all)
    thread.start()
    each(by_callback, 200)
    each(by_get, 200)
    ratio = each(by_callback, 2000) / each(by_get, 2000)
    results.put(None)
    thread.join()
    pool.end()
    return ratio


def of_pool(act, number):
    def measure(library):
        pool = libraries.pool(library)
        rate = batches(lambda: getattr(pool, act)(tasks.nothing, number), number)
        pool.end()
        return rate

    return measure


def map_of_ints(library):
    pool, number = libraries.pool(library), 200_000
    assert pool.map(tasks.same, number) == list(range(number))
    rate = batches(lambda: pool.map(tasks.same, number), number)
    pool.end()
    return rate


def array_as_argument(library):
    import numpy

    array = numpy.ones(ARRAY, dtype='u1')
    pool = libraries.pool(library, 1)
    rate = batches(lambda: pool.call(tasks.taken, array), ARRAY / MIB)
    pool.end()
    return rate


def array_as_result(library):
    pool = libraries.pool(library, 1)
    rate = batches(lambda: pool.call(tasks.made, ARRAY), ARRAY / MIB)
    pool.end()
    return rate


def memory_of_argument(library):
    import memory
    import numpy

    array = numpy.ones(ARRAY, dtype='u1')
    pool = libraries.pool(library, 1)
    pool.call(tasks.taken, array[:4096])
    with memory.Peak() as peak:
        for _ in range(3):
            pool.call(tasks.taken, array)
    pool.end()
    return peak.bytes / ARRAY


def memory_of_result(library):
    import memory

    # The caller has imported it already, as a program that gets an array has.
    __import__('numpy')
    pool = libraries.pool(library, 1)
    pool.call(tasks.make, ARRAY)
    with memory.Peak() as peak:
        for _ in range(3):
            pool.call(tasks.made, ARRAY)
    pool.end()
    # One copy is the caller's own: the result.
    return peak.bytes / ARRAY - 1


def idle_processor(library):
    import memory

    pool, seconds = libraries.pool(library), 10
    time.sleep(1)
    # The reading takes time, too: the second reading is the cost of the first.
    first, before = memory.processor_time(os.getpid()), memory.processor_time(os.getpid())
    time.sleep(seconds)
    spent = memory.processor_time(os.getpid()) - before - (before - first)
    pool.end()
    return 100 * max(spent, 0) / (seconds * 1e9)


def idle_memory(library):
    pool = libraries.pool(library)
    # A garbage collection in this process unshares the pages of most objects from its workers.
    # Sooner or later there is one.
    gc.collect()
    import memory

    before = {os.getpid(), *_helpers(library)}
    workers = [pid for pid in memory.tree(os.getpid()) if pid not in before]
    share = sum(map(memory.proportional, workers)) / libraries.WORKERS
    pool.end()
    return share / MIB


def _helpers(library):
    """Returns the processes that are no workers: trackers of resources, which are executed and not
    forked.
    """
    import memory

    ours = open('/proc/self/cmdline').read()
    for pid in memory.tree(os.getpid())[1:]:
        if library != 'loky' and open(f'/proc/{pid}/cmdline').read() != ours:
            yield pid


# --- queues, processes, locks ---------------------------------------------------------------------


def queue_of(item, number):
    def measure(library):
        context = libraries.context(library)
        queue, (go, gone) = context.Queue(), context.Pipe()
        rates = []
        for _ in range(3):
            process = context.Process(target=tasks.puts, args=(queue, gone, item, number))
            process.start()
            begun = time.perf_counter()
            go.send('go')
            for _ in range(number):
                queue.get()
            rates.append(number / (time.perf_counter() - begun))
            go.send('end')
            process.join()
        return median(rates)

    return measure


def logs(library):
    """Measures the records of two workers on their way to a handler of the parent, which counts
    them: with `logs`, or by a `QueueHandler` on the library's queue and a `QueueListener`.
    """
    import logging
    import logging.handlers
    import threading

    class Count(logging.Handler):
        def __init__(self):
            super().__init__()
            self.left, self.all = 0, threading.Event()

        def expect(self, number):
            self.left = number
            self.all.clear()

        def emit(self, record):
            self.left -= 1
            if not self.left:
                self.all.set()

    context, count, listener, number = libraries.context(library), Count(), None, 50_000
    logging.getLogger().setLevel(logging.INFO)
    if library == 'procession':
        logging.getLogger().addHandler(count)
        pool = context.Pool(2, logs=True)
    else:
        queue = context.Queue()
        pool = context.Pool(2, tasks.log_into, (queue,))
        listener = logging.handlers.QueueListener(queue, count)
        listener.start()

    def log(each):
        count.expect(2 * each)
        pool.map(tasks.log, [each] * 2, 1)
        count.all.wait()

    log(1000)
    begun = time.perf_counter()
    log(number)
    rate = 2 * number / (time.perf_counter() - begun)
    pool.close()
    pool.join()
    if listener is not None:
        listener.stop()
    return rate


def start_by(method, number, target=tasks.nothing):
    def measure(library):
        context = libraries.context(library, method)

        def start_and_join():
            process = context.Process(target=target)
            process.start()
            process.join()
            assert process.exitcode == 0

        each(start_and_join, 3)
        return each(start_and_join, number) * 1e3

    return measure


def first_pool(library):
    return _pool_and_result(libraries.context(library, 'forkserver'))


def later_pool(library):
    context = libraries.context(library, 'forkserver')
    _pool_and_result(context)
    return median([_pool_and_result(context) for _ in range(10)])


def first_result_of_many(library):
    context = libraries.context(library)
    return median([_pool_and_result(context, MANY) for _ in range(5)])


def many_workers(library):
    """Measures the rate of a pool of many workers, as a multiple of that of two."""
    rates, number = [], 5000
    for workers in (2, MANY):
        pool = libraries.pool(library, workers)
        rates.append(batches(lambda pool=pool: pool.burst(tasks.nothing, number), number))
        pool.end()
    return rates[1] / rates[0]


def _pool_and_result(context, workers=2):
    """Returns the milliseconds until a new pool has given its first result."""
    begun = time.perf_counter()
    with context.Pool(workers) as pool:
        pool.apply(tasks.same, (1,))
        seconds = time.perf_counter() - begun
        pool.close()
        pool.join()
    return seconds * 1e3


def lock(library):
    taken, number = libraries.context(library).Lock(), 20_000

    def pairs():
        for _ in range(number):
            with taken:
                pass

    return 1e9 / batches(pairs, number)


def lock_by_calls(library):
    taken, number = libraries.context(library).Lock(), 20_000

    def pairs():
        for _ in range(number):
            taken.acquire()
            taken.release()

    return 1e9 / batches(pairs, number)


def import_time(library):
    import subprocess

    name = 'concurrent.futures.process' if library == 'ProcessPoolExecutor' else library
    # As programs have it: with the pool's module.
    more = f', {name}.pool' if library in libraries.WHOLE else ''
    program = f'import time; t = time.perf_counter(); import {name}{more}; print(time.perf_counter() - t)'
    seconds = [float(subprocess.check_output([sys.executable, '-c', program])) for _ in range(5)]
    return min(seconds) * 1e3


# --- executors, event loops, joblib ---------------------------------------------------------------


def executor_round_trip(library):
    with libraries.executor(library) as executor:
        each(lambda: executor.submit(tasks.same, 1).result(), 200)
        return each(lambda: executor.submit(tasks.same, 1).result(), 2000) * 1e6


def executor_in_flight(library):
    number = 1000

    def burst():
        futures = [executor.submit(tasks.same, value) for value in range(number)]
        return [future.result() for future in futures]

    with libraries.executor(library) as executor:
        return batches(burst, number)


def awaited(library):
    """Returns the times of awaits in asyncio: of our result, or of an executor's future."""
    import asyncio

    async def main():
        loop, times = asyncio.get_running_loop(), []
        with libraries.awaitable_calls(library, loop) as call:
            for turn in range(2200):
                begun = time.perf_counter()
                await call(tasks.same, 1)
                if turn >= 200:
                    times.append(time.perf_counter() - begun)
        return median(times) * 1e6

    return asyncio.run(main())


def joblib_call(library):
    """A call of few tasks, as a multiple of joblib's own threads, whose time is that of joblib
    itself.
    """
    import joblib

    call = [joblib.delayed(tasks.nothing)(number) for number in range(100)]

    def seconds(backend):
        run = lambda: joblib.Parallel(libraries.WORKERS, backend=backend)(call)  # noqa: E731
        each(run, 3)
        return each(run, 15)

    return seconds(libraries.joblib_backend(library)) / seconds('threading')


def joblib_no_ops(library):
    import joblib

    number = 100_000
    calls = [joblib.delayed(tasks.nothing)(value) for value in range(number)]
    run = joblib.Parallel(libraries.WORKERS, backend=libraries.joblib_backend(library))
    return batches(lambda: run(calls), number)


def joblib_array(library):
    import joblib
    import numpy

    number, array = 200, numpy.ones(ARRAY, dtype='u1')
    run = joblib.Parallel(libraries.WORKERS, backend=libraries.joblib_backend(library))
    run(joblib.delayed(tasks.taken)(array[:4096]) for _ in range(4))
    return batches(lambda: run(joblib.delayed(tasks.at)(array, place) for place in range(number)), number)


# --- whole programs -------------------------------------------------------------------------------


def program(run):
    def measure(library):
        context = libraries.context(library)
        # Its own imports are no part of it.
        for name in 'ast', 'json', 'numpy', 'pandas', 're':
            __import__(name)
        begun = time.perf_counter()
        run(context)
        return time.perf_counter() - begun

    return measure


# If large data is most of the work, 1.5 times as fast; elsewhere no slower than by 2 %, by which
# turns differ on a quiet machine.
LARGE, SMALL = 0.667, 1.02
PROGRAMS = (
    ('grid-search', 'grid search over 13 MB', programs.grid_search, LARGE),
    ('images', 'images of 11 MB', programs.images, LARGE),
    ('groups', 'pandas groupby of 144 MB', programs.groups, SMALL),
    ('monte-carlo', 'Monte Carlo on shared arrays', programs.monte_carlo, SMALL),
    ('sources', "the standard library's sources", programs.sources, SMALL),
    ('text', 'words of a text', programs.text, SMALL),
    ('transforms', 'FFTs of 8 MiB', programs.transforms, LARGE),
    ('pipeline', 'pipeline of queues', programs.pipeline, SMALL),
)

WHOLE = libraries.WHOLE
EXECUTORS = libraries.EXECUTORS
INTERPRETERS = libraries.INTERPRETERS
JOBLIB = libraries.JOBLIB
ROWS = [
    Row('round-trip', 'apply of a no-op, round trip, p50', 'us', round_trip, ('<=', 0.125)),
    Row(
        'callback',
        'callback, p50 to that of get in a thread',
        'times',
        callback,
        ('<=', 1.5),
        'ours',
        libraries=libraries.WHOLE,
    ),
    Row('burst', 'burst of apply_async', 'tasks/s', of_pool('burst', 5000), ('>=', 10)),
    Row('imap', 'imap', 'tasks/s', of_pool('imap', 5000), ('>=', 10)),
    Row('map-singly', 'map, chunksize=1', 'tasks/s', of_pool('map_singly', 5000), ('>=', 10)),
    Row(
        'map-ints',
        'map of ints, default chunks',
        'items/s',
        map_of_ints,
        ('>=', 1.5),
        libraries=libraries.POOLS_OF_CHUNKS,
    ),
    Row('array-argument', '64 MiB array as argument', 'MiB/s', array_as_argument, ('>=', 15)),
    Row('array-result', '64 MiB array as result', 'MiB/s', array_as_result, ('>=', 15)),
    Row('memory-argument', 'peak memory of that argument', 'arrays', memory_of_argument, ('<=', 1.2), 'ours', pairs=3),
    Row('memory-result', 'peak memory of that result', 'arrays', memory_of_result, ('<=', 1.2), 'ours', pairs=3),
    Row('queue-ints', 'Queue of ints', 'items/s', queue_of(7, 30_000), ('>=', 5), libraries=WHOLE),
    Row('queue-1k', 'Queue of 1 KiB', 'items/s', queue_of(bytes(1 << 10), 30_000), ('>=', 4), libraries=WHOLE),
    Row('queue-64k', 'Queue of 64 KiB', 'items/s', queue_of(bytes(1 << 16), 4_000), ('>=', 2), libraries=WHOLE),
    Row('logs', '100,000 log records of 2 workers', 'records/s', logs, ('>=', 2), libraries=WHOLE),
    *(
        Row(
            f'{method}{more}',
            f'start and join, {method}{what}',
            'ms',
            start_by(method, number, target),
            ('<=', must),
            libraries=WHOLE,
            pairs=15,
        )
        for method, number, must in (('fork', 60, 1.1), ('forkserver', 40, 0.4), ('spawn', 12, 0.8))
        for more, what, target in (('', '', tasks.nothing), ('-value', ', returns a value', tasks.value))
    ),
    Row('pool-first', 'first pool and its first result, forkserver', 'ms', first_pool, ('<=', 0.8), libraries=WHOLE, pairs=15),
    Row('pool-later', 'later pool and its first result, forkserver', 'ms', later_pool, ('<=', 0.8), libraries=WHOLE),
    Row('pool-of-many', f'pool of {MANY} and its first result, fork', 'ms', first_result_of_many, ('<=', 0.5), libraries=WHOLE),
    Row('many-workers', f'burst, {MANY} workers to two', 'times', many_workers, ('>=', 0.8), 'ours', libraries=WHOLE),
    Row('lock', 'Lock, with', 'ns', lock, ('<=', 0.5), libraries=WHOLE, pairs=15),
    Row('lock-calls', 'Lock, acquire() and release()', 'ns', lock_by_calls, ('<=', 0.5), libraries=WHOLE, pairs=15),
    Row('idle-processor', 'idle pool, processor', '%', idle_processor, ('<=', 0.05), 'ours', pairs=1),
    Row('idle-memory', 'idle pool, PSS of a worker', 'MiB', idle_memory, ('<=', 1.1), pairs=3),
    Row('import', 'import', 'ms', import_time, ('<=', 1.1)),
    Row(
        'executor',
        'executor: submit and result, p50',
        'us',
        executor_round_trip,
        ('<=', 0.0667),
        libraries=EXECUTORS,
        rival='ProcessPoolExecutor',
    ),
    Row(
        'executor-in-flight',
        'executor: 1000 in flight',
        'tasks/s',
        executor_in_flight,
        ('>=', 10),
        libraries=EXECUTORS,
        rival='ProcessPoolExecutor',
    ),
    Row(
        'interpreters',
        'executor: submit and result, p50',
        'us',
        executor_round_trip,
        ('<=', 0.25),
        libraries=INTERPRETERS,
        rival='InterpreterPoolExecutor',
    ),
    Row(
        'interpreters-in-flight',
        'executor: 1000 in flight',
        'tasks/s',
        executor_in_flight,
        ('>=', 8),
        libraries=INTERPRETERS,
        rival='InterpreterPoolExecutor',
    ),
    Row(
        'await',
        'await of a no-op in asyncio, p50',
        'us',
        awaited,
        ('<=', 0.1),
        libraries=EXECUTORS,
        rival='ProcessPoolExecutor',
    ),
    Row(
        'joblib-call',
        'joblib: 100 no-ops, to its threads',
        'times',
        joblib_call,
        ('<=', 1.1),
        'ours',
        libraries=JOBLIB,
        rival='loky',
    ),
    Row('joblib-no-ops', 'joblib: 100,000 no-ops', 'tasks/s', joblib_no_ops, ('>=', 2), libraries=JOBLIB, rival='loky'),
    Row(
        'joblib-array',
        'joblib: 200 tasks of one 64 MiB',
        'tasks/s',
        joblib_array,
        ('>=', 1),
        libraries=JOBLIB,
        rival='loky',
    ),
    *(
        Row(f'program-{name}', f'program: {what}', 's', program(run), ('<=', must), libraries=WHOLE[:2], pairs=7)
        for name, what, run, must in PROGRAMS
    ),
]
