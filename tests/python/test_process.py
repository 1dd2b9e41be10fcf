"""Processes by each start method: their life, their end, what they leave, and what a kill costs."""

import multiprocessing
import multiprocessing.connection
import os
import pickle
import selectors
import signal
import subprocess
import sys
import textwrap
import time

import procession
import pytest
from procession import ProcessLost

METHODS = ('fork', 'spawn', 'forkserver')
PATIENCE = 30


pytestmark = pytest.mark.limit(120)


def nothing():
    pass


def sleep():
    time.sleep(600)


def double(x):
    return 2 * x


def fail(text):
    raise ValueError(text)


def leave(code):
    sys.exit(code)


def die(number):
    os.kill(os.getpid(), number)
    time.sleep(600)


def megabytes(count):
    return bytes(range(256)) * (count << 12)


def unpicklable():
    return lambda: None


class Picky(Exception):
    def __init__(self, one, two):
        super().__init__('picky')


def fail_pickily():
    raise Picky(1, 2)


def started(ctx, target, *args, **terms):
    process = ctx.Process(target=target, args=args, **terms)
    process.start()
    return process


def ended_within(pid, seconds):
    """Whether the process has ended, or is a zombie nobody waits for, in so many seconds."""
    return all_ended_within([pid], seconds)


def all_ended_within(pids, seconds):
    """The same of all of them. A step that takes far longer than it should counts as a short one: the machine stood still."""
    left = seconds
    while not all(map(has_ended, pids)):
        if left <= 0:
            return False
        begin = time.monotonic()
        time.sleep(0.01)
        left -= min(time.monotonic() - begin, 0.1)
    return True


def has_ended(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] == 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return True


def run(tmp_path, program, *args, **terms):
    """Runs a program of its own file, as a user does."""
    path = tmp_path / 'program.py'
    path.write_text(textwrap.dedent(program))
    command = [sys.executable, str(path), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, **terms)


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


def test_join_takes_its_time_and_no_more(ctx):
    process = started(ctx, sleep)
    begin = time.monotonic()
    process.join(0.2)
    assert 0.2 <= time.monotonic() - begin < 10 and process.is_alive()
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


def test_a_process_reaped_by_others_has_ended(ctx):
    process = started(ctx, sleep)
    process.kill()
    os.waitpid(process.pid, 0)
    process.join(PATIENCE)
    assert not process.is_alive() and process.exitcode == 255


def test_a_handler_that_reaps_all_children_does_no_harm(tmp_path):
    done = run(tmp_path, '''
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
    ''')
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


# What it leaves.


def test_a_result_comes_back(ctx):
    assert started(ctx, double, 21).result() == 42
    assert started(ctx, nothing).result() is None
    large = started(ctx, megabytes, 3)
    assert large.result(timeout=PATIENCE) == megabytes(3) and large.exitcode == 0


def test_an_exception_is_raised_with_its_traceback(ctx):
    process = started(ctx, fail, 'no luck')
    with pytest.raises(ValueError, match='no luck') as raised:
        process.result()
    assert "raise ValueError(text)" in str(raised.value.__cause__)
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
    done = run(tmp_path, '''
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
    ''', method)
    assert (done.stdout, done.stderr) == ('42 0\n', '')


# Who is who.


def who():
    me, parent = procession.current_process(), procession.parent_process()
    standard = multiprocessing.current_process() is me and multiprocessing.parent_process() is parent
    method = procession.get_start_method(), multiprocessing.get_start_method()
    return me.name, me.daemon, parent.pid, parent.is_alive(), standard, procession.active_children(), method


def test_a_child_knows_itself_and_its_parent(ctx):
    process = started(ctx, who, name='Ada', daemon=True)
    method = ctx.get_start_method()
    assert process.result() == ('Ada', True, os.getpid(), True, True, [], (method, method))


def where():
    return os.getcwd(), sys.argv, sys.path, sys.stdin.read(), bytes(procession.current_process().authkey)


def test_a_child_is_where_its_parent_is(ctx, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['prog', 'one'])
    monkeypatch.setattr(sys, 'path', [*sys.path, '/nowhere'])
    authkey = bytes(procession.current_process().authkey)
    assert started(ctx, where).result() == (str(tmp_path), ['prog', 'one'], sys.path, '', authkey)


def watch_parent(connection):
    connection.send(procession.parent_process().is_alive())
    procession.parent_process().join()
    connection.send(procession.parent_process().is_alive())
    time.sleep(600)


def start_watcher(method, connection):
    process = procession.get_context(method).Process(target=watch_parent, args=(connection,))
    process.start()
    connection.send(process.pid)
    time.sleep(600)


def test_a_child_that_watches_sees_its_parents_death_and_ends(ctx):
    ours, theirs = ctx.Pipe()
    process = started(ctx, start_watcher, ctx.get_start_method(), theirs)
    said = [ours.recv(), ours.recv()]
    watcher = next(value for value in said if value is not True)
    process.kill()
    assert ours.recv() is False
    assert ended_within(watcher, 2)
    process.join()


