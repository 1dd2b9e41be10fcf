"""The terms that a pool's user may set for workers and tasks, given to an executor and to the
backend for joblib.
"""

import contextvars
import os
import signal

import procession
import pytest
import tasks
from procession.futures import ProcessPoolExecutor, WorkerLost
from waits import LONG, until

REQUEST = contextvars.ContextVar('REQUEST', default='none')

# Each with what the error says.
BAD = [
    ({'env': 7}, TypeError, 'env must be a dict'),
    ({'env': {'A=B': 'x'}}, ValueError, 'environment variable'),
    ({'devices': [0]}, ValueError, 'devices has 1 entries'),
    ({'cpus': 'all'}, ValueError, "cpus is 'spread'"),
    ({'threads': 0}, ValueError, 'threads is a number'),
    ({'memory_limit': -1}, ValueError, 'memory_limit must be a positive number'),
    ({'rlimits': {'NOSUCH': 1}}, ValueError, "rlimits has no limit 'NOSUCH'"),
    ({'finalizer': 7}, TypeError, 'finalizer must be a callable'),
    ({'insights': True}, TypeError, "has no option 'insights' for its workers; there are .*env"),
    ({'daemon': True}, TypeError, "has no option 'daemon'"),
    ({'enviroment': {}}, TypeError, "has no option 'enviroment'"),
    ({'output': 'file'}, ValueError, "output is 'inherit', 'null', 'prefix' or a function"),
    ({'logs': 'LOUD'}, ValueError, "there is no level 'LOUD'"),
    ({'process_group': 1}, TypeError, 'process_group must be true or false'),
]
BAD_TASKS = [
    ({'retry_on': OSError}, ValueError, 'give both'),
    ({'retry_on': 'OSError', 'retries': 1}, TypeError, 'retry_on is an exception class'),
    ({'retry_on': OSError, 'retries': 1, 'backoff': -1}, ValueError, 'backoff is a number of seconds'),
]


def place(name='PORT'):
    return procession.current_worker().slot, os.environ.get(name), os.environ.get('CUDA_VISIBLE_DEVICES')


def affinity(_=None):
    return procession.current_worker().slot, sorted(os.sched_getaffinity(0))


def threads():
    return os.environ.get('OMP_NUM_THREADS')


def take(mebibytes):
    kept = bytearray(mebibytes << 20)
    for at in range(0, len(kept), 4096):
        kept[at] = 1
    import time

    time.sleep(LONG)


def files():
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)


def leave(path):
    with open(path, 'a') as file:
        file.write('left\n')


def request(_=None):
    return REQUEST.get()


def third_time(path):
    """Fails twice, then returns how often it was called."""
    with open(path, 'ab') as file:
        file.write(b'x')
    if os.path.getsize(path) < 3:
        raise ConnectionError(path)
    return os.path.getsize(path)


def fail_then_die(path):
    """Raises at its first call, dies at its second."""
    with open(path, 'ab') as file:
        file.write(b'x')
    calls = os.path.getsize(path)
    if calls == 1:
        raise ConnectionError(path)
    if calls == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return calls


def port_of(slot):
    return {'PORT': str(9000 + slot)}


def all_slots(executor, function, *arguments, count=2):
    """Returns the answer of each worker, by its slot."""
    found = {}

    def all_have_answered():
        answers = [executor.submit(function, *arguments) for _ in range(4 * count)]
        found.update((answer.result()[0], answer.result()[1:]) for answer in answers)
        return len(found) == count

    until(all_have_answered)
    return [found[slot] for slot in range(count)]


@pytest.fixture(autouse=True)
def check(nothing_left):
    pass


def test_each_worker_has_its_place(ctx):
    with ProcessPoolExecutor(2, ctx, env=port_of, devices=[3, 5]) as executor:
        assert all_slots(executor, place) == [('9000', '3'), ('9001', '5')]


def test_replacement_of_a_killed_worker_has_its_place(ctx):
    with ProcessPoolExecutor(1, ctx, env={'PORT': '80'}, devices=['a']) as executor:
        assert executor.submit(place).result() == (0, '80', 'a')
        with pytest.raises(WorkerLost):
            executor.submit(tasks.end_by, signal.SIGKILL).result()
        assert executor.submit(place).result() == (0, '80', 'a')


def test_places_are_those_of_all_workers_however_many_the_pool_begins_with(ctx):
    allowed = sorted(os.sched_getaffinity(0))
    with ProcessPoolExecutor(2, ctx, cpus='spread', threads='auto') as executor:
        shares = [cpus for (cpus,) in all_slots(executor, affinity)]
        assert shares == [allowed[0::2] or allowed, allowed[1::2] or allowed]
        assert executor.submit(threads).result() in {str(len(share)) for share in shares}


