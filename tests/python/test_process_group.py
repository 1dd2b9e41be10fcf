"""Workers and processes that lead process groups: what they start ends with them."""

import os
import signal
import subprocess
import sys

import procession
import pytest
from processes import all_end, has_ended, started
from procession.futures import ProcessPoolExecutor
from waits import until


def group_and_sleeper():
    return os.getpgrp() == os.getpid(), subprocess.Popen(['sleep', '1000']).pid


def start_and_hang(queue):
    queue.put(subprocess.Popen(['sleep', '1000']).pid)
    signal.pause()


def start_and_watch_parent(queue):
    procession.parent_process().is_alive()
    start_and_hang(queue)


def start_and_return(queue):
    queue.put(subprocess.Popen(['sleep', '1000']).pid)


def test_programs_of_a_worker_end_with_its_pool(ctx, nothing_left):
    with ctx.Pool(2, process_group=True) as pool:
        leads, sleeper = pool.apply(group_and_sleeper)
        assert leads and not has_ended(sleeper)
    assert all_end([sleeper])


def test_programs_of_a_killed_worker_end_with_it(ctx):
    with ctx.Pool(1, process_group=True) as pool:
        _, sleeper = pool.apply(group_and_sleeper)
        os.kill(pool._engine.worker_pids()[0], signal.SIGKILL)
        assert all_end([sleeper])
        leads, again = pool.apply(group_and_sleeper)
        assert leads and not has_ended(again)
    assert all_end([again])


def test_programs_of_a_replaced_worker_end_with_it(ctx):
    with ctx.Pool(1, maxtasksperchild=1, process_group=True) as pool:
        sleepers = [pool.apply(group_and_sleeper)[1] for _ in range(3)]
        assert all_end(sleepers[:2])


def test_programs_of_a_task_that_runs_out_of_time_end_with_it(ctx):
    with ctx.Pool(1, process_group=True) as pool:
        # By a task without a limit: in its time it may not get so far.
        _, sleeper = pool.apply(group_and_sleeper)
        with pytest.raises(procession.TaskTimeoutError):
            pool.apply(signal.pause, timeout=0.2)
        assert all_end([sleeper])


def test_programs_of_a_process_end_with_it(ctx, nothing_left):
    queue = ctx.SimpleQueue()
    for act, ends in ((start_and_return, None), (start_and_hang, 'terminate'), (start_and_hang, 'kill')):
        process = started(ctx, act, queue, process_group=True)
        sleeper = queue.get()
        if ends is not None:
            assert not has_ended(sleeper)
            getattr(process, ends)()
        process.join()
        assert all_end([sleeper])
    queue.close()


def test_programs_of_an_executors_workers_end_with_it(ctx):
    with ProcessPoolExecutor(1, ctx, process_group=True) as executor:
        leads, sleeper = executor.submit(group_and_sleeper).result()
        assert leads
    assert all_end([sleeper])


PARENT = """
import os, sys, signal
sys.path[:0] = [{folder!r}]
import procession, test_process_group as tests

if __name__ == '__main__':
    ctx = procession.get_context(sys.argv[1])
    queue = ctx.SimpleQueue()
    pool = ctx.Pool(1, process_group=True)
    process = ctx.Process(target=tests.start_and_hang, args=(queue,), process_group=True)
    process.start()
    watching = ctx.Process(target=tests.start_and_watch_parent, args=(queue,), process_group=True)
    watching.start()
    print(pool.apply(tests.group_and_sleeper)[1], queue.get(), queue.get(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_programs_end_with_a_killed_parent(method, tmp_path):
    path = tmp_path / 'parent.py'
    path.write_text(PARENT.format(folder=os.path.dirname(__file__)))
    ran = subprocess.run([sys.executable, str(path), method], stdout=subprocess.PIPE, text=True, timeout=60)
    sleepers = [int(pid) for pid in ran.stdout.split()]
    assert len(sleepers) == 3 and all_end(sleepers)


def test_process_without_the_keyword_leads_no_group(ctx):
    with ctx.Pool(1) as pool:
        leads, sleeper = pool.apply(group_and_sleeper)
    assert not leads and not has_ended(sleeper)
    os.kill(sleeper, signal.SIGKILL)
    until(lambda: has_ended(sleeper))


def test_other_values_than_true_and_false_are_refused():
    ctx = procession.get_context('spawn')
    for make in (lambda: ctx.Pool(1, process_group=1), lambda: ctx.Process(target=print, process_group='own')):
        with pytest.raises(TypeError, match='process_group must be true or false, not'):
            make()
