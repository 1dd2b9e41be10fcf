"""Values arrive as they were sent: each task gets its own, and functions and classes that workers
cannot import go by value.
"""

import copyreg
import functools
import itertools
import struct
import subprocess
import sys
import textwrap
import threading

import procession
import procession.pool
import pytest
from processes import METHODS, PATIENCE, run, started
from tasks import double

pytestmark = pytest.mark.limit(120)


class Counter:
    """A callable that changes with each call."""

    def __init__(self):
        self.count = 0

    def work(self, _):
        self.count += 1
        return self.count

    __call__ = work


def count_into(seen, item):
    seen.append(item)
    return len(seen)


def resident_after(_held, _item):
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * 4096


def stop_at_three(item):
    if item == 3:
        raise StopIteration('three')
    return item


class Temperature:
    """A value whose reducer programs register and change."""

    def __init__(self, degrees):
        self.degrees = degrees


def temperature_of(kind):
    return Temperature(kind)


def degrees(temperature):
    return temperature.degrees


# Each task gets its own.


@pytest.mark.parametrize('chunksize', [1, 2])
def test_each_task_gets_its_own_bound_method(ctx, chunksize):
    with ctx.Pool(1) as pool:
        expected = [1, 1, 1, 1] if chunksize == 1 else [1, 2, 1, 2]
        # Within a chunk, as in the standard library, the function is one object.
        assert pool.map(Counter().work, range(4), chunksize=chunksize) == expected
        assert [pool.apply(Counter().work, (0,)) for _ in range(3)] == [1, 1, 1]
        assert list(pool.imap(Counter().work, range(3))) == [1, 1, 1]


def test_each_task_gets_its_own_callable_object_and_partial(ctx):
    with ctx.Pool(1) as pool:
        assert pool.map(Counter(), range(3), chunksize=1) == [1, 1, 1]
        assert pool.map(functools.partial(count_into, []), range(3), chunksize=1) == [1, 1, 1]
        assert pool.starmap(functools.partial(count_into, [0]), [(1,), (2,)], chunksize=1) == [2, 2]


def test_a_task_with_a_time_limit_gets_its_own_too(ctx):
    with ctx.Pool(1) as pool:
        assert pool.map(Counter(), range(3), timeout=PATIENCE) == [1, 1, 1]
        assert pool.map(Counter(), range(3), retries=1) == [1, 1, 1]


def test_worker_lets_go_of_objects_that_a_function_holds(ctx):
    with ctx.Pool(1) as pool:
        sizes = [pool.map(functools.partial(resident_after, bytes([number]) * 10**7), [1])[0] for number in range(20)]
        pool.apply(double, (1,))
    assert sizes[-1] - sizes[2] < 3 * 10**7


def test_a_closure_is_sent_as_it_is_now(ctx):
    factor = 2

    def scaled(number):
        return factor * number

    with ctx.Pool(1) as pool:
        assert pool.apply(scaled, (10,)) == 20
        factor = 3
        assert pool.apply(scaled, (10,)) == 30
        assert pool.map(scaled, [1, 2]) == [3, 6]


def test_a_function_that_has_lost_its_name_is_not_sent_by_it(ctx, monkeypatch):
    import tasks

    with ctx.Pool(1) as pool:
        assert pool.apply(tasks.double, (4,)) == 8
        old = tasks.double
        monkeypatch.setattr(tasks, 'double', lambda number: number)
        # By value where cloudpickle is installed: it never becomes the other function.
        try:
            assert pool.apply(old, (4,)) == 8
        except Exception as error:
            assert 'not the same object' in str(error)


def test_stop_iteration_in_a_map_is_its_tasks_error(ctx):
    with ctx.Pool(2) as pool:
        for call in (pool.map, pool.imap):
            with pytest.raises(StopIteration, match='three') if call == pool.map else pytest.raises(RuntimeError):
                list(item for item in call(stop_at_three, range(6), chunksize=6))
        assert pool.map(stop_at_three, range(3)) == [0, 1, 2]


# Reducers.


# As plain as they are, and those beside them that are not: at each limit of a size, and of a type.
PLAIN = (
    *(None, True, False, 0, -1, 2**63 - 1, -(2**63), 2**63, -(2**64), 1.5, float('inf'), -0.0, 5e-324),
    *('', 'a', 'é', '\0', '\udc80', 'x' * 4096, 'x' * 4097, 'é' * 2048, 'é' * 2049, 'x' * 100_000),
    *(b'', b'a', bytes(4096), bytes(4097), bytes(100_000), bytearray(b'a'), 1j, Ellipsis),
    *((), (1,), ('a', (1,)), tuple(range(16)), tuple(range(17)), [], [1], [1] * 8, [1.5] * 8, [True] * 8, [2**63] * 8),
)


