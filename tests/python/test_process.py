"""Processes by each start method: their life, their end, and what they leave."""

import multiprocessing
import multiprocessing.connection
import os
import pickle
import selectors
import signal
import subprocess
import sys
import time

import procession
import pytest
from processes import KERNEL_REMEMBERS_ENDS, METHODS, PATIENCE, run, started
from procession import ProcessLost
from tasks import double, fail, megabytes

pytestmark = pytest.mark.limit(120)


def nothing():
    pass


def sleep():
    time.sleep(600)


def leave(code):
    sys.exit(code)


def die(number):
    os.kill(os.getpid(), number)
    time.sleep(600)


def unpicklable():
    return lambda: None


class Picky(Exception):
    def __init__(self, one, two):
        super().__init__('picky')


def fail_pickily():
    raise Picky(1, 2)


# Life and end.


def test_a_process_runs_and_ends(ctx):
    process = started(ctx, nothing)
    process.join()
    assert process.exitcode == 0 and not process.is_alive()
    assert process.pid > 0 and repr(process).endswith('stopped exitcode=0>')


@pytest.mark.parametrize('code, expected', [(None, 0), (0, 0), (7, 7), ('bye', 1), (True, 1)])
def test_exit_codes_are_those_of_sys_exit(ctx, code, expected):
    process = started(ctx, leave, code)
    process.join()
    assert process.exitcode == expected


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_a_negative_exit_code(ctx, number):
    process = started(ctx, die, number)
    process.join()
    assert process.exitcode == -number


@pytest.mark.parametrize('how, number', [('terminate', signal.SIGTERM), ('kill', signal.SIGKILL)])
def test_a_process_is_ended_by_its_parent(ctx, how, number):
    process = started(ctx, sleep)
    assert process.is_alive() and process.exitcode is None
    getattr(process, how)()
    process.join(PATIENCE)
    assert process.exitcode == -number
    getattr(process, how)()


def wait_for_interrupt(connection):
    try:
        connection.send('ready')
        time.sleep(600)
    except KeyboardInterrupt:
        connection.send('interrupted')


def test_interrupt_is_a_keyboard_interrupt(ctx):
    ours, theirs = ctx.Pipe()
    process = started(ctx, wait_for_interrupt, theirs)
    assert ours.recv() == 'ready'
    process.interrupt()
    assert ours.recv() == 'interrupted'
    process.join()
    assert process.exitcode == 0


def test_the_sentinel_is_a_pidfd_for_selectors_and_wait(ctx):
    process = started(ctx, sleep)
    assert isinstance(process.sentinel, int) and not os.get_inheritable(process.sentinel)
    assert multiprocessing.connection.wait([process.sentinel], 0.05) == []
    with selectors.DefaultSelector() as selector:
        selector.register(process.sentinel, selectors.EVENT_READ)
        assert selector.select(0.05) == []
        signal.pidfd_send_signal(process.sentinel, signal.SIGKILL)
        assert len(selector.select(PATIENCE)) == 1
    assert multiprocessing.connection.wait([process.sentinel], 0) == [process.sentinel]
    process.join()
    assert process.exitcode == -signal.SIGKILL


def leave_a_grandchild(connection):
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    connection.send(pid)


def test_a_grandchild_does_not_keep_the_sentinel_from_firing(ctx):
    ours, theirs = ctx.Pipe()
    process = started(ctx, leave_a_grandchild, theirs)
    grandchild = ours.recv()
    process.join(PATIENCE)
    assert process.exitcode == 0
    os.kill(grandchild, signal.SIGKILL)


def test_processes_that_the_program_forks_beside_callbacks_begin(tmp_path):
    done = run(
        tmp_path,
        """
        import os, select, signal
        import procession

        if __name__ == '__main__':
            called, stuck = [], 0
            # Spawned workers: the program alone forks.
            with procession.get_context('spawn').Pool(1) as pool:
                pool.apply(abs, (1,))
                for _ in range(400):
                    results = [pool.apply_async(abs, (1,), callback=called.append) for _ in range(20)]
                    pid = os.fork()
                    if pid == 0:
                        os._exit(0)
                    with open(os.pidfd_open(pid)) as ended:
                        if not select.select([ended], [], [], 20)[0]:
                            stuck += 1
                            os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
            print(stuck, len(called) > 0)
    """,
    )
    assert (done.stdout, done.returncode) == ('0 True\n', 0), done.stderr


