"""Pools on a cluster: what they have in common with local ones, and what a death costs."""

import os
import signal
import threading
import time

import procession
import pytest
import tasks


def test_each_method_returns_what_the_local_pool_returns(pool):
    assert pool.apply(tasks.square, (7,)) == 49
    assert pool.apply(tasks.add, (1,), {'y': 2}) == 3
    assert pool.map(tasks.square, range(1000)) == [x * x for x in range(1000)]
    assert pool.starmap(tasks.add, [(x, 1) for x in range(50)]) == list(range(1, 51))
    assert list(pool.imap(tasks.square, range(30), chunksize=7)) == [x * x for x in range(30)]
    assert sorted(pool.imap_unordered(tasks.square, range(30))) == [x * x for x in range(30)]
    assert pool.apply_async(tasks.square, (3,)).get(60) == 9
    assert pool.map_async(tasks.square, [1.5] * 20).get(60) == [2.25] * 20


def test_callbacks_are_called_in_the_program(pool):
    told = threading.Event()
    values = []
    pool.apply_async(tasks.square, (4,), callback=lambda value: (values.append(value), told.set()))
    assert told.wait(60) and values == [16]
    told.clear()
    pool.apply_async(tasks.fail, (4,), error_callback=lambda error: (values.append(error), told.set()))
    assert told.wait(60) and isinstance(values[1], LookupError)


def test_an_exception_says_where_it_belongs(pool):
    with pytest.raises(LookupError, match='no 17') as caught:
        pool.starmap(tasks.fail_at, [(x, 17) for x in range(40)])
    assert caught.value.index == 17
    assert 'fail_at(17, 17)' in ''.join(caught.value.__notes__)
    assert 'tasks.py' in str(caught.value.__cause__)


def test_exceptions_may_take_the_place_of_results(pool):
    found = pool.starmap(tasks.fail_at, [(x, 2) for x in range(5)], return_exceptions=True)
    assert [x for x in found if not isinstance(x, LookupError)] == [0, 1, 3, 4]
    assert isinstance(found[2], LookupError)


def test_functions_of_the_main_module_and_closures_go_by_value(pool):
    factor = 3
    assert pool.map(lambda x: x * factor, range(4)) == [0, 3, 6, 9]
    table = list(range(5000))
    assert pool.map(lambda x: table[x], range(100), chunksize=1) == table[:100]


def test_large_values_come_and_go(pool):
    data = os.urandom(3_000_000)
    assert pool.apply(bytes.__add__, (data, b'!')) == data + b'!'
    assert pool.map(len, [data, data[:100]]) == [3_000_000, 100]


@pytest.mark.parametrize(
    'task, argument, code',
    [(tasks.end_by, 3, 3), (tasks.leave_by, 4, 4), (tasks.kill_self, signal.SIGKILL, -9), (tasks.kill_self, signal.SIGSEGV, -11)],
)
def test_a_child_that_dies_costs_its_task_alone(pool, task, argument, code):
    others = [pool.apply_async(tasks.square, (x,)) for x in range(20)]
    with pytest.raises(procession.WorkerLost) as caught:
        pool.apply(task, (argument,))
    assert caught.value.exitcode == code
    assert caught.value.host
    assert caught.value.host in str(caught.value)
    assert [other.get(60) for other in others] == [x * x for x in range(20)]
    assert pool.map(tasks.square, range(100)) == [x * x for x in range(100)]


def test_a_task_whose_child_died_runs_again_if_asked(pool, tmp_path):
    assert pool.apply(tasks.end_once, (str(tmp_path / 'once'), 5), retries=1) == 5
    with pytest.raises(procession.WorkerLost):
        pool.apply(tasks.end_once, (str(tmp_path / 'never'), 5))


