"""Errors that name their item, partial results, retries after an exception, finalizers, context
variables.
"""

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import textwrap
import time
import traceback
import types

import procession
import pytest
import tasks
from procession.futures import ProcessPoolExecutor
from waits import until

REQUEST = contextvars.ContextVar('REQUEST', default='none')
LOCK_HOLDER = contextvars.ContextVar('LOCK_HOLDER', default=None)


class Slotted(Exception):
    """An exception with an `index` of its own."""

    index = 'its own'


def fail_at(x, at):
    if x == at:
        raise ValueError(f'no {x}')
    return x


def fail_at_7(x):
    return fail_at(x, 7)


def die_at_7(x):
    if x == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def fail_always(*args, **named):
    raise KeyError('never')


def fail_with_index(_):
    raise Slotted('indexed')


def count_calls(path):
    """Fails twice, then returns how often it was called."""
    with open(path, 'ab') as file:
        file.write(b'x')
    calls = os.path.getsize(path)
    if calls < 3:
        raise ConnectionError(f'call {calls}')
    return calls


def count_calls_and_die(path):
    """As `count_calls`, but its worker is killed at the second call."""
    with open(path, 'ab') as file:
        file.write(b'x')
    if os.path.getsize(path) == 1:
        raise ConnectionError('the first')
    if os.path.getsize(path) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.path.getsize(path)


def request(_):
    return REQUEST.get()


def set_request(value):
    before = REQUEST.get()
    REQUEST.set(value)
    return before


