"""Processes on a cluster."""

import signal
import time

import procession
import pytest
import tasks
from procession.connection import wait
from procession.synchronize import OwnerDiedError


@pytest.mark.parametrize(
    'target, argument, code',
    [
        (tasks.square, 2, 0),
        (tasks.leave_by, 3, 3),
        (tasks.end_by, 4, 4),
        (tasks.kill_self, signal.SIGSEGV, -11),
        (tasks.fail, 1, 1),
    ],
)
def test_its_exit_code_is_the_childs(ctx, target, argument, code):
    process = ctx.Process(target=target, args=(argument,))
    process.start()
    assert wait([process.sentinel], 60)
    process.join()
    assert process.exitcode == code


@pytest.mark.long
def test_no_exit_code_is_anothers_of_many_processes_that_follow_one_another(ctx):
    for number in range(60):
        process = ctx.Process(target=tasks.end_by, args=(number,))
        process.start()
        process.join()
        assert process.exitcode == number


def test_its_result_and_its_exception_are_those_of_the_target(ctx):
    process = ctx.Process(target=tasks.square, args=(12,))
    process.start()
    assert process.result(60) == 144
    process = ctx.Process(target=tasks.fail, args=(12,))
    process.start()
    with pytest.raises(LookupError):
        process.result(60)


@pytest.mark.parametrize('how, code', [('terminate', -15), ('kill', -9)])
def test_it_is_ended_by_a_signal(ctx, tmp_path, how, code):
    path = tmp_path / 'pid'
    process = ctx.Process(target=tasks.touch_and_sleep, args=(str(path),))
    process.start()
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert process.is_alive() and process in procession.active_children()
    getattr(process, how)()
    process.join(60)
    assert process.exitcode == code
    child = int(path.read_text())
    while tasks.is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_subclass_runs_its_own_run(ctx):
    class Own(ctx.Process):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def run(self):
            return self.value + 1

    process = Own(4)
    process.start()
    assert process.result(60) == 5


def test_a_queue_and_a_lock_are_everybodys(ctx):
    queue, lock, done = ctx.JoinableQueue(), ctx.Lock(), ctx.Event()
    namespace = ctx.Manager().Namespace(value=0)
    processes = [ctx.Process(target=tasks.count_under, args=(lock, namespace, 20)) for _ in range(2)]
    processes.append(ctx.Process(target=tasks.put_all, args=(queue, ['a', 'b'])))
    for process in processes:
        process.start()
    assert [queue.get(timeout=60), queue.get(timeout=60)] == ['a', 'b']
    queue.task_done()
    queue.task_done()
    queue.join()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert namespace.value == 40
    assert not done.wait(0.01)
    done.set()
    assert done.is_set()


def test_a_lock_of_a_killed_process_is_released_and_the_next_is_told(ctx, tmp_path):
    lock, path = ctx.Lock(), tmp_path / 'pid'
    process = ctx.Process(target=tasks.hold_and_sleep, args=(lock, str(path)))
    process.start()
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not lock.acquire(False)
    process.kill()
    with pytest.raises(OwnerDiedError, match='Lock'):
        assert not lock.acquire(True, 60)
    assert lock.acquire(True, 60)
    lock.release()


def test_a_semaphore_of_a_process_that_ended_by_itself_stays_acquired(ctx):
    semaphore = ctx.Semaphore(1)
    process = ctx.Process(target=tasks.hold_and_leave, args=(semaphore,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert not semaphore.acquire(True, 1)
    semaphore.release()
    assert semaphore.acquire(True, 60)


def test_it_gets_what_was_put(ctx):
    numpy = pytest.importorskip('numpy')
    handle = ctx.put(numpy.ones(500_000))
    process = ctx.Process(target=tasks.sum_of, args=(handle,))
    process.start()
    assert process.result(60) == 500_000.0


def test_it_starts_while_a_pool_runs(ctx, pool):
    result = pool.apply_async(tasks.sleep, (0.5,))
    process = ctx.Process(target=tasks.square, args=(2,), name='one of many')
    process.start()
    assert process.result(60) == 4
    assert result.get(60) == 0.5
