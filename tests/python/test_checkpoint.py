"""Maps that go on after a crash: `checkpoint=`."""

import collections
import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time

import procession
import pytest
from waits import until

PROGRAM = """
    import os
    import sys

    import procession

    LOG = os.open(sys.argv[2] + '.log', os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(number):
        os.write(LOG, b'%d\\n' % number)
        return number * number

    if __name__ == '__main__':
        with procession.get_context(sys.argv[1]).Pool(2) as pool:
            results = pool.map(note, range(10_000), checkpoint=sys.argv[2])
        assert results == [number * number for number in range(10_000)]
        print('complete')
"""

KILLS = int(os.environ.get('PROCESSION_TEST_KILLS', '3'))


def square(x):
    return x * x


def cube(x):
    return x * x * x


def note_and_square(item):
    path, number = item
    with open(path, 'a') as file:
        file.write(f'{number}\n')
    if number == 5 and os.path.exists(f'{path}.die'):
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'run.db')


@pytest.mark.limit(300)
def test_a_map_whose_parent_is_killed_goes_on(method, tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(textwrap.dedent(PROGRAM))
    seed = int(os.environ.get('KILL_STORM_SEED', time.time_ns()))
    print(f'KILL_STORM_SEED={seed}')
    choice = random.Random(seed)
    for number in range(KILLS):
        base = str(tmp_path / f'{number}.db')
        log = pathlib.Path(f'{base}.log')
        command = [sys.executable, str(program), method, base]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        at = choice.randrange(50_000)
        until(lambda: log.exists() and log.stat().st_size >= at or process.poll() is not None)  # noqa: B023
        process.kill()
        process.communicate()
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, 'complete\n'), done.stderr
        calls = collections.Counter(map(int, log.read_text().split()))
        assert sorted(calls) == list(range(10_000)) and max(calls.values()) <= 2
        # Calls that are complete are not run at all.
        before = log.stat().st_size
        assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout == 'complete\n'
        assert log.stat().st_size == before


def test_only_what_failed_is_run_again(ctx, path, tmp_path, nothing_left):
    log, items = tmp_path / 'log', [(str(tmp_path / 'log'), number) for number in range(10)]
    die = tmp_path / 'log.die'
    die.touch()
    with ctx.Pool(2) as pool:
        with pytest.raises(procession.WorkerLost) as caught:
            pool.map(note_and_square, items, checkpoint=path)
        assert caught.value.index == 5 and caught.value.__notes__[-1].endswith('item 5 of map')
        results = pool.map(note_and_square, items, checkpoint=path, return_exceptions=True)
        assert type(results[5]) is procession.WorkerLost and results[6] == 36
        die.unlink()
        assert pool.map(note_and_square, items, checkpoint=path) == [number * number for number in range(10)]
        calls = collections.Counter(map(int, log.read_text().split()))
        assert calls == {**dict.fromkeys(range(10), 1), 5: 3}
    del caught, results


