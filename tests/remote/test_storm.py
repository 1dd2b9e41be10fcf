"""Random deaths while tasks run: of children, of the proxies here, of agents, and of whole machines
of Ray and Dask. Nothing is lost with retries, nothing hangs, and nothing is left. The seconds are
in `PROCESSION_STORM_SECONDS`, and the seed may be given in `PROCESSION_STORM_SEED`.
"""

import collections
import contextlib
import itertools
import os
import pathlib
import random
import signal
import time

import launch
import pytest
import tasks

SECONDS = float(os.environ.get('PROCESSION_STORM_SECONDS', 20))
# A rank that dies ends its job.
HAS_MACHINES = launch.NAME != 'mpi'
# Seconds in which the next result must come, whatever has died.
PATIENCE = 90


def work(x):
    time.sleep(0.01)
    return x, os.getpid(), os.getppid()


@pytest.mark.long
@pytest.mark.limit(SECONDS + 2 * PATIENCE)
def test_a_storm_of_deaths_loses_nothing_with_retries(ctx):
    seed = int(os.environ.get('PROCESSION_STORM_SEED', random.randrange(1 << 32)))
    print(f'seed {seed}')
    chance = random.Random(seed)
    before = _processes_of_the_package()
    deaths = dict.fromkeys(('child', 'proxy', 'agent', 'machine'), 0)
    with _machine() as machine, ctx.Pool(3) as pool:
        end = time.monotonic() + SECONDS
        sent = itertools.takewhile(lambda _: time.monotonic() < end, itertools.count())
        results = pool.imap_unordered(work, sent, chunksize=1, retries=50)
        # Of the last results: who is likely to live.
        latest = collections.deque(maxlen=12)
        done = []
        next_death = time.monotonic() + 1
        with contextlib.suppress(StopIteration):
            while True:
                x, child, agent = results.next(PATIENCE)
                done.append(x)
                latest.append((child, agent))
                if next_death < time.monotonic() < end:
                    next_death = time.monotonic() + chance.uniform(0.05, 0.8)
                    kind = _choose(chance)
                    deaths[kind] += 1
                    if kind == 'machine':
                        machine.replace()
                    elif kind == 'proxy':
                        _kill(chance.choice([process.pid for process in pool._pool if process.is_alive()] or [child]))
                    else:
                        _kill(chance.choice(latest)[kind == 'agent'])
        assert sorted(done) == list(range(len(done))), f'seed {seed}'
        assert all(deaths[kind] for kind in ('child', 'proxy')), deaths
        assert pool.map(tasks.square, range(50)) == [x * x for x in range(50)], f'seed {seed}'
    print(f'{len(done)} tasks, deaths: {deaths}')
    # Agents of Ray's that are gone end their children, and a machine that is lost may take a while.
    deadline = time.monotonic() + PATIENCE
    while left := _processes_of_the_package() - before:
        assert time.monotonic() < deadline, f'seed {seed}: still running: {left}'
        time.sleep(0.1)


def _choose(chance):
    if not HAS_MACHINES:
        return chance.choices(('child', 'proxy'), (3, 1))[0]
    return chance.choices(('child', 'proxy', 'agent', 'machine'), (12, 4, 3, 1))[0]


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        # It was killed before.
        return


@contextlib.contextmanager
def _machine():
    """Adds a machine to the cluster, if it can have another; returns it."""
    if not HAS_MACHINES:
        yield None
        return
    machine = _Machine()
    try:
        yield machine
    finally:
        machine.kill()


class _Machine:
    """The processes of Ray or Dask on one more machine: they are the descendants of one command."""

    def __init__(self):
        self._command = launch.start_machine()

    def replace(self):
        """Kills all of them at once, and starts others."""
        self.kill()
        self._command = launch.start_machine()

    def kill(self):
        """Kills all of them at once."""
        pids = [self._command.pid, *_descendants(self._command.pid)]
        for pid in pids:
            _kill(pid)
        self._command.wait()


def _descendants(pid):
    children = {}
    for folder in pathlib.Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            parent = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found, open_ones = [], [pid]
    while open_ones:
        there = children.get(open_ones.pop(), [])
        found += there
        open_ones += there
    return found


def _processes_of_the_package():
    """Returns the pids of all proxies and children in this namespace."""
    found = set()
    for folder in pathlib.Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            if b'procession.spawn' in (folder / 'cmdline').read_bytes() and tasks.is_alive(int(folder.name)):
                found.add(int(folder.name))
    return found
