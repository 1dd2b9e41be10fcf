"""Executors and pools of this package in the places where dask and tqdm take one."""

import multiprocessing.pool
import signal

import pytest
from procession.futures import BrokenProcessPool, ProcessPoolExecutor
from tasks import add, double, end_by, whose_process


@pytest.fixture
def dask():
    """Returns dask, where it installs."""
    return pytest.importorskip('dask')


@pytest.fixture
def tqdm():
    """Returns tqdm, where it installs."""
    return pytest.importorskip('tqdm')


def _total(dask, pool):
    with dask.config.set(scheduler='processes', pool=pool):
        numbers = [dask.delayed(add)(i, 1) for i in range(20)]
        whose = dask.delayed(whose_process)()
        total, (is_ours, _, _) = dask.compute(dask.delayed(sum)(numbers), whose)
    return total, is_ours


@pytest.mark.limit(120)
def test_dask_computes_in_an_executor(dask, ctx):
    with ProcessPoolExecutor(2, ctx) as executor:
        assert _total(dask, executor) == (210, True)
        with dask.config.set(scheduler='processes', pool=executor), pytest.raises(BrokenProcessPool):
            dask.compute(dask.delayed(end_by)(signal.SIGKILL))
        # A lost worker costs that computation alone.
        assert _total(dask, executor) == (210, True)


@pytest.mark.limit(120)
def test_dask_computes_in_a_pool(dask, ctx):
    with ctx.Pool(2) as pool:
        assert isinstance(pool, multiprocessing.pool.Pool)
        assert _total(dask, pool) == (210, True)


def test_tqdm_shows_the_progress_of_maps(tqdm, ctx):
    with ProcessPoolExecutor(2, ctx) as executor, ctx.Pool(2) as pool:
        with tqdm.tqdm(executor.map(double, range(50)), total=50, file=_Dropped()) as shown:
            assert list(shown) == list(range(0, 100, 2)) and shown.n == 50
        with tqdm.tqdm(pool.imap_unordered(double, range(50)), total=50, file=_Dropped()) as shown:
            assert sorted(shown) == list(range(0, 100, 2)) and shown.n == 50


def test_tqdm_maps_in_our_executor(tqdm, monkeypatch):
    from tqdm.contrib.concurrent import process_map

    # It asks `concurrent.futures` for the class, and makes a lock of the standard library's default
    # context.
    made = []

    class Executor(ProcessPoolExecutor):
        def __init__(self, *args, **terms):
            made.append(self)
            super().__init__(*args, **terms)

    monkeypatch.setattr('concurrent.futures.ProcessPoolExecutor', Executor)
    found = process_map(double, range(50), max_workers=2, chunksize=5, file=_Dropped())
    assert found == list(range(0, 100, 2)) and len(made) == 1


class _Dropped:
    """A stream that nobody reads."""

    def write(self, text):
        return len(text)

    def flush(self):
        return None