def all_of(*values):
    return values


def are_one(first, second):
    return first is second


def same(value):
    return value


def pairs(values):
    """Returns what `==` does not tell apart beside it."""
    return [(type(value), repr(value)) for value in values]


def test_plain_values_arrive_as_they_are(ctx):
    with ctx.Pool(1) as pool:
        assert pairs(pool.apply(same, (value,)) for value in PLAIN) == pairs(PLAIN)
        assert pairs(pool.apply(all_of, (value, 'and', value)) for value in PLAIN) == pairs((v, 'and', v) for v in PLAIN)
        assert pairs(pool.imap(same, PLAIN)) == pairs(PLAIN)
        assert pairs(pool.map(same, PLAIN, chunksize=3)) == pairs(PLAIN)
        bits = [struct.pack('<Q', 0x7FF8_0000_0000_0123 | sign) for sign in (0, 1 << 63)]
        numbers = [struct.unpack('<d', each)[0] for each in bits]
        assert [struct.pack('<d', pool.apply(same, (number,))) for number in numbers] == bits


def test_one_string_in_two_places_is_one_there(ctx):
    with ctx.Pool(1) as pool:
        assert pool.apply(are_one, ('a text', 'a text')) is True
        assert pool.apply(are_one, (b'some bytes', b'some bytes')) is True
        assert pool.apply(are_one, ('a text', ' '.join(['a', 'text']))) is False


def test_a_reducer_that_is_registered_anew_is_used(ctx):
    queue = ctx.SimpleQueue()
    try:
        for number in (1, 2):
            copyreg.pickle(Temperature, functools.partial(_reduced, number))
            queue.put(Temperature(0))
            assert queue.get().degrees == number
            with ctx.Pool(1) as pool:
                assert pool.apply(degrees, (Temperature(0),)) == number
    finally:
        copyreg.dispatch_table.pop(Temperature, None)


def test_a_reducer_of_the_forking_pickler_that_is_registered_anew_is_used(ctx):
    from procession.reduction import ForkingPickler

    queue = ctx.SimpleQueue()
    try:
        for number in (3, 4):
            ForkingPickler.register(Temperature, functools.partial(_reduced, number))
            queue.put(Temperature(0))
            assert queue.get().degrees == number
    finally:
        ForkingPickler._extra_reducers.pop(Temperature, None)


def _reduced(number, _):
    return temperature_of, (number,)


def test_an_own_reducer_of_a_context_is_used_in_queues_pools_and_pipes(tmp_path):
    done = run(
        tmp_path,
        """
        import io, pickle
        import procession
        from procession import reduction

        class Value:
            def __init__(self, number):
                self.number = number

        class Pickler(reduction.ForkingPickler):
            def reducer_override(self, value):
                return (Value, (value.number + 1,)) if type(value) is Value else NotImplemented

            @classmethod
            def dumps(cls, value, protocol=None):
                return super().dumps((8,) if value == (7,) else value, protocol)

        class Own(reduction.AbstractReducer):
            ForkingPickler = Pickler

        def number_of(value):
            return value.number

        if __name__ == '__main__':
            context = procession.get_context('fork')
            context.reducer = Own()
            queue = context.SimpleQueue()
            queue.put(Value(1))
            with context.Pool(1) as pool:
                seen = [queue.get().number, pool.apply(number_of, (Value(1),)), pool.apply(int, (7,))]
            ours, theirs = context.Pipe()
            ours.send(Value(1))
            print(seen, theirs.recv().number)
    """,
    )
    assert (done.stdout, done.stderr) == ('[2, 2, 8] 2\n', '')


# By name and by value.


