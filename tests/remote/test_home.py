"""The prints and records of children elsewhere, and the place where an onlooker finds them."""

import json
import logging
import socket
import subprocess
import sys
import time

import launch
import procession
import pytest
import tasks

HOST = socket.gethostname()


def test_lines_of_children_come_home_with_their_host(ctx):
    lines = []
    with ctx.Pool(2, tasks.say, ('begun',), output=lines.append) as pool:
        pool.map(tasks.say, range(20), chunksize=1)
        pids = {pool.apply(tasks.pid) for _ in range(20)}
        pool.close()
        pool.join()
    assert sorted(line.text for line in lines if line.stream == 'stdout') == sorted([*map(str, range(20)), 'begun', 'begun'])
    assert sorted(line.text for line in lines if line.stream == 'stderr') == sorted(
        [*(f'{x} failed' for x in range(20)), 'begun failed', 'begun failed']
    )
    assert {line.host for line in lines} == {HOST}
    assert {line.worker for line in lines} <= {0, 1}
    assert pids <= {line.pid for line in lines}


def test_lines_are_printed_behind_slot_and_host(tmp_path, ctx):
    program = launch.launch(tasks.HERE / 'printer.py', slots=2, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    output, errors = program.communicate(timeout=60)
    assert program.returncode == 0, errors
    assert f'[worker 0] {HOST}: one\n[worker 0] {HOST}: two\n' in output
    assert f'[quiet one] {HOST}: three\n' in output


def test_lines_of_a_process_come_home_also_what_stands_behind_the_last_newline(ctx):
    lines = []
    process = ctx.Process(target=tasks.say_without_end, args=('no end',), output=lines.append)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert [(line.text, line.is_whole, line.host) for line in lines] == [('no end', False, HOST)]


def test_lines_that_were_printed_before_a_kill_have_come(ctx):
    lines = []
    process = ctx.Process(target=tasks.say_and_kill_self, args=(1000,), output=lines.append)
    process.start()
    process.join()
    assert process.exitcode == -9
    assert [line.text for line in lines] == list(map(str, range(1000)))


def test_more_lines_than_anybody_keeps_come_all(ctx):
    lines = []
    with ctx.Pool(1, output=lines.append) as pool:
        pool.apply(tasks.say_much, (3000, 1000))
        pool.close()
        pool.join()
    assert len(lines) == 3000 and {len(line.text) for line in lines} == {1000}


def test_null_drops_what_children_print(ctx):
    with ctx.Pool(1, output='null') as pool:
        assert pool.apply(tasks.say, ('nothing',)) is None


def test_records_of_children_go_through_the_programs_handlers_with_their_host(ctx):
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger('scale.test')
    logger.addHandler(handler)
    try:
        with ctx.Pool(2, logs=logging.INFO) as pool:
            pids = set(pool.map(tasks.log, range(20), chunksize=1))
            pool.close()
            pool.join()
        process = ctx.Process(target=tasks.log, args=('alone',), logs=logging.INFO, name='one')
        process.start()
        process.join()
    finally:
        logger.removeHandler(handler)
    *pooled, alone = records
    assert sorted(record.getMessage() for record in pooled) == sorted(f'at {x}' for x in range(20))
    assert {record.host for record in records} == {HOST}
    assert {record.worker for record in pooled} <= {0, 1}
    assert {record.process for record in pooled} == pids
    assert (alone.getMessage(), alone.worker, alone.processName) == ('at alone', None, 'one')


def test_insights_name_the_hosts(ctx):
    with ctx.Pool(2, insights=True) as pool:
        pool.map(tasks.sleep, [0.1] * 6, chunksize=3)
        insights = pool.insights()
        assert [worker.host for worker in insights.workers] == [HOST, HOST]
        assert sum(worker.tasks for worker in insights.workers) == 6
        assert insights.total.working >= 0.6
        assert 'the round trip of 3 calls on another machine' in str(insights)
        assert f'{HOST}: worker 0, 1' in str(insights)


def test_top_shows_the_host_and_the_pid_there(ctx, tmp_path):
    with ctx.Pool(1) as pool:
        path = tmp_path / 'pid'
        pool.apply_async(tasks.touch_and_sleep, (str(path),))
        deadline = time.monotonic() + 60
        while not (path.exists() and path.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child = int(path.read_text())
        (worker,) = [worker for pool in _top('--json')['pools'] for worker in pool['workers'] if worker['pid_there'] == child]
        assert worker['host'] == HOST and worker['state'] == 'elsewhere' and worker['item'] == 0
        table = _top('--once', '--stacks')
        (row,) = [line for line in table.splitlines() if f' {child} ' in line]
        assert row.endswith(f'a task on {HOST}')
        assert f'no stack: it is on {HOST}' in table


def test_what_a_task_has_started_ends_with_its_group(ctx, tmp_path):
    with ctx.Pool(1, process_group=True) as pool:
        started = pool.apply(tasks.start_sleeper)
        assert tasks.is_alive(started)
        with pytest.raises(procession.WorkerLost):
            pool.apply(tasks.kill_self, (9,))
        deadline = time.monotonic() + 60
        while tasks.is_alive(started):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def _top(*arguments):
    found = subprocess.run(
        [sys.executable, '-m', 'procession', 'top', *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(found.stdout) if '--json' in arguments else found.stdout
