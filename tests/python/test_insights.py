"""The use of the time of a pool's workers, and the slowest tasks."""

import dataclasses
import functools
import os
import pickle
import signal
import time

import procession
import pytest
import tasks
from waits import FOR_EVER, until


class Slow:
    """Takes time to pickle, and to unpickle."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __reduce__(self):
        time.sleep(self.seconds)
        return slow, (self.seconds,)


class Unshowable:
    def __repr__(self):
        raise RuntimeError('no repr')


def slow(seconds):
    time.sleep(seconds)
    return Slow(seconds)


def nap(seconds, *others, **named):
    time.sleep(seconds)
    return seconds


def nap_and_fail(seconds):
    raise ValueError(nap(seconds))


def hang(path):
    with open(path, 'w'):
        pass
    time.sleep(FOR_EVER)


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def tasks_of(insights):
    return sum(worker.tasks for worker in insights.workers)


@pytest.fixture
def pool(ctx):
    with ctx.Pool(1, insights=True) as pool:
        yield pool


def test_time_is_told_by_what_it_was_spent_on(ctx):
    with ctx.Pool(2, initializer=nap, initargs=(0.05,), insights=True) as pool:
        pool.map(nap, [0.03] * 4, chunksize=1)
        until(lambda: pool.insights().total.waiting > 0.02)
        insights = pool.insights()
    assert [(worker.slot, worker.started) for worker in insights.workers] == [(0, 1), (1, 1)]
    assert tasks_of(insights) == 4
    assert all(worker.times.start_up >= 0.05 for worker in insights.workers)
    assert insights.total.working >= 0.12 and insights.total.pickling > 0
    assert sum(worker.times.total for worker in insights.workers) == pytest.approx(insights.total.total)
    assert sum(insights.total.shares.values()) == pytest.approx(1)
    assert list(insights.total.shares) == ['start_up', 'waiting', 'working', 'pickling']


def test_pickling_on_both_ways_is_told_apart_from_work(pool):
    pool.apply(abs, (-1,))
    before = pool.insights().total
    pool.apply(type, (Slow(0.05),))
    then = pool.insights().total
    assert then.pickling >= before.pickling + 0.05
    pool.apply(Slow, (0.05,))
    assert pool.insights().total.pickling >= then.pickling + 0.05
    assert pool.insights().total.working < then.pickling


def test_slowest_tasks_are_named_with_their_arguments(pool):
    seconds = [0.3 if x % 10 == 7 else 0 for x in range(50)]
    result = pool.map_async(nap, seconds)
    result.get()
    slowest = pool.insights().slowest
    assert sorted(slow.index for slow in slowest) == [7, 17, 27, 37, 47]
    assert {slow.call for slow in slowest} == {'nap(0.3)'} and {slow.slot for slow in slowest} == {0}
    assert len({slow.job for slow in slowest}) == 1 and all(slow.seconds >= 0.3 for slow in slowest)
    assert [slow.seconds for slow in slowest] == sorted((slow.seconds for slow in slowest), reverse=True)


def test_arguments_of_each_kind_of_call_are_shown(pool):
    pool.apply(nap, (0.1, 'one'), {'named': [1, 2]})
    pool.starmap(nap, [(0.1, 'two')])
    pool.map(functools.partial(nap, 0.1), ['three'], retries=1)
    list(pool.imap(nap, [0.1]))
    calls = {slow.call for slow in pool.insights().slowest}
    assert calls == {"nap(0.1, 'one', named=[1, 2])", "nap(0.1, 'two')", "nap('three')", 'nap(0.1)'}
    pool.apply(nap, (0.2, 'x' * 1000))
    shown = next(slow.call for slow in pool.insights().slowest if 'xxx' in slow.call)
    assert shown.endswith('...)') and len(shown) == len('nap()') + 200


def test_arguments_that_cannot_be_shown_fail_no_task(pool):
    assert pool.apply(nap, (0.05, Unshowable())) == 0.05
    assert pool.insights().slowest[0].call.startswith('nap(0.05, <Unshowable instance at')


def test_steered_functions_go_by_their_own_names(ctx):
    with ctx.Pool(1, insights=True, contextvars=True) as pool:
        pool.map(nap, [0.01], retries=1, retry_on=OSError)
        assert pool.insights().slowest[0].call == 'nap(0.01)'


def test_tasks_that_raise_are_measured(pool):
    with pytest.raises(ValueError):
        pool.apply(nap_and_fail, (0.05,))
    insights = pool.insights()
    assert insights.total.working >= 0.05 and tasks_of(insights) == 1
    assert insights.slowest[0].call == 'nap_and_fail(0.05)'


def test_killed_worker_loses_no_time_and_no_slow_task(pool):
    pool.map(nap, [0.05, 0, 0.06])
    before = pool.insights()
    with pytest.raises(procession.WorkerLost):
        pool.apply(die, (1,))
    pool.apply(nap, (0.07,))
    insights = pool.insights()
    assert [(worker.started, worker.tasks) for worker in insights.workers] == [(2, 4)]
    assert insights.total.working >= before.total.working + 0.07
    assert insights.total.start_up > before.total.start_up
    calls = {slow.call for slow in insights.slowest}
    assert calls == {'nap(0.05)', 'nap(0)', 'nap(0.06)', 'nap(0.07)'}


def test_kill_in_the_middle_of_a_task_counts_as_work(pool, tmp_path):
    result = pool.apply_async(hang, (str(tmp_path / 'begun'),))
    until((tmp_path / 'begun').exists)
    until(lambda: pool.insights().total.working > 0.05)
    os.kill(pool._engine.worker_pids()[0], signal.SIGKILL)
    with pytest.raises(procession.WorkerLost):
        result.get()
    insights = pool.insights()
    assert insights.total.working > 0.05 and insights.slowest == () and tasks_of(insights) == 0


def test_task_whose_call_was_cancelled_is_told_without_its_index(pool):
    result = pool.map_async(nap, [0.05] * 3, chunksize=1, fail_fast=True)
    failing = pool.map_async(nap_and_fail, [0.01, 0.2, 0.2], chunksize=3, fail_fast=True)
    result.get()
    with pytest.raises(ValueError):
        failing.get()
    assert pool.insights().slowest[0].index in (0, 1, 2)


def test_replaced_workers_stay_in_the_sums(ctx):
    with ctx.Pool(1, maxtasksperchild=1, insights=True) as pool:
        pool.map(nap, [0.02] * 3, chunksize=1)
        until(lambda: tasks_of(pool.insights()) == 3)
        insights = pool.insights()
    assert len(insights.workers) == 1 and insights.workers[0].started >= 3
    assert insights.total.working >= 0.06 and len(insights.slowest) == 3


def test_pool_that_has_ended_still_tells(ctx):
    with ctx.Pool(2, insights=True) as pool:
        pool.map(nap, [0.02, 0.03])
        pool.close()
        pool.join()
        insights = pool.insights()
        assert insights.total.working >= 0.05 and pool.insights() == insights
    with ctx.Pool(2, insights=True) as pool:
        pool.map(nap, [0.02, 0.03])
    assert pool.insights().total.working >= 0.05


def test_insights_are_plain_data_and_a_table(pool):
    pool.map(nap, [0.01, 0.02])
    insights = pool.insights()
    lines = str(insights).splitlines()
    assert lines[0].split() == ['worker', 'started', 'tasks', 'start-up', 'waiting', 'working', 'pickling', 'seconds']
    assert lines[1].split()[:3] == ['0', '1', '2'] and lines[2].split()[0] == 'all'
    assert any('nap(0.02), item 1 of job' in line for line in lines)
    assert pickle.loads(pickle.dumps(insights)) == insights
    with pytest.raises(dataclasses.FrozenInstanceError):
        insights.total = None
    assert dataclasses.asdict(insights)['slowest'][0]['call'].startswith('nap(')


def test_pool_that_does_not_measure_says_so(ctx):
    with ctx.Pool(1) as pool:
        with pytest.raises(ValueError, match=r'Pool\(insights=True\)'):
            pool.insights()
        assert pool.map(tasks.double, range(3)) == [0, 2, 4]


def test_forked_child_is_refused():
    with procession.get_context('fork').Pool(1, insights=True) as pool:
        pid = os.fork()
        if pid == 0:
            try:
                pool.insights()
            except RuntimeError as error:
                os._exit(0 if 'fork' in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
