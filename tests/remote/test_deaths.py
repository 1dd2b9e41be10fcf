"""Deaths of agents, of machines and of the program."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import launch
import procession
import pytest
import tasks

HERE = pathlib.Path(__file__).parent


@pytest.mark.skipif(launch.NAME == 'mpi', reason='a rank that dies ends its whole job')
def test_a_killed_agent_costs_its_task_or_nothing_if_asked(ctx):
    with ctx.Pool(2) as pool:
        agent = pool.apply(tasks.parent_pid)
        results = pool.map_async(_slow_square, range(40), chunksize=1, retries=2)
        time.sleep(0.5)
        os.kill(agent, signal.SIGKILL)
        assert results.get(90) == [x * x for x in range(40)]
        with pytest.raises(procession.WorkerLost) as caught:
            pool.apply(_kill_parent)
        assert caught.value.host
        assert pool.map(tasks.square, range(10)) == [x * x for x in range(10)]


@pytest.mark.skipif(launch.NAME != 'mpi', reason='other clusters replace what has died')
def test_a_killed_rank_ends_the_job(tmp_path):
    job = launch.launch(HERE / 'driver.py', tmp_path, '60', slots=3, stderr=subprocess.DEVNULL)
    pids = _pids(tmp_path)
    os.kill(pids[0][1], signal.SIGKILL)
    assert job.wait(60) != 0
    _wait_until_gone(pid for pair in pids for pid in pair)


def test_a_killed_program_leaves_nothing_running(tmp_path, ctx):
    program = launch.launch(HERE / 'driver.py', tmp_path, '60', slots=3, stderr=subprocess.DEVNULL)
    pids = _pids(tmp_path)
    os.kill(int((tmp_path / 'driver').read_text()), signal.SIGKILL)
    program.wait(60)
    # Dask's agents are in its own workers, which go on.
    gone = [child for child, _ in pids] if launch.NAME == 'dask' else [pid for pair in pids for pid in pair]
    _wait_until_gone(gone)


def test_a_program_that_is_killed_as_its_process_begins_leaves_nothing_running(tmp_path, ctx):
    program = launch.launch(HERE / 'killed.py', tmp_path / 'pids', slots=1, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / 'pids').exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    program.wait(60)
    child, agent = map(int, (tmp_path / 'pids').read_text().split())
    _wait_until_gone([child] if launch.NAME == 'dask' else [child, agent])


@pytest.mark.long
def test_a_program_that_ends_leaves_nothing_running(tmp_path, ctx):
    program = launch.launch(HERE / 'driver.py', tmp_path, '0.5', slots=3, stderr=subprocess.PIPE, text=True)
    pids = _pids(tmp_path)
    # The process is no daemon, so the program waits for it.
    os.kill(pids[2][0], signal.SIGKILL)
    _, errors = program.communicate(timeout=60)
    assert program.returncode == 0, errors
    _wait_until_gone(child for child, _ in pids)


def test_a_program_waits_at_its_end_for_processes_that_are_no_daemons(tmp_path, ctx):
    program = launch.launch(HERE / 'leaver.py', tmp_path / 'done', slots=1, stderr=subprocess.PIPE, text=True)
    _, errors = program.communicate(timeout=60)
    assert program.returncode == 0, errors
    assert (tmp_path / 'done').read_text() == 'done'


@pytest.mark.long
def test_the_standard_librarys_pool_tests_pass(ctx):
    pytest.importorskip('test._test_multiprocessing')
    import json

    program = launch.launch(HERE / 'stdlib_pools.py', stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    output, errors = program.communicate(timeout=90)
    outcome = json.loads(output.splitlines()[-1])
    assert outcome['context'] == launch.NAME, errors
    # Of 27; what those of other versions do not pass is said.
    assert len(outcome['passed']) >= len(outcome['passed'] + list(outcome['failed'])) - 1, outcome['failed']
    assert len(outcome['passed']) >= 26, outcome['failed']


def test_the_package_imports_no_clusters_library():
    code = (
        'import sys, procession, procession.pool, procession.remote; procession.get_context(); '
        'print({"ray", "distributed", "dask", "mpi4py"} & set(sys.modules))'
    )
    found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == 'set()'


def test_a_context_that_does_not_exist_is_named(ctx):
    environment = {**os.environ, 'PROCESSION_CONTEXT': 'rya'}
    found = subprocess.run(
        [sys.executable, '-c', 'import procession; procession.Pool(1)'], env=environment, capture_output=True, text=True
    )
    assert found.returncode == 1
    assert "PROCESSION_CONTEXT is 'rya', and must be one of" in found.stderr


def _slow_square(x):
    time.sleep(0.05)
    return x * x


def _kill_parent():
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def _pids(folder):
    deadline = time.monotonic() + 60
    paths = [folder / name for name in ('0', '1', '2', 'driver')]
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [tuple(map(int, path.read_text().split())) for path in paths[:3]]


def _wait_until_gone(pids):
    deadline = time.monotonic() + 30
    pids = list(pids)
    while left := [pid for pid in pids if tasks.is_alive(pid)]:
        assert time.monotonic() < deadline, f'still running: {left}'
        time.sleep(0.05)
