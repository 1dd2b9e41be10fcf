"""The limits of what tasks may take: `memory_limit` and `rlimits` of a pool."""

import os
import resource
import signal

import procession
import pytest
from processes import run
from waits import until

MIB = 1 << 20


def take(size):
    return len(bytes(bytearray(b'x') * size))


def files(_):
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def take_and_wait(size):
    taken = bytearray(b'x') * size
    signal.pause()
    return len(taken)


def test_task_beyond_the_limit_fails_and_no_other(ctx):
    with ctx.Pool(2, memory_limit=200 * MIB) as pool:
        others = [pool.apply_async(take, (MIB,)) for _ in range(20)]
        with pytest.raises(procession.MemoryLimitError, match='take_and_wait took more than the memory limit of') as raised:
            pool.apply(take_and_wait, (400 * MIB,))
        assert raised.value.limit == 200 * MIB and isinstance(raised.value, procession.WorkerLost)
        assert [other.get() for other in others] == [MIB] * 20
        until(lambda: len(pool._engine.worker_pids()) == 2)
        assert pool.map(take, [MIB] * 10) == [MIB] * 10
        # A worker that another kills is lost as ever.
        task = pool.apply_async(signal.pause)
        until(lambda: any(worker['running'] for worker in pool.stats()['workers']))
        pid = next(worker['pid'] for worker in pool.stats()['workers'] if worker['running'])
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(procession.WorkerLost) as lost:
            task.get()
        assert type(lost.value) is procession.WorkerLost


def test_limits_of_the_kernel_are_set(ctx):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ctx.Pool(2, rlimits={'NOFILE': (64, 128)}) as pool:
        assert set(pool.map(files, range(4))) == {(64, 128)}
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


@pytest.mark.parametrize(
    ('terms', 'error', 'text'),
    [
        ({'memory_limit': 0}, ValueError, 'memory_limit must be a positive number of bytes, not 0'),
        ({'memory_limit': '1G'}, ValueError, 'memory_limit must be'),
        ({'rlimits': {'FILES': 3}}, ValueError, "no limit 'FILES'; there are AS,"),
        ({'rlimits': {'NOFILE': 'many'}}, TypeError, 'is a number'),
        ({'rlimits': {'NOFILE': (10, 5)}}, ValueError, 'may give'),
        ({'rlimits': {'NOFILE': 1 << 40}}, ValueError, 'may give'),
        ({'rlimits': 64}, TypeError, 'rlimits must be a dict'),
    ],
)
def test_wrong_limits_are_refused(ctx, terms, error, text):
    with pytest.raises(error, match=text):
        ctx.Pool(2, **terms)


def test_errors_of_the_system_have_their_numbers(tmp_path, method):
    done = run(
        tmp_path,
        """
        import errno, os, resource, sys, procession

        def number_of(call):
            try:
                call()
            except OSError as error:
                return errno.errorcode.get(error.errno), '(os error' in str(error)

        if __name__ == '__main__':
            context = procession.get_context(sys.argv[1])
            pool = context.Pool(1)
            process = context.Process(target=abs, args=(1,))
            resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
            taken = []
            while True:
                try:
                    taken.append(os.open('/dev/null', os.O_RDONLY))
                except OSError:
                    break
            assert number_of(process.start) == ('EMFILE', False)
            assert number_of(lambda: pool.resize(2)) == ('EMFILE', False)
            for fd in taken:
                os.close(fd)
            process = context.Process(target=abs, args=(1,))
            process.start()
            process.join()
            assert process.exitcode == 0 and pool.map(abs, [-1]) == [1]
            pool.terminate()
    """,
        method,
    )
    assert (done.stderr, done.returncode) == ('', 0)
