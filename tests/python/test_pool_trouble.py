"""Pools in trouble: situations in which other pools hang, leak or lose data."""

import functools
import gc
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time
import warnings
import weakref

import procession
import pytest
from processes import PATIENCE, all_end
from procession.futures import ProcessPoolExecutor
from waits import until


class Awkward(Exception):
    """An exception whose pickle does not unpickle."""

    def __init__(self, one, two):
        super().__init__(f'{one} and {two}')


class Unloadable:
    def __reduce__(self):
        return fail_to_load, ()


def fail_to_load():
    raise LookupError('cannot be loaded')


def square(x):
    return x * x


def kill_me():
    os.kill(os.getpid(), signal.SIGKILL)


def leave(code):
    sys.exit(code)


def leave_at_once(code):
    os._exit(code)


def raise_awkward():
    raise Awkward('this', 'that')


def raise_with_cause():
    try:
        raise KeyError('inner')
    except KeyError as error:
        raise ValueError('outer') from error


def return_a_lock():
    import threading

    return threading.Lock()


def fail_to_begin():
    raise RuntimeError('no licence')


def slow(seconds):
    time.sleep(seconds)
    return seconds


def fail_once(path):
    if not os.path.exists(path):
        open(path, 'w').close()
        kill_me()
    return 'done'


@pytest.fixture
def pool(ctx):
    with ctx.Pool(2) as pool:
        yield pool


def test_a_killed_worker_costs_its_task_alone(pool):
    results = [pool.apply_async(square, (x,)) for x in range(50)]
    dead = pool.apply_async(kill_me)
    results += [pool.apply_async(square, (x,)) for x in range(50)]
    with pytest.raises(procession.WorkerLost, match='SIGKILL while it ran kill_me') as caught:
        dead.get(60)
    assert caught.value.exitcode == -signal.SIGKILL and caught.value.pid > 0
    assert [result.get(60) for result in results] == [x * x for x in range(50)] * 2


def test_idle_workers_that_are_killed_are_not_missed(pool):
    pool.map(square, range(10))
    for worker in pool._pool:
        os.kill(worker.pid, signal.SIGKILL)
    assert pool.map(square, range(10)) == [x * x for x in range(10)]


@pytest.mark.parametrize('function', [leave, leave_at_once])
def test_a_task_that_exits(pool, function):
    with pytest.raises(procession.WorkerLost, match='exited with code 3'):
        pool.apply(function, (3,))
    assert pool.apply(square, (2,)) == 4


def test_exceptions_arrive_as_they_were(pool):
    with pytest.raises(Awkward, match='this and that'):
        pool.apply(raise_awkward)
    with pytest.raises(ValueError, match='outer') as caught:
        pool.apply(raise_with_cause)
    cause = caught.value.__cause__
    assert isinstance(cause, KeyError) and cause.args == ('inner',)
    assert 'in raise_with_cause' in str(cause.__cause__)


def test_argument_that_does_not_pickle_fails_its_call_alone(pool):
    with pytest.raises(LookupError, match='cannot be loaded'):
        pool.apply(square, (Unloadable(),))
    with pytest.raises(procession.pool.MaybeEncodingError, match='lock'):
        pool.apply(return_a_lock)
    with pytest.raises(TypeError, match='lock'):
        pool.apply(square, (return_a_lock(),))
    assert pool.apply(square, (3,)) == 9


def test_an_initializer_that_raises_breaks_the_pool_clearly(ctx):
    pool = ctx.Pool(1, initializer=fail_to_begin)
    with pytest.raises(procession.BrokenPoolError) as caught:
        pool.apply_async(square, (1,)).get(60)
    assert 'no licence' in str(caught.value.__cause__)
    pool.terminate()
    pool.join()


@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_an_initializer_that_does_not_pickle_is_refused_at_once(method):
    with open(__file__) as file, pytest.raises(TypeError, match='pickle'):
        procession.get_context(method).Pool(2, initializer=print, initargs=(file,))
    assert not procession.active_children()