def test_places_outlive_a_pool_that_was_idle(ctx):
    with ProcessPoolExecutor(1, ctx, env=port_of, idle_timeout=0.1) as executor:
        pid = executor.submit(os.getpid).result()
        until(lambda: executor._workers._pool._engine.is_closed())
        assert executor.submit(os.getpid).result() != pid
        assert executor.submit(place).result()[1] == '9000'


def test_limits_fail_one_task(ctx):
    with ProcessPoolExecutor(1, ctx, memory_limit=200 << 20, rlimits={'NOFILE': (60, 70)}) as executor:
        assert executor.submit(files).result() == (60, 70)
        with pytest.raises(procession.MemoryLimitError):
            executor.submit(take, 400).result()
        assert executor.submit(abs, -1).result() == 1


def test_finalizer_is_called_in_workers_that_leave(ctx, tmp_path):
    import functools

    path = str(tmp_path / 'left')
    with ProcessPoolExecutor(2, ctx, finalizer=functools.partial(leave, path)) as executor:
        executor.submit(abs, -1).result()
    with open(path) as file:
        assert 'left' in file.read()


def test_context_variables_go_with_calls(ctx):
    with ProcessPoolExecutor(1, ctx, contextvars=True) as executor:
        assert executor.submit(request).result() == 'none'
        REQUEST.set('seven')
        assert executor.submit(request).result() == 'seven'
        results = executor.map(request, range(6), chunksize=2, buffersize=1)
        REQUEST.set('none')
        assert list(results) == ['seven'] * 6, 'those of the call, and not of the thread that takes results'
    with ProcessPoolExecutor(1, ctx) as executor:
        executor.submit(request).result()
        token = REQUEST.set('eight')
        assert executor.submit(request).result() == 'none'
        REQUEST.reset(token)


def test_calls_are_run_again_after_exceptions(ctx, tmp_path):
    with ProcessPoolExecutor(1, ctx) as executor:
        careful = executor.options(retries=2, retry_on=ConnectionError, backoff=0.001)
        assert careful.submit(third_time, str(tmp_path / 'one')).result() == 3
        assert list(careful.map(third_time, [str(tmp_path / 'two'), str(tmp_path / 'three')], chunksize=2)) == [3, 3]
        with pytest.raises(ConnectionError) as caught:
            executor.options(retries=1, retry_on=ConnectionError).submit(third_time, str(tmp_path / 'four')).result()
        assert 'it was tried 2 times' in caught.value.__notes__
        with pytest.raises(ConnectionError):
            executor.submit(third_time, str(tmp_path / 'five')).result()


def test_exceptions_and_lost_workers_are_counted_apart(ctx, tmp_path):
    with ProcessPoolExecutor(1, ctx) as executor:
        careful = executor.options(retries=1, retry_on=ConnectionError)
        assert careful.submit(fail_then_die, str(tmp_path / 'calls')).result() == 3


@pytest.mark.parametrize(('terms', 'error', 'text'), BAD, ids=lambda value: next(iter(value)) if isinstance(value, dict) else '')
def test_bad_terms_of_workers_are_refused_at_once(terms, error, text):
    with pytest.raises(error, match=text):
        ProcessPoolExecutor(2, **terms)


@pytest.mark.parametrize(('terms', 'error', 'text'), BAD_TASKS, ids=range(len(BAD_TASKS)))
def test_bad_terms_of_tasks_are_refused_at_once(terms, error, text):
    executor = ProcessPoolExecutor(1)
    with pytest.raises(error, match=text):
        executor.options(**terms)
    executor.shutdown()


def test_executor_is_resized_within_its_places():
    executor = ProcessPoolExecutor(1, devices=[1, 2])
    executor._workers.resize(2)
    with pytest.raises(ValueError, match='devices has 2 entries'):
        executor._workers.resize(3)
    assert all_slots(executor, place) == [(None, '1'), (None, '2')]
    executor.shutdown()


def test_the_reusable_executor_takes_what_is_said_of_workers(ctx):
    get = procession.futures.get_reusable_executor
    executor = get(2, ctx, env={'PORT': '8000'})
    assert executor.submit(place).result(LONG)[1] == '8000'
    assert get(2, ctx, env={'PORT': '8000'}) is executor
    other = get(2, ctx, env={'PORT': '8001'})
    assert other.submit(place).result(LONG)[1] == '8001'
    assert get(1, ctx, env={'PORT': '8001'}) is not other
    with pytest.raises(TypeError, match="no option 'enviroment'"):
        get(2, ctx, enviroment={})
    get(2, ctx).shutdown()