def test_join_with_a_timeout_leaves_the_process_alive(ctx):
    process = started(ctx, sleep)
    process.join(0.2)
    assert process.is_alive()
    process.kill()
    process.join()


def test_a_signal_handler_that_raises_ends_a_join(ctx):
    class Alarm(Exception):
        pass

    def handler(*_):
        raise Alarm

    process = started(ctx, sleep)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Alarm):
            process.join()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert process.is_alive()
    process.kill()
    process.join()


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_a_process_reaped_by_others_has_ended(method):
    process = started(procession.get_context(method), sleep)
    process.kill()
    os.waitpid(process.pid, 0)
    process.join(PATIENCE)
    assert not process.is_alive()
    assert process.exitcode == (-signal.SIGKILL if KERNEL_REMEMBERS_ENDS else 255)


def test_a_handler_that_reaps_all_children_does_no_harm(tmp_path):
    done = run(
        tmp_path,
        """
        import os, signal, procession

        def reap(*_):
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass

        def f():
            pass

        if __name__ == '__main__':
            signal.signal(signal.SIGCHLD, reap)
            for method in ('fork', 'spawn', 'forkserver'):
                for _ in range(20 if method == 'fork' else 2):
                    process = procession.get_context(method).Process(target=f)
                    process.start()
                    process.join()
                    assert process.exitcode in (0, 255) and not process.is_alive(), process
            print('done')
    """,
    )
    assert (done.stdout, done.stderr) == ('done\n', '')


def test_close_lets_go_and_forbids_use(ctx):
    process = started(ctx, sleep)
    with pytest.raises(ValueError, match='still running'):
        process.close()
    sentinel = process.sentinel
    process.kill()
    process.join()
    process.close()
    process.close()
    with pytest.raises(OSError):
        os.fstat(sentinel)
    for use in (process.is_alive, process.join, process.terminate, process.result):
        with pytest.raises(ValueError, match='closed'):
            use()


def test_file_descriptors_do_not_add_up(ctx):
    started(ctx, nothing).join()
    before = len(os.listdir('/proc/self/fd'))
    for _ in range(5):
        process = started(ctx, nothing)
        process.join()
    del process
    assert len(os.listdir('/proc/self/fd')) <= before + 1


# The outcomes of processes.


def test_a_result_comes_back(ctx):
    assert started(ctx, double, 21).result() == 42
    assert started(ctx, nothing).result() is None
    large = started(ctx, megabytes, 3)
    assert large.result(timeout=PATIENCE) == megabytes(3) and large.exitcode == 0


def test_an_exception_is_raised_with_its_traceback(ctx):
    process = started(ctx, fail, 'no luck')
    with pytest.raises(ValueError, match='no luck') as raised:
        process.result()
    assert 'raise ValueError(text)' in str(raised.value.__cause__)
    assert process.exitcode == 1


def test_a_process_without_a_result_is_lost(ctx):
    for target, argument, code in ((leave, 3, 3), (leave, 0, 0), (die, signal.SIGKILL, -signal.SIGKILL)):
        process = started(ctx, target, argument)
        with pytest.raises(ProcessLost) as raised:
            process.result()
        assert (raised.value.pid, raised.value.exitcode) == (process.pid, code)
        assert isinstance(raised.value, multiprocessing.ProcessError)
    assert 'SIGKILL' in str(raised.value)
    assert pickle.loads(pickle.dumps(raised.value)).exitcode == -signal.SIGKILL


def test_a_result_that_does_not_pickle_is_an_error_of_result_alone(ctx):
    process = started(ctx, unpicklable)
    with pytest.raises(pickle.PicklingError, match='lambda'):
        process.result()
    assert process.exitcode == 0
    process = started(ctx, fail_pickily)
    with pytest.raises(Picky, match='picky'):
        process.result()
    assert process.exitcode == 1


def test_result_takes_no_longer_than_it_is_given(ctx):
    process = started(ctx, sleep)
    with pytest.raises(multiprocessing.TimeoutError):
        process.result(timeout=0.05)
    process.kill()
    process.join()


@pytest.mark.parametrize('method', METHODS)
def test_an_overridden_run_has_a_result(tmp_path, method):
    done = run(
        tmp_path,
        """
        import sys, procession

        class Doubler(procession.Process):
            def __init__(self, value):
                super().__init__()
                self.value = value

            def run(self):
                return 2 * self.value

        if __name__ == '__main__':
            procession.set_start_method(sys.argv[1])
            process = Doubler(21)
            process.start()
            print(process.result(), process.exitcode)
    """,
        method,
    )
    assert (done.stdout, done.stderr) == ('42 0\n', '')