def test_a_callback_that_raises_is_the_result(pool):
    def refuse(value):
        raise LookupError(f'not {value}')

    with pytest.raises(LookupError, match='not 4'):
        pool.apply_async(square, (2,), callback=refuse).get(30)
    assert pool.apply(square, (3,)) == 9


def test_terminate_from_a_callback_and_after_a_kill(ctx):
    pool = ctx.Pool(2)
    pool.apply_async(square, (1,), callback=lambda _: pool.terminate())
    until(lambda: pool._state == procession.pool.TERMINATE)
    pool.join()
    pool = ctx.Pool(2)
    os.kill(pool._pool[0].pid, signal.SIGKILL)
    pool.terminate()
    pool.join()


def test_terminate_calls_no_callback_of_what_it_gives_up(ctx):
    pool, called = ctx.Pool(2), []

    def end(outcome):
        called.append(outcome)
        pool.terminate()

    results = [pool.apply_async(slow, (600,), callback=end, error_callback=end) for _ in range(10)]
    pool.terminate()
    for result in results:
        with pytest.raises(procession.ProcessError):
            result.get(30)
    pool.join()
    assert called == []


def descriptors(kind):
    """Returns the targets of this process's descriptors of one kind."""
    found = []
    for fd in pathlib.Path('/proc/self/fd').iterdir():
        try:
            if kind in os.readlink(fd):
                found.append((os.readlink(fd), fd.stat().st_mode & 0o777))
        except FileNotFoundError:
            continue  # of the listing itself
    return found


@pytest.mark.parametrize('end', ['terminate', 'close', 'with', 'kill'])
def test_pidfds_of_workers_are_closed_when_their_pool_has_ended(ctx, end):
    ctx.Process(target=abs, args=(1,)).start()
    before = len(descriptors('pidfd'))
    pool = ctx.Pool(20)
    assert pool.map(abs, range(10)) == list(range(10))
    if end == 'kill':
        for process in list(pool._pool):
            process.kill()
            process.join(PATIENCE)
            del process
    if end == 'with':
        with pool:
            pass
    else:
        getattr(pool, 'close' if end == 'close' else 'terminate')()
        pool.join()
    # The thread of the pool may be about to close the last one.
    assert len(descriptors('pidfd')) < before + 3
    assert not any('PoolWorker' in process.name for process in procession.active_children())


def test_memory_of_pools_and_queues_is_its_users_alone(ctx):
    queue, value = ctx.Queue(), ctx.Value('i', 1)
    with ctx.Pool(1) as pool:
        assert pool.apply(abs, (-1,)) == 1
        found = descriptors('memfd:')
    assert len(found) >= 3
    assert {mode for _, mode in found} == {0o600}, found
    del queue, value


def test_a_result_that_was_taken_keeps_no_pool(ctx):
    pool = ctx.Pool(1)
    results = [pool.map_async(square, range(100)), pool.apply_async(square, (2,))]
    assert [result.get(30) for result in results] and [result.get() for result in results]
    waited = pool.map_async(square, range(100), 1)
    assert waited.get()[-1] == 99 * 99
    pool.close()
    pool.join()
    dropped = weakref.ref(pool)
    del pool
    gc.collect()
    assert dropped() is None and waited.ready()


def test_a_dropped_pool_ends_its_workers(ctx):
    pool = ctx.Pool(2)
    pids = [worker.pid for worker in pool._pool]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ResourceWarning)
        del pool
        gc.collect()
    assert all_end(pids)


def test_time_limits_retries_and_cancelling(ctx, tmp_path):
    with ctx.Pool(2) as pool:
        with pytest.raises(procession.TaskTimeoutError, match='slow ran longer'):
            pool.apply(slow, (60,), timeout=0.2)
        assert pool.apply(fail_once, (str(tmp_path / 'failed'),), retries=1) == 'done'
        result = pool.apply_async(slow, (60,))
        until(lambda: any(worker['running'] for worker in pool.stats()['workers']))
        assert result.cancel()
        with pytest.raises(procession.CancelledError):
            result.get(30)
        assert not result.cancel()
        assert pool.map(square, [1, 2], timeout=30) == [1, 4]


