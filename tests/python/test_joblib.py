"""joblib on our workers, by the backend "procession"."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import warnings

import joblib
import numpy
import procession.joblib
import pytest
from joblib import Parallel, delayed
from procession.futures import BrokenProcessPool, WorkerLost
from tasks import add, end_by, fail, sum_of, touch_and_wait
from waits import SCALE, until

SECONDS = 30 * SCALE

procession.joblib.register()


@pytest.fixture(scope='module', autouse=True)
def _ended():
    yield
    procession.joblib.shutdown()


@pytest.fixture
def parallel(method):
    """Calls by each start method in turn."""
    with joblib.parallel_config('procession', n_jobs=2, start_method=method):
        yield Parallel


def test_calls_return_what_they_would_in_order(parallel):
    assert parallel()(delayed(add)(i, 1) for i in range(1000)) == list(range(1, 1001))
    assert parallel()(delayed(add)(left=i, right=1) for i in range(10)) == list(range(1, 11))
    assert parallel()([delayed(abs)(-1), delayed(add)(1, 2), delayed(dict)(a=1)]) == [1, 3, {'a': 1}]
    assert parallel(batch_size=7)(delayed(lambda x: -x)(i) for i in range(50)) == [-i for i in range(50)]
    assert parallel()([]) == []
    with parallel() as kept:
        assert [kept(delayed(add)(i, j) for i in range(20)) for j in range(3)] == [[i + j for i in range(20)] for j in range(3)]


def test_the_workers_are_kept_between_calls():
    def workers():
        return set(Parallel(2, backend='procession', batch_size=1)(delayed(os.getpid)() for _ in range(20)))

    first = workers()
    assert os.getpid() not in first and workers() <= first | workers()
    assert len(first | workers() | workers()) <= 2


def test_results_come_one_by_one(parallel):
    results = parallel(return_as='generator')(delayed(add)(i, 0) for i in range(100))
    assert next(results) == 0 and list(results) == list(range(1, 100))
    results = parallel(return_as='generator_unordered')(delayed(add)(i, 0) for i in range(100))
    assert sorted(results) == list(range(100))


def test_a_generator_that_is_left_leaves_the_workers_usable(parallel):
    results = parallel(return_as='generator')(delayed(add)(i, 0) for i in range(1000))
    assert next(results) == 0
    with warnings.catch_warnings():
        # joblib says that results were dropped.
        warnings.simplefilter('ignore')
        del results
    assert parallel()(delayed(add)(i, 0) for i in range(10)) == list(range(10))


def test_what_a_task_raises_is_raised_and_the_next_call_works(parallel):
    with pytest.raises(ValueError, match='not today') as caught:
        parallel()(delayed(fail)('not today') for _ in range(10))
    assert 'in fail' in str(caught.value.__cause__)
    assert caught.value.__notes__ == ["while it ran fail('not today')"]
    assert parallel()(delayed(add)(i, 0) for i in range(10)) == list(range(10))


def test_an_error_of_a_call_in_a_batch_names_the_call(parallel):
    with pytest.raises(ZeroDivisionError) as caught:
        parallel(batch_size=4)(delayed(divmod)(1, 3 - i) for i in range(8))
    assert caught.value.__notes__ == ['while it ran divmod(1, 0)']


def test_an_error_ends_the_tasks_that_run(parallel, tmp_path):
    path = tmp_path / 'begun'
    with pytest.raises(ValueError, match='once the other has begun'):
        parallel(batch_size=1)([delayed(touch_and_wait)(str(path)), delayed(_fail_after)(str(path))])
    assert parallel()(delayed(add)(i, 0) for i in range(10)) == list(range(10))


def _fail_after(path):
    until(pathlib.Path(path).exists)
    raise ValueError('once the other has begun')


def test_a_killed_worker_fails_the_call_and_the_next_one_works(parallel):
    with pytest.raises(BrokenProcessPool, match=r'SIGKILL while it ran a batch of 1 task of end_by') as caught:
        parallel(batch_size=1)(delayed(end_by)(signal.SIGKILL) if i == 3 else delayed(add)(i, 0) for i in range(20))
    assert type(caught.value) is WorkerLost and caught.value.exitcode == -signal.SIGKILL
    assert parallel()(delayed(add)(i, 0) for i in range(20)) == list(range(20))


def test_a_timeout_ends_the_call(parallel, tmp_path):
    with pytest.raises(procession.TimeoutError):
        parallel(timeout=0.3)(delayed(touch_and_wait)(str(tmp_path / str(i))) for i in range(2))
    assert parallel()(delayed(add)(i, 0) for i in range(10)) == list(range(10))


def test_calls_within_calls(parallel):
    assert parallel()(delayed(_sum_of_calls)(None, i) for i in range(4)) == [10 * i for i in range(4)]
    # By name: the backend is known in workers too.
    assert parallel()(delayed(_sum_of_calls)('procession', i) for i in range(2)) == [0, 10]


def _sum_of_calls(backend, number):
    return sum(Parallel(2, backend=backend)(delayed(add)(number, 0) for _ in range(10)))


def test_calls_in_several_threads_at_once(method):
    results = {}

    def call(number):
        with joblib.parallel_config('procession', n_jobs=2, start_method=method):
            results[number] = Parallel()(delayed(add)(i, number) for i in range(200))

    # Under fork no process is started beside other threads.
    with joblib.parallel_config('procession', n_jobs=2, start_method=method):
        Parallel()(delayed(abs)(i) for i in range(10))
    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: list(range(number, number + 200)) for number in range(4)}


# --- arrays ---------------------------------------------------------------------------------------


def test_an_array_of_many_tasks_is_mapped_and_not_writable(parallel):
    array = numpy.arange(300_000, dtype='f8')
    for order in 'CF':
        shaped = array.reshape((300, 1000), order=order)
        found = parallel(batch_size=1)(delayed(_seen)(shaped) for _ in range(8))
        assert {(each['sum'], each['shape'], each['dtype'], each['order']) for each in found} == {
            (array.sum(), (300, 1000), 'float64', order)
        }
        # All but the first at most.
        assert not any(each['writable'] for each in found[1:])


def _seen(array):
    return {
        'sum': array.sum(),
        'shape': array.shape,
        'dtype': str(array.dtype),
        'writable': array.flags.writeable,
        'order': 'C' if array.flags.c_contiguous else 'F',
    }


def test_arrays_that_one_task_has_each_arrive_whole(parallel):
    sums = parallel()(delayed(sum_of)(numpy.full(200_000, i)) for i in range(30))
    assert sums == [200_000 * i for i in range(30)]
    kept = [numpy.full(200_000, i) for i in range(30)]
    assert parallel()(delayed(sum_of)(array) for array in [*kept, *kept]) == sums * 2


def test_strided_and_object_arrays_and_those_of_dates_arrive_as_they_are(parallel):
    array = numpy.arange(800_000)
    dates = numpy.arange('2000-01-01', '2500-01-01', dtype='M8[D]')
    objects = numpy.array([{'a': 1}] * 200_000)
    for each in (array[::2], dates, objects, array.reshape(800, 1000)[:, 10:20]):
        for found in parallel(max_nbytes=1000, batch_size=1)(delayed(numpy.array)(each) for _ in range(3)):
            assert found.dtype == each.dtype and (found == each).all()


def test_empty_arrays_arrive_where_all_arrays_are_shared(parallel):
    empty = numpy.zeros((0, 3))
    found = parallel(max_nbytes=0, batch_size=1)(delayed(numpy.shape)(empty) for _ in range(4))
    assert found == [(0, 3)] * 4


def test_by_mmap_mode_tasks_write_into_the_array_or_into_their_own(parallel):
    array = numpy.zeros(200_000)
    ones = parallel(mmap_mode='c', batch_size=1)(delayed(_write)(array, 0) for _ in range(4))
    assert ones == [1.0] * 4 and array[0] == 0
    assert parallel(max_nbytes=None, batch_size=1)(delayed(_write)(array, 0) for _ in range(4)) == [1.0] * 4


def test_a_file_that_is_mapped_is_written_by_the_tasks(parallel, tmp_path):
    mapped = numpy.memmap(tmp_path / 'data', dtype='f8', mode='w+', shape=(1000, 10))
    parallel(batch_size=1)(delayed(_write)(mapped[i], 3) for i in range(0, 1000, 100))
    assert mapped[:, 3].sum() == 10 and mapped.sum() == 10


def _write(array, index):
    array[index] += 1
    return float(array[index])


# --- the rest -------------------------------------------------------------------------------------


def test_libraries_of_workers_are_kept_to_so_many_threads(method):
    with joblib.parallel_config('procession', n_jobs=2, inner_max_num_threads=1, start_method=method):
        found = Parallel(batch_size=1)(delayed(_threads)() for _ in range(4))
    assert found == [('1', {1})] * 4


def _threads():
    import threadpoolctl

    numpy.ones((10, 10)) @ numpy.ones((10, 10))
    return os.environ['OMP_NUM_THREADS'], {library['num_threads'] for library in threadpoolctl.threadpool_info()}


def test_a_number_of_jobs_is_what_joblib_says():
    backend = procession.joblib.ProcessionBackend(nesting_level=0)
    assert backend.effective_n_jobs(3) == 3 and backend.effective_n_jobs(None) == 1
    assert backend.effective_n_jobs(-1) == joblib.cpu_count()
    with pytest.raises(ValueError, match='n_jobs == 0'):
        Parallel(0, backend='procession')([delayed(abs)(-1)])
    assert Parallel(1, backend='procession')([delayed(os.getpid)()]) == [os.getpid()]
    with pytest.raises(ValueError, match='(?i)cannot find context'):
        with joblib.parallel_config('procession', n_jobs=2, start_method='telepathy'):
            Parallel()([delayed(abs)(-1)])


@pytest.mark.limit(240)
def test_a_grid_search_of_scikit_learn():
    datasets = pytest.importorskip('sklearn.datasets')
    linear, search = pytest.importorskip('sklearn.linear_model'), pytest.importorskip('sklearn.model_selection')
    features, labels = datasets.load_iris(return_X_y=True)
    grid = search.GridSearchCV(linear.LogisticRegression(max_iter=500), {'C': [0.1, 1, 10]}, n_jobs=2, cv=3)
    with joblib.parallel_config('procession'):
        found = grid.fit(features, labels).cv_results_['mean_test_score']
    alone = grid.set_params(n_jobs=1).fit(features, labels).cv_results_['mean_test_score']
    assert numpy.allclose(found, alone)


OWN_TESTS = """
import sys

