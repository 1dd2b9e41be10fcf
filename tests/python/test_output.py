"""The output of children, which comes home line by line: of `print`, of C code, of programs that
they start, of children that are killed.
"""

import collections
import ctypes
import fcntl
import os
import random
import signal
import subprocess
import sys
import threading
import time

import procession
import pytest
from processes import all_end, run, started
from procession.futures import ProcessPoolExecutor
from waits import until

KILLED = -signal.SIGKILL


class Lines:
    """Keeps what it gets, in its order."""

    def __init__(self):
        self.all = []

    def __call__(self, line):
        self.all.append(line)

    def of(self, stream):
        return [line.text for line in self.all if line.stream == stream]


def greet(name):
    print(f'hello, {name}')
    print(f'not to {name}', file=sys.stderr)
    print('no end', end='')
    return os.getpid()


def number_line(number):
    print('number', number)
    return os.getpid()


def print_by_c():
    libc = ctypes.CDLL(None)
    libc.printf(b'by printf\n')
    os.write(1, b'by write\n')
    libc.dprintf(2, b'to stderr\n')


def fill_enlarged_pipe(count):
    fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)
    os.write(1, b'first\n')
    for number in range(count):
        os.write(1, b'%0100d\n' % number)


def run_shell():
    subprocess.run(['sh', '-c', 'echo out; echo err >&2'], check=True)


def print_and_die():
    for number in range(5000):
        print(number)
    os.write(1, b'torn off')
    os.kill(os.getpid(), signal.SIGKILL)


def print_lines(megabytes):
    """Says in each line which it is and how long. Half of them are written by C code."""
    written, number, rng = 0, 0, random.Random(os.getpid())
    libc = ctypes.CDLL(None)
    while written < megabytes << 20:
        length = rng.randrange(300)
        line = f'{number} {length} {"x" * length}.'
        if number % 2:
            print(line)
        else:
            libc.write(1, f'{line}\n'.encode(), len(line) + 1)
        written += len(line)
        number += 1


def print_much(count):
    for _ in range(count):
        print('y' * 999)


def print_and_kill_itself(number):
    print(number)
    os.kill(os.getpid(), signal.SIGKILL)


def leave_program():
    print('mine')
    return subprocess.Popen(['setsid', 'sleep', '1000']).pid


def targets():
    return [os.readlink(f'/proc/self/fd/{fd}') for fd in (1, 2)]


def length_of_line(text):
    return len(text)


def test_lines_of_a_process_have_come_when_it_is_joined(ctx, nothing_left):
    lines = Lines()
    process = started(ctx, greet, 'you', name='greeter', output=lines)
    pid = process.result()
    assert lines.of('stdout') == ['hello, you', 'no end']
    assert lines.of('stderr') == ['not to you']
    for line in lines.all:
        assert type(line) is procession.Line
        assert (line.name, line.worker, line.pid) == ('greeter', None, pid)
        assert line.is_whole is (line.text != 'no end')
        assert str(line) == line.text and bytes(line) == line.text.encode()


def test_lines_of_workers_come_with_their_slots(ctx, nothing_left):
    lines = Lines()
    with ctx.Pool(2, output=lines) as pool:
        ran = pool.map(number_line, range(100), 1)
        slots = {worker['pid']: slot for slot, worker in enumerate(pool.stats()['workers'])}
        pool.close()
        pool.join()
    assert sorted(int(line.text.split()[1]) for line in lines.all) == list(range(100))
    for line in lines.all:
        assert ran[int(line.text.split()[1])] == line.pid and line.worker == slots[line.pid]


def test_lines_have_come_at_the_end_of_with(ctx):
    lines = Lines()
    with ctx.Pool(1, output=lines) as pool:
        pool.apply(number_line, (1,))
    assert lines.of('stdout') == ['number 1']


def test_output_of_c_code_and_of_programs_comes_too(ctx):
    for act, out, err in ((print_by_c, ['by printf', 'by write'], ['to stderr']), (run_shell, ['out'], ['err'])):
        lines = Lines()
        started(ctx, act, output=lines).result()
        assert (lines.of('stdout'), lines.of('stderr')) == (out, err)