def test_a_generator_that_raises_is_heard_where_its_results_are_taken(pool):
    def items():
        yield 1
        yield 2
        raise LookupError('no more')

    results = pool.imap(square, items())
    assert [next(results), next(results)] == [1, 4]
    with pytest.raises(LookupError, match='no more'):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_a_task_given_up_with_its_pool(ctx):
    pool = ctx.Pool(1)
    results = [pool.apply_async(slow, (60,)) for _ in range(3)]
    pool.terminate()
    for result in results:
        with pytest.raises(procession.ProcessError, match='terminated'):
            result.get(30)
    pool.join()


def test_ctrl_c_during_a_map(method, tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(
        textwrap.dedent(f"""
        import sys, time
        import procession

        def slow(x):
            if x == 0:
                print('begun', flush=True)
            time.sleep(3600)

        if __name__ == '__main__':
            pool = procession.get_context('{method}').Pool(2)
            try:
                pool.map(slow, range(8), 1)
            finally:
                pool.close()
                pool.join()
    """)
    )
    process = subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == 'begun\n'
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=50)
    assert errors.count('Traceback (most recent call last)') == 1, errors
    assert errors.rstrip().endswith('KeyboardInterrupt')


def test_workers_end_with_a_killed_parent(method, tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(
        textwrap.dedent(f"""
        import time
        import procession

        if __name__ == '__main__':
            pool = procession.get_context('{method}').Pool(2)
            pool.map(abs, range(10))
            print(*(worker.pid for worker in pool._pool), flush=True)
            time.sleep(60)
    """)
    )
    process = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    process.kill()
    process.communicate(timeout=30)
    assert all_end(pids)


# Processes that the user's code forks.


def fork_and(act):
    """Returns the exit code of a process that leaves this function by `act`."""
    pid = os.fork()
    if pid == 0:
        return act()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def return_text():
    return 'of the copy'


@pytest.mark.parametrize('act, code', [(return_text, 0), (fail_to_load, 1), (functools.partial(leave, 3), 3)])
def test_a_process_that_a_task_forks_ends_as_it_leaves_the_task(ctx, act, code, capfd, nothing_left):
    with ctx.Pool(2) as pool:
        assert pool.map(fork_and, [act] * 4, chunksize=1) == [code] * 4
        assert pool.map(square, range(100), chunksize=1) == [x * x for x in range(100)]
    with ProcessPoolExecutor(1, ctx) as executor:
        assert executor.submit(fork_and, act).result() == code
    if ctx.get_start_method() != 'forkserver':
        # A server's streams are those of the test that has started it.
        assert capfd.readouterr().err.count('in fork_and') == (5 if act is fail_to_load else 0)


@pytest.mark.parametrize('act', [return_text, fail_to_load])
def test_a_process_that_an_initializer_forks_is_no_second_worker(ctx, act, nothing_left):
    with ctx.Pool(2, fork_and, [act]) as pool:
        children = pool.map(count_children, range(4))
        assert children == [0] * 4
        assert pool.map(square, range(100), chunksize=1) == [x * x for x in range(100)]


def count_children(_):
    return len(pathlib.Path(f'/proc/self/task/{os.getpid()}/children').read_text().split())


def test_a_result_that_does_not_unpickle_says_whose_it_was(ctx, nothing_left):
    with ctx.Pool(1) as pool:
        with pytest.raises(LookupError) as caught:
            pool.apply(Unloadable)
        assert caught.value.__notes__ == ['while the result of Unloadable was unpickled']
        with pytest.raises(LookupError) as caught:
            list(pool.imap(make_unloadable, [1]))
        assert caught.value.__notes__[0] == 'while the result of make_unloadable was unpickled'
    del caught


def make_unloadable(_):
    return Unloadable()
