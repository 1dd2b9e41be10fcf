"""Each worker of a pool has a slot, and may have an environment, devices, processors, threads."""

import os
import signal
import subprocess
import sys
import time

import early
import procession
import pytest
from waits import until

DEVICES = ['CUDA_VISIBLE_DEVICES', 'HIP_VISIBLE_DEVICES', 'ZE_AFFINITY_MASK']


def look(names):
    return procession.current_worker().slot, [os.environ.get(name) for name in names]


def slot_and_pid(_):
    time.sleep(0.001)
    return procession.current_worker().slot, os.getpid()


def cpus_of(_):
    return procession.current_worker().slot, sorted(os.sched_getaffinity(0))


def threads_of(_):
    import numpy  # noqa: F401
    import threadpoolctl

    return [pool['num_threads'] for pool in threadpoolctl.threadpool_info()]


def slot_in_a_child(_):
    ctx = procession.get_context('fork')
    process = ctx.Process(target=procession.current_worker)
    process.start()
    return process.result()


def by_slot(pool, function, argument, count=2):
    """Returns the answer of each worker, by its slot."""
    found = {}

    def all_have_answered():
        found.update(pool.map(function, [argument] * 8, chunksize=1))
        return len(found) == count

    until(all_have_answered)
    return [found[slot] for slot in range(count)]


@pytest.fixture(autouse=True, scope='module')
def threads_of_the_engine():
    """A process makes them once and keeps what they wait with."""
    with procession.get_context('fork').Pool(1) as pool:
        pool.apply(abs, (1,))


@pytest.fixture(autouse=True)
def check(threads_of_the_engine, nothing_left):
    pass


def test_replacement_has_its_predecessors_slot_and_place(ctx):
    assert procession.current_worker() is None
    with ctx.Pool(2, devices=['a', 'b'], daemon=False) as pool:
        pids = dict(zip(range(2), by_slot(pool, slot_and_pid, None)))
        os.kill(pids[1], signal.SIGKILL)
        until(lambda: pids[1] not in pool._engine.worker_pids() and len(pool._engine.worker_pids()) == 2)
        after = by_slot(pool, slot_and_pid, None)
        assert after[0] == pids[0] and after[1] != pids[1]
        assert by_slot(pool, look, ['CUDA_VISIBLE_DEVICES']) == [['a'], ['b']]
        assert pool.apply(slot_in_a_child, (None,)) is None


def test_environment_is_set_by_slot(ctx, monkeypatch):
    monkeypatch.setenv('PLACES_GONE', 'here')
    with ctx.Pool(2, env=lambda slot: {'PLACES_SEEN': f'slot {slot}', 'PLACES_GONE': None}) as pool:
        assert by_slot(pool, look, ['PLACES_SEEN', 'PLACES_GONE']) == [['slot 0', None], ['slot 1', None]]
    assert 'PLACES_SEEN' not in os.environ and os.environ['PLACES_GONE'] == 'here'


@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_environment_is_set_before_the_program_is_imported(ctx):
    with ctx.Pool(2, env={'PLACES_SEEN': 'yes'}) as pool:
        assert {(slot, *rest) for slot, *rest in pool.map(early.seen, range(50), chunksize=1)} <= {
            (n, 'yes', n) for n in range(2)
        }


def test_devices_are_dealt_out(ctx):
    with ctx.Pool(2, devices=[0, [2, 3]]) as pool:
        assert by_slot(pool, look, DEVICES) == [['0'] * 3, ['2,3'] * 3]
        with pytest.raises(ValueError, match='devices has 2 entries and the pool 3 workers'):
            pool.resize(3)
        assert len(pool.map(abs, range(10))) == 10


def test_identifiers_go_to_those_who_know_them(ctx):
    with ctx.Pool(1, devices=['GPU-8932f937'], env={'HIP_VISIBLE_DEVICES': '7'}) as pool:
        assert pool.apply(look, (DEVICES,)) == (0, ['GPU-8932f937', '7', os.environ.get('ZE_AFFINITY_MASK')])


def test_workers_are_pinned(ctx):
    allowed = sorted(os.sched_getaffinity(0))
    with ctx.Pool(2, cpus='spread') as pool:
        shares = by_slot(pool, cpus_of, None)
        if len(allowed) > 1:
            assert sorted(shares[0] + shares[1]) == allowed
    with ctx.Pool(2, cpus=[allowed[-1], [allowed[0]]]) as pool:
        assert by_slot(pool, cpus_of, None) == [[allowed[-1]], [allowed[0]]]
    assert sorted(os.sched_getaffinity(0)) == allowed


def test_threads_of_libraries_are_limited(ctx):
    pytest.importorskip('numpy')
    pytest.importorskip('threadpoolctl')
    # Imported here, so that forked workers have it loaded.
    assert threads_of(None) is not None
    with ctx.Pool(2, threads=1) as pool:
        assert set(sum(pool.map(threads_of, range(4)), [])) == {1}
        assert by_slot(pool, look, ['OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS']) == [['1', '1']] * 2
    with ctx.Pool(2, threads='auto', cpus='spread') as pool:
        shares = [str(len(cpus)) for cpus in by_slot(pool, cpus_of, None)]
        assert by_slot(pool, look, ['OMP_NUM_THREADS']) == [[share] for share in shares]


@pytest.mark.parametrize(
    ('terms', 'error', 'text'),
    [
        ({'devices': [0]}, ValueError, 'devices has 1 entries and the pool 2 workers'),
        ({'devices': '01'}, TypeError, 'devices must be a list'),
        ({'devices': [0, 1.5]}, TypeError, 'object is not iterable|a device is'),
        ({'cpus': [0]}, ValueError, 'cpus has 1 entries'),
        ({'cpus': [100_000, 0]}, ValueError, r'cpus names \[100000\]'),
        ({'cpus': [[], 0]}, ValueError, 'cpus names no processor'),
        ({'cpus': 'all'}, ValueError, "cpus is 'spread'"),
        ({'threads': 0}, ValueError, 'threads is a number'),
        ({'threads': 'many'}, ValueError, 'threads is a number'),
        ({'env': {'A': 1}}, TypeError, r"env\['A'\] must be a string"),
        ({'env': {'A=B': '1'}}, ValueError, 'cannot be an environment variable'),
        ({'env': ['A']}, TypeError, 'env must be a dict'),
        ({'env': lambda slot: {}[slot]}, KeyError, '0'),
    ],
)
def test_wrong_places_are_refused(ctx, terms, error, text):
    with pytest.raises(error, match=text):
        ctx.Pool(2, **terms)


def test_a_pool_of_places_costs_no_module_when_off():
    program = "import sys, procession; p = procession.get_context('fork').Pool(1); p.apply(abs, (1,)); p.terminate(); "
    program += "print('procession._places' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', program], capture_output=True, text=True).stdout == 'False\n'