if __name__ == '__main__':
    import procession.joblib
    import pytest

    # Its tests are parametrized by the backends that are known when they are collected.
    procession.joblib.register()
    # Of other backends' workers only forked ones know the name: see the environment below.
    wanted = 'procession and not (nested_loop and (loky-procession or back_compat_backend-procession))'
    sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '--pyargs', 'joblib.test.test_parallel', '-k', wanted]))
"""


@pytest.mark.limit(300)
def test_joblibs_own_tests_of_parallel_calls(tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(OWN_TESTS)
    environment = {**os.environ, 'JOBLIB_START_METHOD': 'fork'}
    ran = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280 * SCALE
    )
    passed = re.search(r'(\d+) passed', ran.stdout)
    assert ran.returncode == 0, ran.stdout[-5000:]
    assert int(passed[1]) > 50


def place_of(path):
    import procession

    with open(path, 'a') as file:
        file.write('x')
    return procession.current_worker().slot, os.environ.get('PORT'), os.environ.get('OMP_NUM_THREADS')


def fail_twice(path):
    with open(path, 'ab') as file:
        file.write(b'x')
    if os.path.getsize(path) < 3:
        raise ConnectionError(path)
    return os.path.getsize(path)


def die_once(path):
    with open(path, 'ab') as file:
        file.write(b'x')
    if os.path.getsize(path) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.path.getsize(path)


def port_of(slot):
    return {'PORT': str(9000 + slot), 'OMP_NUM_THREADS': '7'}


def test_workers_have_what_a_pools_user_may_give_them(method, tmp_path):
    with joblib.parallel_config('procession', n_jobs=2, start_method=method, env=port_of, memory_limit=1 << 30):
        places = Parallel(batch_size=1)(delayed(place_of)(tmp_path / 'calls') for _ in range(20))
    assert {(port, threads) for _, port, threads in places} <= {('9000', '7'), ('9001', '7')}
    assert all(port == str(9000 + slot) for slot, port, _ in places)
    with joblib.parallel_config('procession', n_jobs=2, start_method=method, threads=3):
        assert {threads for _, _, threads in Parallel()(delayed(place_of)(tmp_path / 'calls') for _ in range(8))} == {'3'}


def test_calls_of_a_batch_are_run_again_one_by_one(method, tmp_path):
    paths = [tmp_path / str(index) for index in range(4)]
    with joblib.parallel_config('procession', n_jobs=2, start_method=method, retries=2, retry_on=ConnectionError, backoff=0.001):
        assert Parallel(batch_size=4)(delayed(fail_twice)(path) for path in paths) == [3] * 4
        assert Parallel(batch_size=2)(delayed(lambda path: fail_twice(path))(f'{path}-more') for path in paths) == [3] * 4
    with joblib.parallel_config('procession', n_jobs=2, start_method=method):
        with pytest.raises(ConnectionError):
            Parallel()(delayed(fail_twice)(tmp_path / 'last') for _ in range(1))


def test_batch_of_a_killed_worker_is_run_again(method, tmp_path):
    with joblib.parallel_config('procession', n_jobs=2, start_method=method, retries=1):
        assert Parallel(batch_size=1)([delayed(die_once)(tmp_path / 'calls'), delayed(abs)(-1)]) == [2, 1]


def test_workers_are_kept_by_what_was_said_of_them():
    def workers(**terms):
        with joblib.parallel_config('procession', n_jobs=2, **terms):
            return set(Parallel(batch_size=1)(delayed(os.getpid)() for _ in range(20)))

    first = workers(env={'A': 'b'}, devices=[[0], 1])
    others = workers(env={'A': 'c'}, devices=[[0], 1])
    assert not first & others
    assert len(first | workers(env={'A': 'b'}, devices=[[0], 1])) <= 2


@pytest.mark.parametrize(
    ('terms', 'error', 'text'),
    [
        ({'devices': [1]}, ValueError, 'devices has 1 entries'),
        ({'memory_limit': 0}, ValueError, 'memory_limit must be a positive number'),
        ({'retry_on': OSError}, ValueError, 'give both'),
        ({'enviroment': {}}, TypeError, "has no option 'enviroment'"),
        ({'threads': 1, 'inner_max_num_threads': 2}, ValueError, 'give one of them'),
    ],
    ids=['devices', 'memory_limit', 'retry_on', 'unknown', 'threads'],
)
def test_bad_terms_are_refused(terms, error, text):
    with joblib.parallel_config('procession', n_jobs=2, **terms):
        with pytest.raises(error, match=text):
            Parallel()(delayed(abs)(x) for x in range(3))
    assert Parallel(2, backend='procession')(delayed(abs)(x) for x in (-1, 2)) == [1, 2]