def test_an_executor_has_lines_too(ctx):
    lines = Lines()
    with ProcessPoolExecutor(2, ctx, output=lines) as executor:
        list(executor.map(number_line, range(10)))
    assert sorted(line.text for line in lines.all) == [f'number {number}' for number in range(10)]


def test_killed_child_has_lost_nothing_that_it_printed(ctx):
    lines = Lines()
    process = started(ctx, print_and_die, output=lines)
    process.join()
    assert process.exitcode == KILLED
    assert lines.of('stdout') == [*map(str, range(5000)), 'torn off']


@pytest.mark.limit(120)
def test_killed_workers_tear_no_line_of_100_mib(ctx, nothing_left):
    rng, lines, printing = random.Random(7), [], []
    with ctx.Pool(2, output=lambda line: lines.append((line.pid, line.text, line.is_whole))) as pool:
        while sum(len(text) for _, text, _ in lines) < 100 << 20:
            printing += [pool.apply_async(print_lines, (12,)) for _ in range(3)]
            enough = len(lines) + 100_000 + rng.randrange(20_000)
            # Under fork it is the program's threads that replace workers, as they come by.
            until(lambda enough=enough: pool._engine.worker_pids() and len(lines) > enough)
            os.kill(rng.choice(pool._engine.worker_pids()), signal.SIGKILL)
        pool.terminate()
    following = collections.defaultdict(list)
    for pid, text, is_whole in lines:
        if is_whole:
            number, length, rest = text.split(' ')
            assert len(rest) == int(length) + 1 and rest.endswith('.')
            following[pid].append(int(number))
    for numbers in following.values():
        assert all(after in (before + 1, 0) for before, after in zip(numbers, numbers[1:])), 'a line is missing'


def test_full_pipe_does_not_stop_a_worker(ctx):
    lines = Lines()
    with ctx.Pool(1, output=lines) as pool:
        pool.apply(print_much, (20_000,))
    printed = lines.of('stdout')
    assert len(printed) == 20_000 and set(map(len, printed)) == {999}


def test_program_that_is_left_behind_does_not_hold_up_a_join(ctx):
    lines = Lines()
    pid = started(ctx, leave_program, output=lines).result()
    assert lines.of('stdout') == ['mine']
    os.kill(pid, signal.SIGKILL)
    assert all_end([pid])


def test_null_output_is_dropped(ctx):
    with ctx.Pool(1, output='null') as pool:
        assert pool.apply(targets) == ['/dev/null'] * 2
        pool.apply(greet, ('nobody',))
    assert started(ctx, targets, output='null').result() == ['/dev/null'] * 2


def test_inherited_output_is_the_default(ctx):
    assert started(ctx, targets, output='inherit').result() == started(ctx, targets).result()


PREFIXES = """
    import sys, procession

    def greet(name):
        print(f'hello, {name}')
        print(f'not to {name}', file=sys.stderr)
        print('no end', end='')

    if __name__ == '__main__':
        ctx = procession.get_context(sys.argv[1])
        with ctx.Pool(1, output='prefix') as pool:
            pool.apply(greet, ('pool',))
        process = ctx.Process(target=greet, args=('process',), name='greeter', output='prefix')
        process.start()
        process.join()
"""


def test_lines_come_behind_prefixes(method, tmp_path):
    ran = run(tmp_path, PREFIXES, method)
    prefixed = ['[worker 0] hello, pool', '[worker 0] no end', '[greeter] hello, process', '[greeter] no end']
    assert ran.stdout.splitlines() == prefixed
    assert ran.stderr.splitlines() == ['[worker 0] not to pool', '[greeter] not to process']


AT_EXIT = """
    import sys, time, procession

    def greet():
        time.sleep(0.3)
        print('late')

    if __name__ == '__main__':
        ctx = procession.get_context(sys.argv[1])
        ctx.Process(target=greet, output=lambda line: print('got', line)).start()
        pool = ctx.Pool(1, output=lambda line: print('of the pool:', line, flush=True))
        pool.apply(print, ('there',))
"""


def test_lines_come_at_the_exit_of_a_program_that_does_not_join(method, tmp_path):
    ran = run(tmp_path, AT_EXIT, method)
    assert (sorted(ran.stdout.splitlines()), ran.stderr) == (['got late', 'of the pool: there'], '')


