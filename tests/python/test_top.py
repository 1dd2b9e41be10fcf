"""Pools as they are seen from outside, by `python -m procession top`."""

import ctypes
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import procession
import pytest
from waits import FOR_EVER, until


def top(*arguments):
    """Returns the exit code of a look, and what it prints."""
    ended = subprocess.run([sys.executable, '-m', 'procession', 'top', *arguments], capture_output=True, text=True)
    return ended.returncode, ended.stdout + ended.stderr


def look(*arguments):
    """Returns the pools of this process that have workers: none that another test has ended."""
    code, text = top(str(os.getpid()), '--json', *arguments)
    assert code == 0, text
    return [pool for pool in json.loads(text)['pools'] if any(worker['pid'] for worker in pool['workers'])]


def running(workers=1):
    """Waits until so many workers of the one pool run a task, and returns the pool."""
    seen = []

    def runs():
        seen[:] = look()
        return sum(None not in (worker['age'], worker['task']) for pool in seen for worker in pool['workers']) == workers

    until(runs)
    return seen[0]


def hang_in_python(_):
    time.sleep(FOR_EVER)


def hang_in_c(path):
    pathlib.Path(path).touch()
    # Not interrupted: waits for itself to end.
    ctypes.PyDLL(None).pause()


def nap(_):
    time.sleep(0.0005)


@pytest.fixture
def pool(ctx):
    with ctx.Pool(2) as pool:
        yield pool


def test_busy_pool_is_seen_and_goes_on(pool):
    result = pool.map_async(nap, range(20_000), chunksize=200)
    seen = running(2)
    assert seen['owner'] == os.getpid() and seen['queued_chunks'] > 0
    assert [worker['pid'] for worker in seen['workers']] == pool._engine.worker_pids()
    assert all(worker['task'].endswith('nap') and worker['memory'] > 1 << 20 for worker in seen['workers'])
    until(lambda: look()[0]['rate'] > 0)
    assert len(result.get()) == 20_000
    assert look()[0]['queued_chunks'] == 0 and [worker['task'] for worker in look()[0]['workers']] == [None, None]


def test_age_and_item_of_a_task_that_hangs(pool):
    pool.map_async(hang_in_python, range(2), chunksize=1)
    first = running(2)
    assert sorted(worker['item'] for worker in first['workers']) == [0, 1]
    assert all(now['age'] > then['age'] for now, then in zip(running(2)['workers'], first['workers']))


def test_stopped_pool_is_seen(pool):
    pool.map_async(hang_in_python, range(2), chunksize=1)
    running(2)
    pids = pool._engine.worker_pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: [worker['state'] for worker in look()[0]['workers']] == ['stopped'] * 2)
    assert [worker['stack'] for worker in look('--stacks')[0]['workers']] == [None, None]
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def test_replacement_of_a_killed_worker_is_seen(pool):
    pool.map(nap, range(10))
    pids = pool._engine.worker_pids()
    os.kill(pids[0], signal.SIGKILL)
    until(lambda: pids[0] not in pool._engine.worker_pids() and len(pool._engine.worker_pids()) == 2)
    until(lambda: {worker['pid'] for worker in look()[0]['workers']} == set(pool._engine.worker_pids()))


def test_stacks_of_a_worker_that_hangs_in_c(pool, tmp_path):
    # With the interpreter locked, as a library does that forgets to let go of it.
    pool.apply_async(hang_in_c, (str(tmp_path / 'begun'),))
    until(lambda: (tmp_path / 'begun').exists())
    stacks = [worker['stack'] for worker in look('--stacks')[0]['workers']]
    assert sum('in hang_in_c' in stack for stack in stacks) == 1
    code, text = top(str(os.getpid()), '--stacks')
    assert code == 0 and 'Current thread' in text
    assert '/_workers.py"' not in text and '/pool.py"' not in text
    assert pool.apply(abs, (-1,)) == 1


def test_pool_without_a_task_and_program_without_a_pool(pool):
    until(look)
    assert [worker['item'] for worker in look()[0]['workers']] == [None, None]
    process = subprocess.Popen(['sleep', str(FOR_EVER)])
    assert top(str(process.pid)) == (0, 'no pool\n')
    process.kill()
    process.wait()


def test_look_from_a_worker_is_at_its_pool(pool):
    pid = pool.apply(os.getpid)
    code, text = top(str(pid), '--json')
    assert code == 0 and [seen['owner'] for seen in json.loads(text)['pools']] == [os.getpid()]


def test_missing_process_is_said():
    code, text = top('999999999')
    assert code == 1 and text.startswith('procession top: cannot look at process 999999999: No such file or directory')


def test_memory_that_only_has_the_name_of_a_pools_is_passed_over():
    fd = os.memfd_create('procession-pool')
    os.write(fd, os.urandom(1 << 20))
    assert look() == []
    os.close(fd)


def test_signal_is_sent_to_no_process_that_would_end_of_it():
    from procession._stacks import ask_for_stacks

    process = subprocess.Popen(['sleep', str(FOR_EVER)])
    assert ask_for_stacks([process.pid, 999999999]) == {process.pid: None, 999999999: None}
    assert process.poll() is None
    process.kill()
    process.wait()


def test_programs_of_this_user_are_found(pool):
    code, text = top('--json')
    assert code == 0 and os.getpid() in [seen['owner'] for seen in json.loads(text)['pools']]
    assert procession.current_worker() is None
