"""`procession.share`: one array for all processes, put once."""

import os
import pickle
import signal

import procession
import pytest
from waits import until


@pytest.fixture(autouse=True, scope='module')
def threads_of_the_engine():
    """A process makes them once and keeps what they wait with."""
    with procession.get_context('fork').Pool(1) as pool:
        pool.apply(abs, (1,))


@pytest.fixture(autouse=True)
def check(threads_of_the_engine, nothing_left):
    pass


def add(shared, index):
    return int(shared.value[index])


def write(shared):
    shared.value[0] = 1


def describe(shared):
    return type(shared.value).__name__, len(shared.value), inodes(shared)


def inodes(_=None):
    """Returns the memories of `share` that this process has open or mapped."""
    with open('/proc/self/maps') as maps:
        mapped = {line.split()[4] for line in maps if 'procession-share' in line}
    opened = set()
    for fd in os.listdir('/proc/self/fd'):
        try:
            if 'procession-share' in os.readlink(f'/proc/self/fd/{fd}'):
                opened.add(str(os.stat(f'/proc/self/fd/{fd}').st_ino))
        except FileNotFoundError:
            continue
    return sorted(mapped | opened)


def end(shared):
    assert shared.value[0] == 0
    os.kill(os.getpid(), signal.SIGKILL)


def total(shared):
    return sum(shared.value[:10])


def test_every_worker_reads_the_same_memory(ctx):
    numpy = pytest.importorskip('numpy')
    array = numpy.arange(1_000_000)
    shared = ctx.share(array)
    assert shared.nbytes >= array.nbytes and numpy.array_equal(shared.value, array)
    with ctx.Pool(2) as pool:
        assert pool.starmap(add, [(shared, index) for index in range(100)]) == list(range(100))
        kind, count, places = pool.apply(describe, (shared,))
        assert (kind, count) == ('ndarray', 1_000_000) and set(places) == set(inodes())
        with pytest.raises(ValueError, match='read-only'):
            pool.apply(write, (shared,))
        with pytest.raises(ValueError, match='read-only'):
            write(shared)


def test_memory_is_freed_with_the_last_handle(ctx):
    before = inodes()
    shared = ctx.share(bytes(1 << 20))
    with ctx.Pool(1) as pool:
        pool.apply(total, (shared,))
        pool.apply(abs, (1,))
        # A forked worker has its parent's handle, if it was there before.
        left = set(pool.apply(inodes)) - set(before)
        assert ctx.get_start_method() == 'fork' or not left
        del shared
        assert inodes() == before


def test_killed_worker_leaves_the_others_their_array(ctx):
    shared = ctx.share(bytearray(range(200)))
    with ctx.Pool(2) as pool:
        with pytest.raises(procession.WorkerLost):
            pool.apply(end, (shared,))
        until(lambda: len(pool._engine.worker_pids()) == 2)
        assert pool.map(total, [shared] * 20) == [45] * 20


def test_handle_is_an_argument_of_a_process_and_of_an_initializer(ctx):
    shared = ctx.share(memoryview(bytes(range(100))))
    process = ctx.Process(target=total, args=(shared,))
    process.start()
    assert process.result() == 45
    process.close()
    with ctx.Pool(1, total, (shared,)) as pool:
        assert pool.apply(abs, (-1,)) == 1


@pytest.mark.parametrize('method', ['spawn'])
def test_frames_and_other_objects(ctx):
    numpy = pytest.importorskip('numpy')
    pandas = pytest.importorskip('pandas')
    frame = pandas.DataFrame({'a': numpy.arange(1000.0), 'b': numpy.arange(1000)})
    for value in (frame, {'x': numpy.ones(10), 'y': 'text'}, numpy.ones(100)[::3], numpy.array([]), b'', [1, None]):
        shared = ctx.share(value)
        with ctx.Pool(1) as pool:
            kind, count, _ = pool.apply(describe, (shared,))
        assert (kind, count) == (type(shared.value).__name__, len(value))
    assert ctx.share(frame).value.equals(frame)


@pytest.mark.parametrize('method', ['spawn'])
def test_tables_of_pyarrow(ctx):
    pyarrow = pytest.importorskip('pyarrow')
    table = pyarrow.table({'a': list(range(1000))})
    shared = ctx.share(table)
    with ctx.Pool(1) as pool:
        kind, count, _ = pool.apply(describe, (shared,))
    assert (kind, count) == ('Table', 1000) and shared.value.equals(table)


def test_what_cannot_be_shared_is_said(ctx):
    before = inodes()
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        ctx.share(lambda: None)
    with pytest.raises(RuntimeError, match='goes to another process as an argument'):
        pickle.dumps(ctx.share(b'bytes'))
    assert inodes() == before