def test_callback_that_raises_is_reported_and_loses_no_further_line(ctx, monkeypatch):
    lines, hooked = Lines(), []

    def fail(line):
        lines(line)
        raise KeyError(line.text)

    monkeypatch.setattr(sys, 'unraisablehook', lambda unraisable: hooked.append((unraisable.exc_type, unraisable.object)))
    started(ctx, print, 'one\ntwo\nthree', output=fail).join()
    assert lines.of('stdout') == ['one', 'two', 'three']
    assert hooked == [(KeyError, fail)] * 3


def test_process_that_a_callback_forks_ends_as_it_returns(ctx, capfd):
    lines, forked = Lines(), []

    def fork(line):
        lines(line)
        pid = os.fork() if not forked else -1
        if pid == 0:
            sys.exit(0)
        forked.append(pid)

    started(ctx, print, 'one\ntwo\nthree', output=fork).join()
    assert lines.of('stdout') == ['one', 'two', 'three']
    _, status = os.waitpid(forked[0], 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert 'forked in a callback has returned from it' in capfd.readouterr().err


def test_pipe_that_a_child_has_enlarged_loses_no_line(ctx):
    lines = Lines()

    def slow(line):
        if not lines.all:
            # Longer than others may have a pipe after its child's end.
            time.sleep(1.2)
        lines(line)

    started(ctx, fill_enlarged_pipe, 4000, output=slow).join()
    assert lines.of('stdout') == ['first', *(f'{number:0100}' for number in range(4000))]


def test_replaced_worker_prints_while_a_callback_runs_beside_other_threads(ctx):
    lines, lock, over = Lines(), threading.Lock(), threading.Event()

    def slow(line):
        # A worker that were forked meanwhile would have the lock as it is.
        with lock:
            time.sleep(0.03)
            lines(line)

    def take_lock():
        while not over.wait(0.001):
            with lock:
                pass

    thread = threading.Thread(target=take_lock)
    thread.start()
    try:
        with ctx.Pool(1, output=slow) as pool:
            for number in range(8):
                with pytest.raises(procession.WorkerLost):
                    pool.apply(print_and_kill_itself, (number,))
            pool.close()
            pool.join()
    finally:
        over.set()
        thread.join()
    assert lines.of('stdout') == [str(number) for number in range(8)]


def test_callback_may_use_another_pool(ctx):
    lengths = []
    with ctx.Pool(1) as pool:
        started(ctx, print, 'four', output=lambda line: lengths.append(pool.apply(length_of_line, (line.text,)))).join()
    assert lengths == [4]


def test_join_in_time_returns_though_a_callback_does_not(ctx):
    begun, end = threading.Event(), threading.Event()

    def wait(line):
        begun.set()
        end.wait()

    process = started(ctx, print, 'line', output=wait)
    assert begun.wait(30)
    until(lambda: process.exitcode is not None)
    process.join(0.05)
    assert process.exitcode == 0
    end.set()
    process.join()


def test_pool_that_its_callback_leads_back_to_is_collected(ctx, nothing_left):
    class Program:
        def __init__(self):
            self.lines = []
            self.pool = ctx.Pool(1, output=self.keep)

        def keep(self, line):
            self.lines.append(line.text)

    program = Program()
    program.pool.apply(number_line, (1,))
    lines = program.lines
    until(lambda: lines == ['number 1'])
    with pytest.warns(ResourceWarning, match='unclosed running'):
        del program
        __import__('gc').collect()


@pytest.mark.parametrize(
    ('output', 'error', 'text'),
    [
        ('prefixed', ValueError, "output is 'inherit', 'null', 'prefix' or a function that gets each line, not 'prefixed'"),
        (subprocess.DEVNULL, TypeError, 'output is .* not -3'),
        (True, TypeError, 'output is .* not True'),
    ],
)
def test_unknown_output_is_refused(output, error, text):
    ctx = procession.get_context('spawn')
    for make in (
        lambda: ctx.Pool(1, output=output),
        lambda: ctx.Process(target=print, output=output),
        lambda: ProcessPoolExecutor(1, ctx, output=output),
    ):
        with pytest.raises(error, match=text):
            make()


def test_processes_of_another_library_are_refused():
    import multiprocessing

    with pytest.raises(ValueError, match="need processes of procession's"):
        procession.pool.Pool(1, context=multiprocessing.get_context('spawn'), output='prefix')
