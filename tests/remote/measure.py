"""Figures of a cluster beside what its library does itself, on the machine that runs this: `cargo
xtask scale --measure`. Each pair is measured in turn, several times.
"""

import os
import statistics
import time

import procession

NAME = os.environ['PROCESSION_TEST_CLUSTER']
WORKERS = 3
ROUNDS = 5


def median_of(call, times=300):
    """Returns the median of a call's seconds."""
    for _ in range(30):
        call()
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def seconds_of(call):
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


class Bare:
    """The work of an actor of the library without us."""

    def run(self, number, data):
        return data

    def look(self, value):
        return float(value[0][-1])


def look(array):
    return float(array[-1])


def main():
    ctx, library = _start()
    try:
        with ctx.Pool(WORKERS) as pool:
            pool.map(abs, range(100), chunksize=1)
            _measure_apply(pool, library)
            _measure_map(pool, library)
            _measure_put(ctx, library)
    finally:
        library.stop()


def _measure_apply(pool, library):
    ratios = []
    for _ in range(ROUNDS):
        if library.call is None:
            print(f'apply p50: {median_of(lambda: pool.apply(abs, (-1,))) * 1e6:.0f} us', flush=True)
            continue
        ours, theirs = median_of(lambda: pool.apply(abs, (-1,))), median_of(library.call)
        ratios.append(ours / theirs)
        print(f'apply p50: {ours * 1e6:.0f} us, {library.name} {theirs * 1e6:.0f} us, ratio {ours / theirs:.2f}', flush=True)
    if ratios:
        print(f'apply p50, median of the ratios: {statistics.median(ratios):.2f}', flush=True)


def _measure_map(pool, library):
    items = 1_000_000
    for _ in range(3):
        ours = items / seconds_of(lambda: pool.map(abs, range(items)))
        theirs = library.map(items)
        text = '' if theirs is None else f', {library.map_name} {theirs / 1e6:.2f} M/s, ratio {ours / theirs:.1f}'
        print(f'map of no-ops, default chunks: {ours / 1e6:.2f} M/s{text}', flush=True)
    count = 1000
    print(
        f'map of no-ops, one at a time: {count / seconds_of(lambda: pool.map(abs, range(count), chunksize=1)):.0f}/s', flush=True
    )


def _measure_put(ctx, library):
    import numpy

    array = numpy.ones(100_000_000, 'u1')
    with ctx.Pool(WORKERS) as pool:
        pool.map(abs, range(100), chunksize=1)
        ratios = []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            handle = ctx.put(array)
            put = time.perf_counter() - begun
            results = [pool.apply_async(look, (handle,)) for _ in range(WORKERS)]
            assert [result.get(60) for result in results] == [1.0] * WORKERS
            ours = time.perf_counter() - begun
            theirs = library.put(array)
            ratios += [] if theirs is None else [ours / theirs]
            text = '' if theirs is None else f', {library.name} {theirs * 1e3:.0f} ms, ratio {ours / theirs:.2f}'
            print(f'100 MB to {WORKERS} workers by put: {ours * 1e3:.0f} ms (of them put {put * 1e3:.0f}){text}', flush=True)
            del handle, results
        if ratios:
            print(f'100 MB by put, median of the ratios: {statistics.median(ratios):.2f}', flush=True)
        by_value = seconds_of(lambda: pool.apply(look, (array,)))
        print(f'100 MB to one worker by value: {by_value * 1e3:.0f} ms', flush=True)


def _start():
    if NAME == 'ray':
        return procession.get_context('ray'), Ray()
    if NAME == 'dask':
        library = Dask()
        return procession.get_context('dask', library.client), library
    return procession.get_context('mpi'), Mpi()


class Ray:
    name, map_name = "Ray's own actors", 'ray.util.multiprocessing'

    def __init__(self):
        import ray

        self.ray = ray
        ray.init(num_cpus=10, include_dashboard=False, object_store_memory=1200 * 2**20, log_to_driver=False)
        kind = ray.remote(num_cpus=0)(Bare)
        self.actors = [kind.remote() for _ in range(WORKERS)]
        self.pool = None

    def call(self):
        self.ray.get(self.actors[0].run.remote(1, b'x' * 100))

    def map(self, items):
        from ray.util.multiprocessing import Pool

        if self.pool is None:
            self.pool = Pool(WORKERS)
            self.pool.map(abs, range(1000))
        return items / seconds_of(lambda: self.pool.map(abs, range(items)))

    def put(self, array):
        begun = time.perf_counter()
        reference = self.ray.put([array])
        self.ray.get([actor.look.remote(reference) for actor in self.actors])
        return time.perf_counter() - begun

    def stop(self):
        self.ray.shutdown()


class Dask:
    name, map_name = "Dask's own actors", 'Client.map'

    def __init__(self):
        import distributed

        terms = {'dashboard_address': None, 'host': '127.0.0.1', 'silence_logs': 50}
        self.made = distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=3, **terms)
        self.client = distributed.Client(self.made)
        workers = list(self.client.nthreads())
        self.actors = [self.client.submit(Bare, actor=True, workers=[worker], pure=False).result() for worker in workers]

    def call(self):
        self.actors[0].run(1, b'x' * 100).result()

    def map(self, items):
        # One task of Dask for each item would take a quarter of an hour.
        return None

    def put(self, array):
        begun = time.perf_counter()
        future = self.client.scatter([[array]], broadcast=True, hash=False)[0]
        found = [self.client.submit(Bare.look, None, future, workers=[worker], pure=False) for worker in self.client.nthreads()]
        self.client.gather(found)
        return time.perf_counter() - begun

    def stop(self):
        self.client.close()
        self.made.close()


class Mpi:
    """MPI has no actors, and the pool of mpi4py.futures would take all ranks for itself."""

    call = None

    def map(self, items):
        return None

    def put(self, array):
        return None

    def stop(self):
        pass


if __name__ == '__main__':
    main()