def test_a_map_that_is_interrupted_keeps_its_results(method, tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(textwrap.dedent(PROGRAM).replace('return number', 'import time; time.sleep(0.001); return number'))
    command = [sys.executable, str(program), method, str(tmp_path / 'run.db')]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    log = tmp_path / 'run.db.log'
    until(lambda: log.exists() and log.stat().st_size > 500)
    process.send_signal(signal.SIGINT)
    assert b'KeyboardInterrupt' in process.communicate()[1]
    kept = sqlite3.connect(tmp_path / 'run.db').execute('SELECT count(*) FROM kept').fetchone()[0]
    assert 0 < kept < 10_000
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout == 'complete\n'


def test_a_changed_call_is_noticed_and_nothing_is_lost(ctx, path, nothing_left):
    with ctx.Pool(2) as pool:
        assert pool.map(square, [1, 2, {3}.pop()], checkpoint=path) == [1, 4, 9]
        for function, items, why in (
            (cube, [1, 2, 3], 'of another function: .*square, not of .*cube'),
            (square, [1, 5, 3], 'item 1 differs'),
            (square, [1, 2], 'it had 3 items and has 2'),
        ):
            with pytest.raises(ValueError, match=why):
                pool.map(function, items, checkpoint=path)
        code, square.__code__ = square.__code__, cube.__code__
        try:
            with pytest.raises(ValueError, match='has changed since'):
                pool.map(square, [1, 2, 3], checkpoint=path)
        finally:
            square.__code__ = code
        assert pool.map(square, [1, 2, 3], checkpoint=path) == [1, 4, 9]


def test_a_file_of_something_else_is_left_alone(ctx, path, tmp_path, nothing_left):
    text = tmp_path / 'text'
    text.write_text('no database, but some text that is longer than the header of one' * 20)
    before = text.read_text()
    other = sqlite3.connect(path)
    other.execute('CREATE TABLE precious (value)')
    other.close()
    with ctx.Pool(1) as pool:
        with pytest.raises(ValueError, match='database of something else'):
            pool.map(square, [1], checkpoint=path)
        with pytest.raises(ValueError, match='is no checkpoint'):
            pool.map(square, [1], checkpoint=text)
        with pytest.raises(ValueError, match='item 1 does not pickle'):
            pool.map(square, [1, (x for x in ())], checkpoint=tmp_path / 'new')
        assert pool.map(square, [2]) == [4]
    assert text.read_text() == before


def test_a_checkpoint_in_use_is_refused(ctx, path, nothing_left):
    with ctx.Pool(1) as pool:
        pool.map(square, [1], checkpoint=path)
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute('BEGIN EXCLUSIVE')
        with pytest.raises(ValueError, match='in use by another map'):
            pool.map(square, [1], checkpoint=path)
        holder.close()
        assert pool.map(square, [1], checkpoint=path) == [1]


def test_starmap_has_checkpoints_too(ctx, path, nothing_left):
    with ctx.Pool(2) as pool:
        for _ in range(2):
            assert pool.starmap(pow, [(2, 3), (3, 2)], checkpoint=path) == [8, 9]


class Scaled:
    def __init__(self, factor):
        self.factor = factor
        # Its order differs between processes.
        self.names = {f'name {number}' for number in range(20)}

    def by_method(self, x):
        return self.factor * x

    def __call__(self, x):
        return self.factor * x


def closure(factor):
    return lambda x: factor * x


def defaults(factor):
    def scale(x, factor=factor):
        return factor * x

    return scale


def bound_builtin(factor):
    return [factor * x for x in range(4)].__getitem__


@pytest.mark.parametrize('make', [lambda factor: Scaled(factor).by_method, Scaled, closure, defaults, bound_builtin])
def test_what_a_function_holds_counts(make, path, nothing_left, method='fork'):
    with procession.get_context(method).Pool(1) as pool:
        assert pool.map(make(2), range(4), checkpoint=path) == [0, 2, 4, 6]
        assert pool.map(make(2), range(4), checkpoint=path) == [0, 2, 4, 6]
        with pytest.raises(ValueError, match='has changed since'):
            pool.map(make(3), range(4), checkpoint=path)


def test_a_function_that_calls_itself_has_checkpoints(path):
    def factorial(number):
        return number * factorial(number - 1) if number else 1

    with procession.get_context('fork').Pool(1) as pool:
        for _ in range(2):
            assert pool.map(factorial, range(5), checkpoint=path) == [1, 1, 2, 6, 24]


def test_sets_within_items_are_the_same_in_the_next_program(tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(
        textwrap.dedent("""
            import procession, sys

            class Item:
                def __init__(self):
                    self.names = {f'name {number}' for number in range(20)}

            def count(item):
                return len(item.names)

            if __name__ == '__main__':
                with procession.get_context('fork').Pool(1) as pool:
                    print(pool.map(count, [Item()], checkpoint=sys.argv[1]))
        """)
    )
    for _ in range(3):
        done = subprocess.run([sys.executable, program, tmp_path / 'run.db'], capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr) == ('[20]\n', '')


def test_a_path_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with procession.get_context('fork').Pool(1) as pool:
        for wrong in (tmp_path / 'missing' / 'run.db', tmp_path, ''):
            with pytest.raises(ValueError, match='the checkpoint .* cannot be opened') as caught:
                pool.map(square, [1], checkpoint=wrong)
            assert repr(str(wrong)) in str(caught.value)
        # SQLite would keep it in memory.
        assert pool.map(square, [1], checkpoint=':memory:') == [1]
        assert (tmp_path / ':memory:').exists()