# Kills.

FAMILY = '''
    import os, sys, time, procession

    def sleep(connection, levels, method):
        connection.send(os.getpid())
        if levels:
            ctx = procession.get_context(method)
            ctx.Process(target=sleep, args=(connection, levels - 1, method)).start()
        time.sleep(600)

    if __name__ == '__main__':
        method = sys.argv[1]
        ctx = procession.get_context(method)
        ours, theirs = ctx.Pipe()
        for daemon in (True, False):
            ctx.Process(target=sleep, args=(theirs, 0 if daemon else 1, method), daemon=daemon).start()
        print(os.getpid(), *(ours.recv() for _ in range(3)), flush=True)
        if method == 'forkserver':
            from procession.forkserver import _forkserver
            print(_forkserver._forkserver_pid, flush=True)
        else:
            print(flush=True)
        time.sleep(600)
'''


@pytest.mark.parametrize('method', METHODS)
def test_nothing_survives_a_killed_parent(tmp_path, method):
    path = tmp_path / 'program.py'
    path.write_text(textwrap.dedent(FAMILY))
    program = subprocess.Popen([sys.executable, str(path), method], stdout=subprocess.PIPE, text=True)
    pids = [int(word) for line in (program.stdout.readline(), program.stdout.readline()) for word in line.split()]
    assert len(pids) >= 4
    # One that is stopped cannot do anything about it itself.
    os.kill(pids[1], signal.SIGSTOP)
    program.kill()
    assert all_ended_within(pids, 1.0)
    program.wait()
    program.stdout.close()


@pytest.mark.parametrize('method', METHODS)
def test_a_process_that_the_user_forks_holds_no_lifeline(tmp_path, method):
    done = run(tmp_path, '''
        import os, sys, time, procession

        def sleep():
            time.sleep(600)

        if __name__ == '__main__':
            middle = os.fork()
            if middle == 0:
                process = procession.get_context(sys.argv[1]).Process(target=sleep)
                process.start()
                if os.fork() == 0:
                    os.close(1), os.close(2)
                    time.sleep(5)
                    os._exit(0)
                print(process.pid, flush=True)
                os.kill(os.getpid(), 9)
            os.waitpid(middle, 0)
    ''', method)
    assert ended_within(int(done.stdout), 2)


@pytest.mark.parametrize('method', METHODS)
def test_a_normal_exit_joins_children_and_ends_daemons(tmp_path, method):
    done = run(tmp_path, '''
        import atexit, sys, time, procession

        def short():
            atexit.register(print, 'callback', flush=True)
            time.sleep(0.3)
            print('short', flush=True)

        def long():
            time.sleep(600)

        if __name__ == '__main__':
            ctx = procession.get_context(sys.argv[1])
            ctx.Process(target=long, daemon=True).start()
            ctx.Process(target=short).start()
            print('main', flush=True)
    ''', method)
    assert (done.stdout, done.stderr, done.returncode) == ('main\nshort\ncallback\n', '', 0)


def test_daemons_have_no_children(ctx):
    with pytest.raises(AssertionError, match='daemonic'):
        started(ctx, start_one, ctx.get_start_method(), daemon=True).result()


def start_one(method):
    process = procession.get_context(method).Process(target=double, args=(4,))
    process.start()
    return process.result()


def test_grandchildren(ctx):
    assert started(ctx, start_one, ctx.get_start_method()).result() == 8


# The main module.


@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_a_missing_guard_is_one_clear_error(tmp_path, method):
    done = run(tmp_path, '''
        import sys, procession

        def f():
            print('ran')

        process = procession.get_context(sys.argv[1]).Process(target=f)
        process.start()
        process.join()
        print('exitcode', process.exitcode)
    ''', method)
    assert done.stdout == 'exitcode 1\n'
    assert done.stderr.count('\nRuntimeError:') == 1 and "if __name__ == '__main__'" in done.stderr


