"""The fork server: no other program reaches it; its death and stops have a bounded cost."""

import os
import pathlib
import signal
import socket
import threading
import time

import procession
import pytest
from processes import PATIENCE, has_ended, run, started
from procession import forkserver

pytestmark = pytest.mark.limit(60)


@pytest.fixture
def ctx():
    """Returns the context of the fork server."""
    return procession.get_context('forkserver')


@pytest.fixture
def server(ctx):
    """Returns the pid of the fork server of this process, which has begun its work."""
    started(ctx, abs, 1).join(PATIENCE)
    return forkserver._forkserver._forkserver_pid


def test_the_fork_server_listens_nowhere(server):
    ours = {os.readlink(fd) for fd in pathlib.Path(f'/proc/{server}/fd').iterdir()}
    # The columns: number, references, protocol, flags, type, state, inode, path. Flag 0x10000: it
    # accepts connections.
    for line in pathlib.Path('/proc/net/unix').read_text().splitlines()[1:]:
        _, _, _, flags, _, _, inode, *path = line.split()
        if f'socket:[{inode}]' in ours:
            assert int(flags, 16) & 0x10000 == 0 and path == []
    assert any(fd.startswith('socket:') for fd in ours)


def test_a_socket_of_the_fork_server_cannot_be_opened_by_its_path(server):
    for fd in pathlib.Path(f'/proc/{server}/fd').iterdir():
        if os.readlink(fd).startswith('socket:'):
            with pytest.raises(OSError, match='No such device or address'):
                os.open(fd, os.O_RDWR)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other, pytest.raises(OSError):
                other.connect(str(fd))


def test_exit_codes_outlive_a_killed_fork_server(ctx, server):
    children = [started(ctx, time.sleep, 0.2), started(ctx, leave_later, 5), started(ctx, abort_later)]
    os.kill(server, signal.SIGKILL)
    for child in children:
        child.join(PATIENCE)
    assert [child.exitcode for child in children] == [0, 5, -signal.SIGABRT]


def test_a_stopped_fork_server_hangs_nobody(ctx, server):
    child = started(ctx, leave_later, 6)
    os.kill(server, signal.SIGSTOP)
    child.join(PATIENCE)
    assert child.exitcode == 6
    assert started(ctx, pow, 2, 5).result(PATIENCE) == 32, 'by another server'
    assert forkserver._forkserver._forkserver_pid != server


class Raised(Exception):
    """An exception that a handler raises."""


def raise_it(*_):
    raise Raised


def test_a_handler_that_raises_ends_the_wait_for_a_stopped_fork_server(ctx, server, tmp_path):
    before = signal.signal(signal.SIGALRM, raise_it)
    try:
        os.kill(server, signal.SIGSTOP)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Raised) as caught:
            started(ctx, (tmp_path / 'trace').touch)
        # The test did not wait for the server's end.
        assert not has_ended(server)
        os.kill(server, signal.SIGCONT)
        assert started(ctx, pow, 2, 5).result(PATIENCE) == 32
        assert forkserver._forkserver._forkserver_pid == server
        assert not (tmp_path / 'trace').exists(), 'a child that nobody holds does nothing'
        del caught
    finally:
        signal.signal(signal.SIGALRM, before)


def test_forks_beside_a_thread_that_waits_for_a_stopped_fork_server(ctx, server):
    os.kill(server, signal.SIGSTOP)
    thread = threading.Thread(target=lambda: started(ctx, pow, 2, 5).join())
    thread.start()
    time.sleep(0.2)
    for _ in range(5):
        child = started(procession.get_context('fork'), pow, 2, 6)
        assert child.result(PATIENCE) == 64
    assert not has_ended(server), 'the thread still waits'
    os.kill(server, signal.SIGCONT)
    thread.join()


def test_pools_and_starts_go_on_beside_a_stopped_fork_server(ctx, server):
    with ctx.Pool(2) as pool:
        os.kill(server, signal.SIGSTOP)
        os.kill(pool._pool[0].pid, signal.SIGKILL)
        assert pool.stats()['workers']
        assert pool.map(abs, range(100)) == list(range(100))
        assert started(ctx, pow, 2, 5).result(PATIENCE) == 32, 'by another server'
        second = forkserver._forkserver._forkserver_pid
        assert second != server
        os.kill(second, signal.SIGSTOP)
        os.kill(pool._pool[0].pid, signal.SIGKILL)
        pool.close()
        pool.join()


def test_a_program_that_ignores_sigchld_learns_exit_codes(ctx):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        forkserver._forkserver._stop()
        child = started(ctx, child_signal)
        assert child.result(PATIENCE) == signal.SIG_IGN, 'a child inherits what its parent has set'
        child = started(ctx, leave_later, 7)
        child.join(PATIENCE)
        assert child.exitcode == 7
    finally:
        signal.signal(signal.SIGCHLD, before)
        forkserver._forkserver._stop()


def leave_later(code):
    time.sleep(0.2)
    os._exit(code)


def abort_later():
    time.sleep(0.2)
    os.abort()


def child_signal():
    return signal.getsignal(signal.SIGCHLD)


GENERATORS = """
import os
# With more threads nothing is preloaded.
os.environ['OPENBLAS_NUM_THREADS'] = os.environ['OMP_NUM_THREADS'] = HOW_MANY
import numpy
import procession

own = numpy.random.default_rng()
seeded = numpy.random.default_rng(7)

def draw():
    return own.integers(1 << 60), numpy.random.randint(1 << 60), seeded.integers(1 << 60)

if __name__ == '__main__':
    context = procession.get_context('forkserver')
    seen = []
    for _ in range(3):
        process = context.Process(target=draw)
        process.start()
        seen.append(process.result())
    print([len(set(numbers)) for numbers in zip(*seen)])
"""


@pytest.mark.parametrize('threads', ['1', '2'])
def test_numpys_generators_differ_in_each_child_unless_they_are_seeded(threads, tmp_path):
    pytest.importorskip('numpy')
    done = run(tmp_path, GENERATORS.replace('HOW_MANY', repr(threads)).lstrip())
    assert (done.stdout, done.stderr) == ('[3, 3, 1]\n', '')


class HasProcess:
    """An object with a process as an attribute."""


def test_a_started_process_does_not_pickle_as_in_the_standard_library(ctx):
    holder = HasProcess()
    holder.process = started(ctx, time.sleep, 0)
    queue = ctx.Queue()
    with pytest.raises(TypeError, match='Pickling an AuthenticationString'):
        queue.put(holder)
    with ctx.Pool(1) as pool, pytest.raises(TypeError, match='Pickling an AuthenticationString'):
        pool.apply(type, (holder,))
    holder.process.join(PATIENCE)
