"""The context of the tests of clusters: that of the cluster that `PROCESSION_TEST_CLUSTER` names.

`cargo xtask scale` runs them, once for each cluster, in namespaces of their own: nothing listens
outside and nothing is left. Under MPI this is the program of rank 0.
"""

import faulthandler
import os
import pathlib
import sys

import procession
import pytest

# Functions of the tests go to children by name, which find them by the path that the program has.
sys.path.insert(0, str(pathlib.Path(__file__).parent))

NAME = os.environ.get('PROCESSION_TEST_CLUSTER', '')
# Slots of the cluster, and seconds for one test.
SLOTS = 8
LIMIT = 100


def pytest_collection_modifyitems(items):
    if not NAME:
        for item in items:
            item.add_marker(pytest.mark.skip(reason='PROCESSION_TEST_CLUSTER names no cluster: run `cargo xtask scale`'))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    own = item.get_closest_marker('limit')
    faulthandler.dump_traceback_later(own.args[0] if own else LIMIT, exit=True, file=sys.__stderr__)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope='session')
def cluster():
    """Starts the cluster, and returns the arguments of its context."""
    if NAME == 'ray':
        import ray

        # A machine that is lost is noticed in 2 seconds.
        os.environ.update(
            RAY_health_check_period_ms='500', RAY_health_check_timeout_ms='1000', RAY_health_check_failure_threshold='3'
        )
        ray.init(num_cpus=SLOTS, include_dashboard=False, object_store_memory=600 * 2**20, log_to_driver=False)
        yield ('ray',)
        ray.shutdown()
    elif NAME == 'dask':
        import distributed

        with distributed.LocalCluster(
            n_workers=4, threads_per_worker=SLOTS // 4, dashboard_address=None, host='127.0.0.1'
        ) as made:
            with distributed.Client(made) as client:
                yield ('dask', client)
    else:
        yield (NAME,)


@pytest.fixture(scope='session')
def ctx(cluster):
    """Returns the context of the cluster."""
    return procession.get_context(*cluster)


@pytest.fixture(scope='module')
def pool(ctx):
    """Returns a pool of two workers that the tests of a module share."""
    with ctx.Pool(2) as pool:
        yield pool