def test_a_time_limit_ends_the_child(pool):
    with pytest.raises(procession.TaskTimeoutError) as caught:
        pool.apply(tasks.sleep, (60,), timeout=0.5)
    assert caught.value.host
    assert pool.map(tasks.square, range(10)) == [x * x for x in range(10)]


def test_terminate_ends_the_children(ctx, tmp_path):
    pool = ctx.Pool(1)
    path = tmp_path / 'pid'
    result = pool.apply_async(tasks.touch_and_sleep, (str(path),))
    child = _pid_in(path)
    pool.terminate()
    pool.join()
    _wait_until(lambda: not tasks.is_alive(child))
    with pytest.raises(procession.ProcessError):
        result.get(10)


def test_workers_have_their_slot_initializer_finalizer_and_task_limit(ctx, tmp_path):
    path = tmp_path / 'notes'
    terms = {'maxtasksperchild': 2, 'finalizer': lambda: tasks.note(str(path), 'left')}
    with ctx.Pool(2, tasks.set_state, ('ready',), env={'TEST_OF': 'scale'}, **terms) as pool:
        assert set(pool.map(tasks.slot, range(4), chunksize=1)) <= {0, 1}
        assert pool.map(tasks.get_state, range(4), chunksize=1) == ['ready'] * 4
        assert pool.apply(tasks.environment, ('TEST_OF',)) == 'scale'
        assert len({pool.apply(tasks.pid) for _ in range(12)}) >= 3
        pool.close()
        pool.join()
    assert path.read_text().startswith('left\n')


def test_a_pool_grows_and_shrinks(ctx):
    with ctx.Pool(1) as pool:
        pool.resize(3)
        assert pool.map(tasks.square, range(30), chunksize=1) == [x * x for x in range(30)]
        assert pool._processes == 3
        pool.resize(1)
        assert pool.map(tasks.square, range(30)) == [x * x for x in range(30)]


def test_an_initializer_that_fails_is_told(ctx):
    with pytest.raises(procession.BrokenPoolError) as caught, ctx.Pool(1, tasks.refuse_to_begin) as pool:
        pool.apply(tasks.square, (1,))
    assert 'no table here' in str(caught.value.__cause__)


def test_more_workers_than_the_cluster_has_are_refused(ctx):
    there = ctx.cpu_count()
    with pytest.raises(ValueError, match=str(there)):
        ctx.Pool(there + 1)


def test_what_belongs_to_one_machine_is_refused(ctx, pool):
    local = procession.get_context('spawn')
    for refused in (
        lambda: ctx.Value('i', 0),
        lambda: ctx.Array('i', 3),
        lambda: ctx.RawArray('i', 3),
        lambda: ctx.Pipe(),
        lambda: ctx.share(b''),
        lambda: ctx.Pool(1, memory_limit=1 << 30),
        lambda: pool.apply(tasks.square, (local.Lock(),)),
        lambda: pool.apply(tasks.square, (local.Queue(),)),
        lambda: pool.apply(tasks.square, (local.Value('i', 0),)),
    ):
        with pytest.raises(procession.NotRemote):
            refused()


def test_arrays_by_value_may_be_changed_and_those_that_are_put_may_not(ctx, pool):
    numpy = pytest.importorskip('numpy')
    array = numpy.ones(1_000_000)
    assert pool.apply(tasks.change, (array,)) == 5.0
    small, large = ctx.put(array[:10]), ctx.put(array)
    assert pool.starmap(tasks.add, [(1, 2)]) == [3]
    assert pool.map(tasks.sum_of, [large, small] * 4, chunksize=1) == [1e6, 10.0] * 4
    assert pool.apply(tasks.is_writable, (large,)) is False
    with pytest.raises(ValueError):
        pool.apply(tasks.change, (large,))
    del small, large
    again = ctx.put(array * 2)
    assert pool.apply(tasks.sum_of, (again,)) == 2e6


def _pid_in(path):
    _wait_until(lambda: path.exists() and path.read_text())
    return int(path.read_text())


def _wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