def start_one_more(ctx_name):
    process = procession.get_context(ctx_name).Process(target=double, args=(21,))
    process.start()
    return process.result(PATIENCE)


def map_in_a_pool(ctx_name):
    with procession.get_context(ctx_name).Pool(2) as pool:
        return pool.map(double, range(3))


@pytest.mark.limit(120)
def test_daemonic_processes_have_children(ctx, method):
    assert started(ctx, start_one_more, method, daemon=True).result(PATIENCE) == 42
    with ctx.Pool(1) as pool:
        assert pool.apply(start_one_more, (method,)) == 42
        assert pool.apply(map_in_a_pool, (method,)) == [0, 2, 4]


@pytest.mark.limit(120)
def test_daemonic_processes_have_children_where_procession_answers_multiprocessing(method, tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(f"""
import multiprocessing

def outer():
    with multiprocessing.get_context({method!r}).Pool(1) as pool:
        return pool.apply(abs, (-3,))

if __name__ == '__main__':
    with multiprocessing.get_context({method!r}).Pool(1) as pool:
        print(pool.apply(outer))
""")
    done = subprocess.run([sys.executable, '-m', 'procession', program], capture_output=True, text=True, timeout=90)
    assert (done.stdout, done.stderr) == ('3\n', '')


def test_options_of_the_interpreter_are_passed_on(tmp_path):
    (tmp_path / 'program.py').write_text("""
import sys, procession

def options():
    return sys.get_int_max_str_digits(), '-' if 'no_debug_ranges' in sys._xoptions else '+'

if __name__ == '__main__':
    for method in ('spawn', 'forkserver'):
        process = procession.get_context(method).Process(target=options)
        process.start()
        print(*process.result())
""")
    command = [sys.executable, '-X', 'int_max_str_digits=1234', '-X', 'no_debug_ranges', 'program.py']
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ('1234 -\n' * 2, '')


def test_children_do_not_run_modules_of_the_current_folder(tmp_path):
    for name in ('threading', 'procession', 'pickle', 'signal'):
        (tmp_path / f'{name}.py').write_text('raise SystemExit("not this one")\n')
    program = tmp_path / 'elsewhere' / 'program.py'
    program.parent.mkdir()
    program.write_text("""
import procession

if __name__ == '__main__':
    for method in ('spawn', 'forkserver'):
        process = procession.get_context(method).Process(target=print, args=(method,))
        process.start()
        process.join()
""")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=50, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ('spawn\nforkserver\n', '')


def test_a_signal_for_a_forked_child_of_an_event_loop_is_the_childs(tmp_path):
    done = run(
        tmp_path,
        """
        import asyncio, signal, time, procession

        async def main():
            loop, seen = asyncio.get_running_loop(), []
            loop.add_signal_handler(signal.SIGTERM, seen.append, 'term')
            process = procession.get_context('fork').Process(target=time.sleep, args=(60,))
            process.start()
            process.terminate()
            process.join(30)
            await asyncio.sleep(0.05)
            print(process.exitcode, seen)

        asyncio.run(main())
    """,
    )
    assert (done.stdout, done.stderr) == ('-15 []\n', '')


def test_a_timeout_of_infinity_is_none(ctx):
    import threading

    forever = float('inf')
    process = started(ctx, double, 2)
    process.join(forever)
    assert process.exitcode == 0
    with ctx.Pool(1) as pool:
        assert pool.apply_async(double, (3,)).get(forever) == 6
        assert pool.apply_async(double, (3,), timeout=forever).get(1e300) == 6
        assert pool.imap(double, [4]).next(forever) == 8
        with pytest.raises(ValueError, match='NaN'):
            pool.apply_async(double, (3,)).get(float('nan'))
    lock, event, queue, barrier = ctx.Lock(), ctx.Event(), ctx.Queue(), ctx.Barrier(2)
    assert lock.acquire(timeout=forever)
    event.set()
    assert event.wait(forever)
    queue.put(1, timeout=forever)
    assert queue.get(timeout=forever) == 1
    other = threading.Thread(target=barrier.wait, args=(forever,))
    other.start()
    barrier.wait(forever)
    other.join()
