"""The executor and joblib's backend on a cluster."""

import procession
import pytest
import tasks
from procession.futures import ProcessPoolExecutor


def test_an_executor_runs_on_the_cluster(ctx):
    with ProcessPoolExecutor(2, mp_context=ctx) as executor:
        assert list(executor.map(tasks.square, range(20), chunksize=3)) == [x * x for x in range(20)]
        lost = executor.submit(tasks.end_by, 3)
        with pytest.raises(procession.WorkerLost) as caught:
            lost.result(60)
        assert caught.value.exitcode == 3
        assert executor.submit(tasks.square, 5).result(60) == 25


def test_joblib_runs_on_the_cluster(ctx):
    joblib = pytest.importorskip('joblib')
    numpy = pytest.importorskip('numpy')
    import procession.joblib

    procession.joblib.register()
    arrays = [numpy.full(300_000, float(x)) for x in range(4)]
    try:
        with joblib.parallel_config('procession', n_jobs=2, context=ctx):
            assert joblib.Parallel()(joblib.delayed(tasks.square)(x) for x in range(10)) == [x * x for x in range(10)]
            assert joblib.Parallel()(joblib.delayed(tasks.sum_of)(array) for array in arrays) == [x * 3e5 for x in range(4)]
    finally:
        procession.joblib.shutdown()
