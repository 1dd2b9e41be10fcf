"""A Rust program's pool as `python -m procession top` shows it.

The program is an example of the crate. `cargo test -p procession` builds it; without it, or if it
is older than what it is made of, the tests are skipped.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest
from waits import until

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = pathlib.Path(os.environ.get('CARGO_TARGET_DIR', ROOT / 'target')) / 'debug' / 'examples' / 'watched'
# The layout of what is looked at.
SOURCES = [ROOT / 'crates' / 'procession-shm' / 'src' / name for name in ('control.rs', 'running.rs', 'lease.rs')]


def top(*arguments):
    """Returns what a look at a program prints."""
    return subprocess.check_output([sys.executable, '-m', 'procession', 'top', '--once', *arguments], text=True)


def look(program, *arguments):
    """Returns the one pool of the program; `None` before it is there."""
    pools = json.loads(top(str(program.pid), '--json', *arguments))['pools']
    assert len(pools) < 2
    return pools[0] if pools else None


def children_of(pid):
    """Returns the pids of those that a process has started, and of those which these have."""
    found = []
    # A process or a thread may end meanwhile.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in pathlib.Path(f'/proc/{pid}/task').iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for child in map(int, (thread / 'children').read_text().split()):
                    found += [child, *children_of(child)]
    return found


@pytest.fixture
def program(method):
    """Runs the program by each start method."""
    if not PROGRAM.exists():
        pytest.skip(f'there is no {PROGRAM}: run cargo test -p procession')
    if any(PROGRAM.stat().st_mtime < source.stat().st_mtime for source in SOURCES):
        pytest.skip(f'{PROGRAM} is older than its sources: run cargo test -p procession')
    with subprocess.Popen([PROGRAM, method], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == f'python -m procession top {program.pid}\n'
        yield program
        program.stdin.close()
        assert program.stdout.readline().startswith('it has run ')
        assert program.wait() == 0


def test_busy_pool_of_a_rust_program_is_seen(program):
    seen = []

    def hangs_and_works():
        seen[:] = [look(program)]
        ages = [worker['age'] for worker in seen[0]['workers']] if seen[0] else []
        return len(ages) == 3 and None not in ages and seen[0]['rate'] > 0 and max(ages) > 0.3

    until(hangs_and_works)
    (pool,) = seen
    assert pool['owner'] == program.pid and pool['queued_chunks'] > 0
    assert pool['program'].split()[0] == str(PROGRAM)
    workers = pool['workers']
    assert [worker['slot'] for worker in workers] == [0, 1, 2]
    assert {worker['pid'] for worker in workers} <= set(children_of(program.pid))
    assert all(worker['memory'] > 1 << 16 and worker['state'] in ('runs', 'sleeps', 'in the kernel') for worker in workers)
    oldest = max(workers, key=lambda worker: worker['age'])
    assert oldest['item'] == 0 and oldest['rate'] == 0
    lines = top(str(program.pid)).splitlines()
    assert lines[0].startswith(f'pool of {program.pid} ({str(PROGRAM):.40}') and len(lines) == 5
    assert all(line.endswith('a task') for line in lines[2:] if ' - ' not in line)
    # A look at a worker is one at its pool.
    assert json.loads(top(str(workers[0]['pid']), '--json'))['pools'][0]['owner'] == program.pid


def test_replacement_of_a_killed_worker_of_a_rust_program_is_seen(program):
    def pids():
        pool = look(program)
        return {worker['pid'] for worker in pool['workers']} if pool else set()

    until(lambda: len(pids() - {None}) == 3)
    before = pids()
    killed = before.pop()
    os.kill(killed, signal.SIGKILL)
    # Under fork it is replaced when a thread of the program comes by, which reads its input here.
    until(lambda: killed not in pids() and before <= pids())


def test_stopped_rust_program_is_seen(program):
    until(lambda: look(program) and None not in [worker['pid'] for worker in look(program)['workers']])
    pids = [worker['pid'] for worker in look(program, '--stacks')['workers']]
    for pid in [program.pid, *pids]:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: [worker['state'] for worker in look(program)['workers']] == ['stopped'] * 3)
    pool = look(program, '--stacks')
    assert [worker['stack'] for worker in pool['workers']] == [None] * 3, 'Rust workers offer none'
    assert 'no stack: it offers none' in top(str(program.pid), '--stacks')
    for pid in [program.pid, *pids]:
        os.kill(pid, signal.SIGCONT)
    # Asked for stacks, and stopped, none of them has ended.
    assert set(pids) <= set(children_of(program.pid))