class Finalizer:
    """Leaves a file that says that it ran in this process."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self):
        open(os.path.join(self.folder, str(os.getpid())), 'w').close()


def raised(call):
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


def place(call):
    error = raised(call)
    return error.index, error.__notes__[-1]


@pytest.fixture
def pool(ctx):
    with ctx.Pool(2) as pool:
        yield pool


CALLS = {
    'map': lambda pool, f, items: pool.map(f, items),
    'map_async': lambda pool, f, items: pool.map_async(f, items, 3).get(30),
    'map of tasks': lambda pool, f, items: pool.map(f, items, timeout=30),
    'map of chunks': lambda pool, f, items: pool.map(f, items, 4),
    'imap': lambda pool, f, items: list(pool.imap(f, items)),
    'imap of chunks': lambda pool, f, items: list(pool.imap(f, items, 4)),
    'imap_unordered': lambda pool, f, items: list(pool.imap_unordered(f, items, 3)),
}


@pytest.mark.parametrize('how', CALLS)
def test_an_error_names_its_item(pool, how):
    name = how.split()[0].removesuffix('_async')
    assert place(lambda: CALLS[how](pool, fail_at_7, range(20))) == (7, f'while it ran fail_at_7(7), item 7 of {name}')
    assert place(lambda: CALLS[how](pool, die_at_7, range(20))) == (7, f'while it ran die_at_7, item 7 of {name}')


def test_an_error_of_many_items_names_its_item(pool):
    assert place(lambda: pool.map(fail_at_7, range(-69_993, 100)))[0] == 70_000
    assert place(lambda: pool.map(die_at_7, range(-69_993, 100)))[0] == 70_000


def test_a_timeout_names_its_item(pool):
    error = raised(lambda: pool.map(tasks.hang_at_7, range(20), timeout=3))
    assert type(error) is procession.TaskTimeoutError
    assert (error.index, error.__notes__) == (7, ['while it ran hang_at_7, item 7 of map'])


def test_an_error_shows_the_arguments_shortened(pool):
    assert place(lambda: pool.apply(fail_always, (1, 'b'), {'c': None})) == (0, "while it ran fail_always(1, 'b', c=None)")
    index, note = place(lambda: pool.starmap(fail_always, [('x' * 5000, list(range(10**5)))]))
    assert index == 0 and note.startswith("while it ran fail_always('xxx") and note.endswith('...), item 0 of starmap')
    assert len(note) < 260


def test_an_index_of_the_exceptions_own_stays(pool):
    error = raised(lambda: pool.map(fail_with_index, [1]))
    assert (error.index, error.__notes__) == ('its own', ['while it ran fail_with_index(1), item 0 of map'])


def test_an_executor_names_the_item(ctx, nothing_left):
    with ProcessPoolExecutor(2, ctx) as executor:
        for function in (fail_at_7, die_at_7):
            for chunksize in (1, 3):
                for buffersize in (None, 2):
                    error = raised(lambda: list(executor.map(function, range(20), chunksize=chunksize, buffersize=buffersize)))  # noqa: B023
                    assert error.index == 7 and 'item 7 of map' in error.__notes__[-1]


def test_a_traceback_of_a_worker_has_no_frame_of_the_package(pool, tmp_path):
    error = raised(lambda: pool.map(count_calls, [str(tmp_path / 'calls')], retries=1, retry_on=OSError))
    remote = ''.join(traceback.format_exception(error)).partition('The above exception')[0]
    assert 'in count_calls' in remote and '_retry.py' not in remote
    assert error.__notes__ == ['it was tried 2 times', f"while it ran count_calls('{tmp_path}/calls'), item 0 of map"]


@pytest.mark.parametrize('function, kind', [(fail_at_7, ValueError), (die_at_7, procession.WorkerLost)])
def test_exceptions_are_returned_in_their_places(pool, function, kind):
    items = list(range(20))
    for results in (
        pool.map(function, items, return_exceptions=True),
        pool.map_async(function, items, 6, return_exceptions=True).get(30),
        list(pool.imap(function, iter(items), 6, return_exceptions=True)),
        pool.starmap(function, [(item,) for item in items], return_exceptions=True),
        pool.starmap_async(function, [(item,) for item in items], 4, return_exceptions=True).get(30),
    ):
        assert (type(results[7]), results[7].index) == (kind, 7)
        assert results[:7] + results[8:] == items[:7] + items[8:]
    results = list(pool.imap_unordered(function, items, return_exceptions=True))
    (error,) = (result for result in results if isinstance(result, Exception))
    assert type(error) is kind and sorted(result for result in results if result is not error) == items[:7] + items[8:]


def test_an_item_that_does_not_pickle_is_returned_as_an_exception(pool):
    items = [1, (value for value in ()), 3]
    for results in (
        pool.map(fail_at_7, items, return_exceptions=True),
        list(pool.imap(fail_at_7, items, 2, return_exceptions=True)),
    ):
        assert (results[0], type(results[1]), results[1].index, results[2]) == (1, TypeError, 1, 3)


def test_exceptions_are_awaited_in_their_places(pool):
    async def main():
        results = await pool.map_async(fail_at_7, range(9), return_exceptions=True)
        assert (results[6], type(results[7]), results[8]) == (6, ValueError, 8)

    asyncio.run(main())


def begin_and_fail_at_0(item):
    folder, number = item
    if number == 0:
        raise ValueError('the first')
    # So that all of them take longer than it takes to notice the error, on any machine.
    time.sleep(0.001)
    open(os.path.join(folder, str(number)), 'w').close()


def begin_and_die_at_0(item):
    if item[1] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    begin_and_fail_at_0(item)


@pytest.mark.parametrize('function, kind', [(begin_and_fail_at_0, ValueError), (begin_and_die_at_0, procession.WorkerLost)])
def test_the_first_error_ends_the_call(pool, tmp_path, function, kind):
    items = [(str(tmp_path), number) for number in range(20_000)]
    for call in (
        lambda: pool.map(function, items, 1, fail_fast=True),
        lambda: pool.starmap_async(function, [(item,) for item in items], 1, fail_fast=True).get(30),
    ):
        error = raised(call)
        assert (type(error), error.index) == (kind, 0)
        # All later tasks are behind what is left of it.
        assert pool.apply(abs, (-1,)) == 1
        assert len(list(tmp_path.iterdir())) < 10_000


@pytest.mark.parametrize('is_ordered', [True, False])
def test_a_lazy_map_ends_at_its_first_error(pool, is_ordered):
    imap = pool.imap if is_ordered else pool.imap_unordered
    results = imap(fail_at_7, range(1_000_000), fail_fast=True)
    with pytest.raises(ValueError):
        for _ in results:
            pass
    assert list(results) == [] and pool.apply(abs, (-1,)) == 1


def test_a_call_cannot_both_go_on_and_end(pool):
    for call in (pool.map, pool.starmap_async, pool.imap):
        with pytest.raises(ValueError, match='give one of them'):
            call(abs, [1], return_exceptions=True, fail_fast=True)
    assert pool.map(abs, [-1]) == [1]


def test_a_task_is_run_again_after_an_exception(pool, tmp_path):
    for number, call in enumerate(
        [
            lambda path: pool.apply(count_calls, (path,), retries=2, retry_on=ConnectionError),
            lambda path: pool.apply_async(count_calls, (path,), retries=2, retry_on=(OSError, KeyError)).get(30),
            lambda path: pool.map(count_calls, [path], retries=5, retry_on=OSError, backoff=0.01)[0],
            lambda path: pool.starmap(count_calls, [(path,)], retries=2, retry_on=OSError)[0],
            lambda path: next(pool.imap(count_calls, [path], retries=2, retry_on=OSError)),
        ]
    ):
        assert call(str(tmp_path / str(number))) == 3


def test_other_exceptions_are_not_retried(pool, tmp_path):
    path = tmp_path / 'calls'
    assert type(raised(lambda: pool.apply(count_calls, (str(path),), retries=9, retry_on=KeyError))) is ConnectionError
    assert path.stat().st_size == 1


def test_a_retry_whose_worker_is_killed_is_run_again(pool, tmp_path):
    assert pool.map(count_calls_and_die, [str(tmp_path / 'calls')], retries=1, retry_on=ConnectionError) == [3]


@pytest.mark.parametrize(
    'terms, kind',
    [
        ({'retry_on': OSError}, ValueError),
        ({'retry_on': 'OSError', 'retries': 1}, TypeError),
        ({'retry_on': KeyboardInterrupt, 'retries': 1}, TypeError),
        ({'retry_on': OSError, 'retries': 1, 'backoff': -1}, ValueError),
    ],
)
def test_terms_of_retries_that_make_no_sense_are_refused(pool, terms, kind):
    for call in (pool.map, pool.imap, pool.map_async):
        with pytest.raises(kind, match='retry_on|backoff'):
            call(abs, [1], **terms)
    assert pool.map(abs, [-1]) == [1]


@pytest.mark.parametrize('retries', [-1, 10**30])
def test_a_number_of_retries_that_cannot_be_is_told(pool, retries):
    for call in (pool.map, pool.imap, pool.map_async, pool.apply_async):
        with pytest.raises(ValueError, match=f'retries must be a number from 0 to 4294967295, not {retries}'):
            call(abs, [1], retries=retries)
    assert pool.map(abs, [-1]) == [1]


def test_each_worker_that_leaves_in_order_is_finalized(ctx, tmp_path, nothing_left):
    with ctx.Pool(2, finalizer=Finalizer(str(tmp_path)), maxtasksperchild=1) as pool:
        pids = set(pool.map(os_getpid, range(4), 1))
        pool.close()
        pool.join()
    left = {int(path.name) for path in tmp_path.iterdir()}
    assert pids <= left and len(left) >= 4


def os_getpid(_):
    return os.getpid()


def test_a_worker_that_is_killed_is_not_finalized(ctx, tmp_path, nothing_left):
    with ctx.Pool(2, finalizer=Finalizer(str(tmp_path))) as pool:
        lost = raised(lambda: pool.map(die_at_7, [7]))
        pids = pool._engine.worker_pids()
        until(lambda: len(pool._engine.worker_pids()) == 2)
        pool.close()
        pool.join()
    assert lost.pid not in pids
    assert {int(path.name) for path in tmp_path.iterdir()}.isdisjoint({lost.pid})
    assert len(list(tmp_path.iterdir())) == 2


def test_a_finalizer_that_raises_is_shown_and_harms_nobody(tmp_path, method):
    program = f"""
        import procession

        def finish():
            raise LookupError('nothing to finish')

        if __name__ == '__main__':
            with procession.get_context({method!r}).Pool(1, finalizer=finish) as pool:
                print(pool.map(abs, [-1]))
                pool.close()
                pool.join()
    """
    (tmp_path / 'program.py').write_text(textwrap.dedent(program))
    done = subprocess.run([sys.executable, 'program.py'], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, '[1]\n')
    assert 'LookupError: nothing to finish' in done.stderr


def test_a_finalizer_is_called(ctx):
    with pytest.raises(TypeError, match='finalizer'):
        ctx.Pool(1, finalizer='f')


def test_context_variables_go_with_tasks(ctx, nothing_left):
    with ctx.Pool(1, contextvars=True) as pool:

        def look(value):
            REQUEST.set(value)
            LOCK_HOLDER.set(types.SimpleNamespace(generator=(x for x in ())))
            result = pool.apply_async(request, (1,))
            lazy = pool.imap(request, [1, 2])
            REQUEST.set('later')
            return pool.map(request, [1]), result.get(30), list(lazy)

        assert contextvars.copy_context().run(look, 'a') == (['later'], 'a', ['a', 'a'])
        assert pool.apply(set_request, ('left behind',)) == 'none'
        assert pool.apply(request, (1,)) == 'none'
        assert type(raised(lambda: pool.apply(die_at_7, (7,)))) is procession.WorkerLost
        assert contextvars.copy_context().run(look, 'b') == (['later'], 'b', ['b', 'b'])


def test_context_variables_stay_where_they_are_without_being_asked(ctx, nothing_left):
    def look():
        with ctx.Pool(1) as pool:
            REQUEST.set('a')
            return pool.apply(request, (1,))

    assert contextvars.copy_context().run(look) == 'none'


def test_the_context_of_opentelemetry_goes_with_tasks(ctx, tmp_path, nothing_left):
    trace = pytest.importorskip('opentelemetry.trace')
    parent = trace.NonRecordingSpan(trace.SpanContext(0x1234, 0x56, is_remote=False, trace_flags=trace.TraceFlags(1)))
    with ctx.Pool(1, contextvars=True) as pool, trace.use_span(parent):
        assert pool.map(trace_id, [1]) == [0x1234]


def trace_id(_):
    from opentelemetry import trace

    return trace.get_current_span().get_span_context().trace_id