CLASSES = """
import enum, dataclasses, procession

class A:
    pass

class Color(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Point:
    x: int

def look(a, color, point):
    return isinstance(a, A), color is Color.RED, point == Point(1)

def give():
    return A(), Color.RED, Point(1)

if __name__ == '__main__':
    with procession.get_context(METHOD).Pool(1) as pool:
        print(*pool.apply(look, (A(), Color.RED, Point(1))))
        a, color, point = pool.apply(give)
        print(isinstance(a, A), color is Color.RED, point == Point(1))
        print(pool.apply(lambda a: isinstance(a, A), (A(),)))
        process = procession.get_context(METHOD).Process(target=look, args=(A(), Color.RED, Point(1)))
        process.start()
        print(*process.result())
"""
AS_SENT = 'True True True\nTrue True True\nTrue\nTrue True True\n'


@pytest.mark.parametrize('how', ['file', '-c', 'stdin', 'package', 'folder', 'archive'])
def test_classes_of_any_main_module_are_the_same_on_both_sides(method, how, tmp_path):
    program = f'METHOD = {method!r}\n{CLASSES}'
    command = _program(how, program, tmp_path)
    source = program if how == 'stdin' else None
    done = subprocess.run([sys.executable, *command], input=source, capture_output=True, text=True, timeout=90, cwd=tmp_path)
    assert (done.stdout, done.stderr) == (AS_SENT, '')


def _program(how, program, folder):
    if how == '-c':
        return ['-c', program]
    if how == 'stdin':
        return ['-']
    if how == 'file':
        (folder / 'program.py').write_text(program)
        return ['program.py']
    package = folder / 'package'
    package.mkdir()
    (package / '__main__.py').write_text(program)
    if how == 'package':
        (package / '__init__.py').write_text('')
        return ['-m', 'package']
    if how == 'archive':
        import zipapp

        zipapp.create_archive(package, folder / 'program.pyz')
        return ['program.pyz']
    return ['package']


@pytest.mark.parametrize('how', ['-c', 'package'])
def test_without_cloudpickle_one_error_says_what_to_do(how, tmp_path):
    program = textwrap.dedent("""
        import sys
        sys.modules['cloudpickle'] = None
        import procession

        class A:
            pass

        def f(a):
            return a

        if __name__ == '__main__':
            context = procession.get_context('spawn')
            with context.Pool(1) as pool:
                for call in (lambda: pool.apply(f, (1,)), lambda: pool.map(abs, [A()]), context.Process(target=f, args=(1,)).start):
                    try:
                        call()
                    except Exception as error:
                        print(type(error).__name__, 'install cloudpickle' in str(error))
    """)
    command = _program(how, program, tmp_path)
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=90, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ('PicklingError True\n' * 3, '')


def test_a_class_that_is_defined_after_the_fork_goes_by_value(tmp_path):
    done = run(
        tmp_path,
        '''
        import procession

        class Known:
            pass

        if __name__ == '__main__':
            with procession.get_context('fork').Pool(1) as pool:
                exec("""if True:
                    class Later:
                        pass

                    def look(later, known):
                        return isinstance(later, Later), isinstance(known, Known)

                    def give():
                        return Later(), Known()
                """)
                print(*pool.apply(look, (Later(), Known())))
                later, known = pool.apply(give)
                print(isinstance(later, Later), isinstance(known, Known))
                exec("""if True:
                    def look(later, known):
                        return 'the new one'
                """)
                print(pool.apply(look, (Later(), Known())))
    ''',
    )
    assert (done.stdout, done.stderr) == ('True True\nTrue True\nthe new one\n', '')


@pytest.mark.parametrize('method', METHODS)
def test_a_process_runs_a_closure(method):
    ctx, word = procession.get_context(method), 'seven'
    assert started(ctx, lambda: word).result(PATIENCE) == 'seven'
    process = ctx.Process(target=double, args=(21,), kwargs={})
    process.start()
    assert process.result(PATIENCE) == 42


def test_a_file_is_refused_though_cloudpickle_would_send_something_else(ctx):
    with ctx.Pool(1) as pool, open(__file__) as file:
        for argument in (file, memoryview(b'abc')):
            with pytest.raises(TypeError, match='pickle'):
                pool.apply(type, (argument,))


def test_what_a_closure_holds_and_does_not_pickle_is_named(ctx):
    lock = threading.Lock()
    shared = procession.share(b'abc')
    with ctx.Pool(1) as pool:
        with pytest.raises(TypeError, match='lock'):
            pool.apply(lambda: lock)
        with pytest.raises(RuntimeError, match='travels as an argument|goes to another process as an argument'):
            pool.map(lambda _: shared, [1])