@pytest.mark.parametrize('how', ['path', 'module'])
@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_the_main_module_is_found(tmp_path, method, how):
    package = tmp_path / 'package'
    package.mkdir()
    (package / '__init__.py').write_text('')
    program = textwrap.dedent('''
        import sys, procession
        from dataclasses import dataclass

        @dataclass
        class Point:
            x: 'int'

        def f(point):
            return __name__, point

        if __name__ == '__main__':
            process = procession.get_context(sys.argv[1]).Process(target=f, args=(Point(3),))
            process.start()
            assert process.result() == ('__mp_main__', Point(3)), process.result()
            print('found')
    ''')
    (package / 'program.py').write_text(program)
    command = ['-m', 'package.program'] if how == 'module' else ['package/program.py']
    done = subprocess.run(
        [sys.executable, *command, method], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ('found\n', '')


def test_a_spawned_child_imports_little(tmp_path):
    done = run(tmp_path, '''
        import sys, procession

        def heavy():
            return sorted({'socket', 'pickle', 'selectors', 'subprocess', 'procession.context'} & sys.modules.keys())

        def late():
            import multiprocessing
            return multiprocessing.get_start_method(), multiprocessing.reduction.ForkingPickler.__name__

        if __name__ == '__main__':
            ctx = procession.get_context('spawn')
            for target in (heavy, late):
                process = ctx.Process(target=target)
                process.start()
                print(process.result() if target is late else process.result() == [])
    ''')
    assert (done.stdout, done.stderr) == ("True\n('spawn', 'ForkingPickler')\n", '')


# The fork server.


def server_pid():
    from procession.forkserver import _forkserver

    _forkserver.ensure_running()
    return _forkserver._forkserver_pid


@pytest.mark.parametrize('number, survives', [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGKILL, False)])
def test_a_killed_server_is_started_anew_and_its_children_live(number, survives):
    ctx = procession.get_context('forkserver')
    before = server_pid()
    ours, theirs = ctx.Pipe()
    process = started(ctx, wait_for_word, theirs)
    os.kill(before, number)
    if not survives:
        assert ended_within(before, PATIENCE)
    assert started(ctx, double, 5).result() == 10
    assert (server_pid() == before) is survives
    ours.send(7)
    assert process.result() == 7 and process.exitcode == 0


def wait_for_word(connection):
    return connection.recv()


def test_a_stopped_server_that_is_killed_under_a_start_loses_nothing():
    ctx = procession.get_context('forkserver')
    pid = server_pid()
    os.kill(pid, signal.SIGSTOP)
    killer = subprocess.Popen(['/bin/sh', '-c', f'sleep 0.3; kill -KILL {pid}'])
    assert started(ctx, double, 6).result() == 12
    assert server_pid() != pid
    killer.wait()


def test_preloaded_modules_are_there_and_one_that_fails_does_no_harm(tmp_path):
    (tmp_path / 'good.py').write_text('')
    (tmp_path / 'bad.py').write_text('raise ValueError("bad module")')
    thread = 'threading.Thread(target=time.sleep, args=(600,), daemon=True).start()'
    (tmp_path / 'threads.py').write_text(f'import threading, time; {thread}')
    done = run(tmp_path, '''
        import sys, procession
        from procession import forkserver

        def f():
            return 'good' in sys.modules

        if __name__ == '__main__':
            ctx = procession.get_context('forkserver')
            for modules in (['bad', 'good'], ['threads', 'good']):
                ctx.set_forkserver_preload(modules)
                process = ctx.Process(target=f)
                process.start()
                print(process.result(), process.exitcode)
                forkserver._forkserver._stop()
    ''')
    assert (done.stdout, done.stderr) == ('True 0\nFalse 0\n', '')


def test_a_server_preloads_names_only():
    with pytest.raises(TypeError):
        procession.set_forkserver_preload([1])


# Other libraries' objects.


def use(lock, queue, connection, value):
    with lock:
        queue.put(os.getpid())
        connection.send('sent')
        value.value += 1


@pytest.mark.parametrize('objects', [multiprocessing, procession])
@pytest.mark.parametrize('processes', [multiprocessing, procession])
@pytest.mark.parametrize('method', METHODS)
def test_objects_of_either_package_travel_to_children_of_either(method, objects, processes):
    own = objects.get_context(method)
    ours, theirs = own.Pipe()
    lock, queue, value = own.Lock(), own.Queue(), own.Value('i', 4)
    process = processes.get_context(method).Process(target=use, args=(lock, queue, theirs, value))
    process.start()
    assert queue.get(timeout=PATIENCE) == process.pid
    assert ours.recv() == 'sent'
    process.join()
    assert process.exitcode == 0 and value.value == 5


def count_open(*connections):
    for connection in connections:
        connection.send('x')
        connection.close()


@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_more_file_descriptors_travel_than_one_message_takes(method):
    ctx = procession.get_context(method)
    pipes = [ctx.Pipe() for _ in range(140)]
    process = started(ctx, count_open, *(theirs for _, theirs in pipes))
    assert [ours.recv() for ours, _ in pipes] == ['x'] * len(pipes)
    process.join()
    assert process.exitcode == 0


def length(data):
    return len(data)


def test_large_arguments_arrive(ctx):
    assert started(ctx, length, megabytes(5)).result() == 5 << 20


def test_the_classic_introduction(tmp_path):
    done = run(tmp_path, '''
        import procession as mp

        def f(name):
            print('hello', name)

        def foo(q):
            q.put('hello')

        if __name__ == '__main__':
            p = mp.Process(target=f, args=('bob',))
            p.start()
            p.join()
            for method in ('spawn', 'fork', 'forkserver'):
                ctx = mp.get_context(method)
                q = ctx.Queue()
                p = ctx.Process(target=foo, args=(q,))
                p.start()
                print(q.get())
                p.join()
    ''')
    assert (done.stdout, done.stderr) == ('hello bob\n' + 'hello\n' * 3, '')
