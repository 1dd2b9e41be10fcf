"""The things that a new process finds and brings along: the main module, the fork server, other
libraries' objects, large arguments.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap

import procession
import pytest
from processes import METHODS, PATIENCE, all_end, run, started
from tasks import double, megabytes

pytestmark = pytest.mark.limit(120)


# The main module.


@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_a_missing_guard_is_one_clear_error(tmp_path, method):
    done = run(
        tmp_path,
        """
        import sys, procession

        def f():
            print('ran')

        process = procession.get_context(sys.argv[1]).Process(target=f)
        process.start()
        process.join()
        print('exitcode', process.exitcode)
    """,
        method,
    )
    assert done.stdout == 'exitcode 1\n'
    assert done.stderr.count('\nRuntimeError:') == 1 and "if __name__ == '__main__'" in done.stderr


@pytest.mark.parametrize('how', ['path', 'module'])
@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_the_main_module_is_found(tmp_path, method, how):
    package = tmp_path / 'package'
    package.mkdir()
    (package / '__init__.py').write_text('')
    program = textwrap.dedent("""
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
    """)
    (package / 'program.py').write_text(program)
    command = ['-m', 'package.program'] if how == 'module' else ['package/program.py']
    done = subprocess.run([sys.executable, *command, method], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ('found\n', '')


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
        assert all_end([before])
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
    done = run(
        tmp_path,
        """
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
    """,
    )
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
    done = run(
        tmp_path,
        """
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
    """,
    )
    assert (done.stdout, done.stderr) == ('hello bob\n' + 'hello\n' * 3, '')


def test_children_start_where_the_current_folder_was_removed(tmp_path, method):
    program = tmp_path / 'program.py'
    program.write_text(
        textwrap.dedent("""
            import os, sys, procession

            if __name__ == '__main__':
                gone = sys.argv[2]
                os.mkdir(gone)
                os.chdir(gone)
                os.rmdir(gone)
                context = procession.get_context(sys.argv[1])
                with context.Pool(1) as pool:
                    print(pool.map(abs, [-1]))
                process = context.Process(target=print, args=('here',))
                process.start()
                process.join()
        """)
    )
    command = [sys.executable, program, method, tmp_path / 'gone']
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ('[1]\nhere\n', '')