def test_items_of_an_iterator_that_do_not_pickle_fail_alone(ctx):
    with ctx.Pool(2) as pool:
        items = [1, 2, memoryview(b''), 4, 5]
        for chunksize, lost in ((1, [2]), (2, [2, 3])):
            results = pool.imap(double, items, chunksize=chunksize)
            seen = []
            for _ in itertools.repeat(None, 10):
                try:
                    seen.append(next(results))
                except StopIteration:
                    break
                except TypeError as error:
                    assert 'memoryview' in str(error)
                    seen.append('refused')
            expected = [2, 4, *['refused'] * (1 if chunksize == 1 else 1), *[2 * items[at] for at in (3, 4) if at not in lost]]
            assert seen == expected


# Errors.


class Unpicklable(Exception):
    """An exception that does not come back as it went."""

    def __init__(self, first, second):
        super().__init__(first)
        self.second = second


class MakesSomethingElse(Exception):
    """An exception whose `__reduce__` makes no exception."""

    def __reduce__(self):
        return dict, ()


class Shouting:
    """A result that does not pickle, with a long repr."""

    def __reduce__(self):
        raise TypeError('not this one')

    def __repr__(self):
        return 'x' * (20 << 20)


def raise_group():
    raise ExceptionGroup(
        'two', [ValueError('one'), Unpicklable('other', 2), ExceptionGroup('inner', [MakesSomethingElse('third')])]
    )


def raise_in_a_circle():
    first, second = ValueError('first'), KeyError('second')
    first.__cause__, second.__cause__ = second, first
    raise first


def raise_something_else():
    raise MakesSomethingElse('its text')


def raise_what_only_a_worker_can_import(folder):
    import pathlib

    (pathlib.Path(folder) / 'only_here.py').write_text('class Odd(Exception):\n    pass\n')
    sys.path.insert(0, folder)
    import only_here

    raise only_here.Odd('its text')


def raise_from_none():
    try:
        raise KeyError('hidden')
    except KeyError:
        raise ValueError('seen') from None


def shout():
    return Shouting()


def error_of(pool, function, *args):
    with pytest.raises(Exception) as caught:
        pool.apply(function, args)
    return caught.value


def test_a_group_with_members_that_do_not_pickle_arrives(ctx):
    with ctx.Pool(1) as pool:
        group = error_of(pool, raise_group)
    assert type(group) is ExceptionGroup and group.message == 'two'
    one, other, inner = group.exceptions
    assert (type(one), one.args) == (ValueError, ('one',))
    assert type(other) is Unpicklable and (other.args, other.second) == (('other',), 2)
    assert type(inner) is ExceptionGroup and 'third' in str(inner.exceptions[0])
    assert 'raise_group' in str(group.__cause__)


def test_errors_in_a_circle_arrive(ctx):
    with ctx.Pool(1) as pool:
        error = error_of(pool, raise_in_a_circle)
    assert (type(error), error.args) == (ValueError, ('first',))
    assert type(error.__cause__) is KeyError and 'raise_in_a_circle' in str(error.__cause__.__cause__)


def test_an_error_that_pickles_as_something_else_keeps_its_text(ctx):
    with ctx.Pool(1) as pool:
        error = error_of(pool, raise_something_else)
    assert type(error) is MakesSomethingElse and error.args == ('its text',)
    assert 'raise_something_else' in str(error.__cause__)


def test_an_error_that_the_caller_cannot_import_keeps_name_text_and_traceback(ctx, tmp_path):
    with ctx.Pool(1) as pool:
        error = error_of(pool, raise_what_only_a_worker_can_import, str(tmp_path))
    assert isinstance(error, procession.pool.MaybeEncodingError)
    assert 'only_here.Odd: its text' in str(error) and 'ModuleNotFoundError' in str(error)
    assert 'raise_what_only_a_worker_can_import' in str(error.__cause__)


def test_an_error_that_hides_its_context_keeps_its_traceback(ctx):
    with ctx.Pool(1) as pool:
        error = error_of(pool, raise_from_none)
    assert type(error) is ValueError and type(error.__cause__) is procession.pool.RemoteTraceback
    assert 'raise_from_none' in str(error.__cause__) and 'hidden' not in str(error.__cause__)


def test_the_repr_of_a_result_that_does_not_pickle_is_cut(ctx):
    with ctx.Pool(1) as pool:
        error = error_of(pool, shout)
    assert isinstance(error, procession.pool.MaybeEncodingError)
    assert 'not this one' in str(error) and len(str(error)) < 4096
