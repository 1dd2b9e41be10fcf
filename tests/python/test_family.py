"""A process, its parent and its children: their identities, which processes may have children, and
which end together.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time

import procession
import pytest
from processes import METHODS, all_end, has_ended, run, started
from tasks import double

pytestmark = pytest.mark.limit(120)


# Identities.


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
    assert all_end([watcher])
    process.join()


# Kills.


FAMILY = """
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
"""


@pytest.mark.parametrize('method', METHODS)
def test_nothing_survives_a_killed_parent(tmp_path, method):
    path = tmp_path / 'program.py'
    path.write_text(textwrap.dedent(FAMILY))
    program = subprocess.Popen([sys.executable, str(path), method], stdout=subprocess.PIPE, text=True)
    pids = [int(word) for line in (program.stdout.readline(), program.stdout.readline()) for word in line.split()]
    assert len(pids) >= 4
    # A stopped process cannot act itself.
    os.kill(pids[1], signal.SIGSTOP)
    program.kill()
    assert all_end(pids)
    program.wait()
    program.stdout.close()


@pytest.mark.parametrize('method', METHODS)
def test_a_process_that_the_user_forks_holds_no_lifeline(tmp_path, method):
    done = run(
        tmp_path,
        """
        import os, sys, time, procession

        def sleep():
            time.sleep(600)

        if __name__ == '__main__':
            middle = os.fork()
            if middle == 0:
                process = procession.get_context(sys.argv[1]).Process(target=sleep)
                process.start()
                holder = os.fork()
                if holder == 0:
                    os.close(1), os.close(2)
                    time.sleep(600)
                    os._exit(0)
                print(process.pid, holder, flush=True)
                os.kill(os.getpid(), 9)
            os.waitpid(middle, 0)
    """,
        method,
    )
    process, holder = map(int, done.stdout.split())
    try:
        assert all_end([process])
        assert not has_ended(holder)
    finally:
        os.kill(holder, signal.SIGKILL)


@pytest.mark.parametrize('method', METHODS)
def test_a_normal_exit_joins_children_and_ends_daemons(tmp_path, method):
    done = run(
        tmp_path,
        """
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
    """,
        method,
    )
    assert (done.stdout, done.stderr, done.returncode) == ('main\nshort\ncallback\n', '', 0)


def start_one(method):
    process = procession.get_context(method).Process(target=double, args=(4,))
    process.start()
    return process.result()


def test_grandchildren(ctx):
    assert started(ctx, start_one, ctx.get_start_method()).result() == 8


def test_a_process_that_the_user_forks_has_none_of_its_parents_children(tmp_path, method):
    done = run(
        tmp_path,
        """
        import os, sys, time, warnings, procession

        if __name__ == '__main__':
            # Of a fork beside the engine's threads, which Python tells from 3.12 on.
            warnings.simplefilter('ignore', DeprecationWarning)
            context = procession.get_context(sys.argv[1])
            process = context.Process(target=time.sleep, args=(600,), daemon=True)
            process.start()
            with context.Pool(2) as pool:
                assert pool.map(abs, [-1]) == [1]
                pid = os.fork()
                if pid == 0:
                    assert procession.active_children() == []
                    sys.exit(3)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
                assert pool.map(abs, [-1]) == [1] and process.is_alive()
            assert process in procession.active_children()
    """,
        method,
    )
    assert (done.stderr, done.returncode) == ('', 0)


def test_what_a_process_that_the_target_forks_returns_is_not_the_targets_result(ctx):
    process = started(ctx, fork_and_return)
    process.join()
    assert process.exitcode == 0 and process.result() == 'of the parent'


def fork_and_return():
    pid = os.fork()
    if pid == 0:
        return 'of the copy'
    os.waitpid(pid, 0)
    return 'of the parent'
