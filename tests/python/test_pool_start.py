"""The state of workers when they begin, and pools whose workers cannot all be started."""

import signal
import subprocess
import sys
import textwrap

import procession
import pytest


def running_out(ctx, number):
    """Returns a context of the same method that makes this many processes, and then raises."""

    class Context(type(ctx)):
        remaining = number

        def Process(self, *args, **terms):
            if self.remaining == 0:
                raise OSError('no more of these')
            self.remaining -= 1
            return ctx.Process(*args, **terms)

    return Context()


@pytest.mark.parametrize('started', [0, 3])
def test_a_worker_that_cannot_be_started_is_told_and_none_is_left(ctx, started):
    context = running_out(ctx, started)
    before = set(procession.active_children())
    with pytest.raises(OSError, match='^no more of these$'):
        context.Pool(5)
    assert context.remaining == 0
    assert set(procession.active_children()) == before


def test_a_process_that_is_none_is_refused_and_ended(ctx):
    class Pretended:
        name, daemon = 'Process', False
        started = []

        def __init__(self, *args, **terms):
            self.started.append(self)

        def start(self):
            self.is_running = True

        def terminate(self):
            self.is_running = False

        def join(self):
            assert not self.is_running

    class Context(type(ctx)):
        Process = Pretended

    with pytest.raises(ValueError, match='it has no pid'):
        Context().Pool(2)
    assert [process.is_running for process in Pretended.started] == [False, False]


def test_workers_that_ignore_sigterm_do_not_hold_up_a_failed_start(ctx):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(OSError, match='^no more of these$'):
            running_out(ctx, 2).Pool(3)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize('handler', [signal.SIG_IGN, signal.SIG_DFL])
def test_the_handler_of_ctrl_c_that_an_initializer_sets_stays(ctx, handler):
    with ctx.Pool(1, signal.signal, (signal.SIGINT, handler)) as pool:
        assert pool.apply(signal.getsignal, (signal.SIGINT,)) == handler


def test_without_one_a_task_hears_ctrl_c_as_any_program(ctx):
    with ctx.Pool(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.apply(signal.raise_signal, (signal.SIGINT,))


def test_a_signal_ends_a_wait_though_results_keep_coming(ctx):
    class Alarm(Exception):
        pass

    def ring(number, frame):
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with ctx.Pool(3) as pool:
            result = pool.map_async(abs, range(6_000_000), 500)
            with pytest.raises(Alarm):
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                result.wait()
            # This thread takes the results, and it came back while there were more.
            assert not result.ready()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize('processes', [0, -1])
def test_a_pool_of_no_workers_is_refused(ctx, processes):
    with pytest.raises(ValueError, match='^Number of processes must be at least 1$'):
        ctx.Pool(processes)
    with ctx.Pool(1) as pool:
        with pytest.raises(ValueError, match='^Number of processes must be at least 1$'):
            pool.resize(processes)
        assert pool.apply(abs, (-1,)) == 1


def test_a_fork_beside_the_engines_threads_alone_is_not_warned_of(tmp_path):
    path = tmp_path / 'program.py'
    path.write_text(
        textwrap.dedent("""
        import procession

        if __name__ == '__main__':
            context = procession.get_context('fork')
            with context.Pool(3) as pool:
                process = context.Process(target=print, args=('forked',))
                process.start()
                process.join()
                print(pool.apply(abs, (-1,)))
    """)
    )
    done = subprocess.run([sys.executable, '-W', 'error', str(path)], capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.stderr) == ('forked\n1\n', '')
