"""Objects that a program has let go of are collected, cycles through the engine's objects, too."""

import gc
import sys
import weakref

import procession
import procession.pool
import pytest
from processes import PATIENCE, all_end
from tasks import double, fail

pytestmark = pytest.mark.limit(120)


class Held:
    """An object that a frame holds."""


def test_a_frame_that_holds_a_failed_result_is_collected():
    with procession.get_context('fork').Pool(1) as pool:
        frames = []

        def ask():
            held, result = Held(), pool.apply_async(fail, ('on purpose',))
            frames.append(weakref.ref(held))
            try:
                result.get(PATIENCE)
            except Exception as error:
                return error

        for _ in range(20):
            assert ask() is not None
        gc.collect()
        assert [frame() for frame in frames] == [None] * 20


def test_a_lazy_map_in_a_cycle_is_collected():
    with procession.get_context('fork').Pool(1) as pool:
        held = Held()

        def items():
            yield from range(1000)

        held.results = pool.imap(double, (held and item for item in items()))
        next(held.results)
        gone = weakref.ref(held)
        del held
        gc.collect()
        assert gone() is None


def test_unclosed_pools_in_cycles_end_their_workers():
    pids = []

    def make():
        pool = procession.get_context('fork').Pool(1)
        # A cycle: the pool, its result, the error, its traceback, the frame.
        pool.result = pool.apply_async(fail, ('on purpose',))
        try:
            pool.result.get(PATIENCE)
        except Exception as error:
            pool.error = error
        pids.extend(process.pid for process in pool._pool)

    with pytest.warns(ResourceWarning, match='unclosed running multiprocessing pool'):
        for _ in range(5):
            make()
        gc.collect()
    assert len(pids) == 5
    assert all_end(pids)


def test_a_map_over_a_range_leaves_nothing():
    with procession.get_context('fork').Pool(1) as pool:

        def blocks_after(calls):
            for _ in range(calls):
                pool.map(abs, range(10_000, 12_000))
            gc.collect()
            return sys.getallocatedblocks()

        before = blocks_after(20)
        assert blocks_after(200) - before < 1000
