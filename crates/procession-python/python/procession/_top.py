"""``python -m procession top [PID]``: what the pools of this user's programs do, of Python and of
Rust. Runs in a process of its own, which reads the pools' shared memory and `/proc`; the pools
notice nothing of it.

::

    python -m procession top              all pools, refreshed in place
    python -m procession top 1234         those of one program
    python -m procession top --once       one look; with --json for programs
    python -m procession top --stacks     with the Python stack of each worker

What is read may be anything: it is shown, and nothing is done by it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time

from . import _engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FOLDER = os.path.dirname(os.path.abspath(__file__))
# Seconds between the two looks that a rate needs, and between two refreshes.
_MOMENT, _INTERVAL = 0.1, 1.0
# The memfd in which a process says for which one on another machine it stands; see `remote._proxy`.
_PLACE_NAME = 'procession-place'
_STATES = {'R': 'runs', 'S': 'sleeps', 'D': 'in the kernel', 'T': 'stopped', 't': 'traced', 'Z': 'ended', 'X': 'ended'}


def main(arguments: list[str]) -> int:
    """Shows what `arguments` ask for, and returns the exit code."""
    parser = argparse.ArgumentParser('python -m procession top', description='shows the pools of running programs')
    parser.add_argument('pid', nargs='?', type=int, help='the program; by default all of this user')
    parser.add_argument('--once', action='store_true', help='look once')
    parser.add_argument('--json', action='store_true', help='print JSON; implies --once')
    parser.add_argument('--stacks', action='store_true', help='the Python stack of each worker, too')
    asked = parser.parse_args(arguments)
    is_once = asked.once or asked.json or not sys.stdout.isatty()
    try:
        before, then = _look(asked.pid), time.monotonic()
        while True:
            time.sleep(_MOMENT if is_once else _INTERVAL)
            pools, now = _look(asked.pid), time.monotonic()
            _add_rates(pools, before, now - then)
            _add_processes(pools, asked.stacks)
            text = json.dumps({'pools': pools}) if asked.json else _table(pools)
            if is_once:
                print(text)
                return 0
            # Home, and what is left of the last look away.
            print(f'\x1b[H{text}'.replace('\n', '\x1b[K\n') + '\x1b[J', flush=True)
            before, then = pools, now
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        print(f'procession top: cannot look at process {asked.pid}: {error.strerror or error}', file=sys.stderr)
        return 1


def _look(pid: int | None) -> list[dict[str, Any]]:
    if pid is not None:
        pools = _engine.observe_pools(pid)
        # Of a worker: that for which it works.
        return _located(pid, [pool for pool in pools if pool['owner'] == _pid_there(pid)] or pools)
    found = []
    for name in os.listdir('/proc'):
        if name.isdigit():
            # Ended since, or another user's.
            with contextlib.suppress(OSError):
                one = int(name)
                pools = _engine.observe_pools(one)
                found += _located(one, [pool for pool in pools if pool['owner'] == _pid_there(one)])
    return found


def _located(pid: int, pools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # One that has ended is there until its program lets go of it. One that begins has no worker
    # yet.
    pools = [pool for pool in pools if any(worker['pid'] for worker in pool['workers']) or not _has_begun(pool)]
    for pool in pools:
        pool['program'] = _command(pid)
    return pools


def _has_begun(pool: dict[str, Any]) -> bool:
    return any(worker['begun'] for worker in pool['workers'])


def _pid_there(pid: int) -> int:
    """Returns a process's pid as it sees it itself, in its container."""
    with open(f'/proc/{pid}/status') as status:
        return next((int(line.split()[-1]) for line in status if line.startswith('NSpid:')), pid)


def _add_rates(pools: list[dict[str, Any]], before: list[dict[str, Any]], seconds: float) -> None:
    begun = {(pool['id'], worker['slot']): worker['begun'] for pool in before for worker in pool['workers']}
    for pool in pools:
        for worker in pool['workers']:
            new = worker['begun'] - begun.get((pool['id'], worker['slot']), worker['begun'])
            worker['rate'] = max(new, 0) / seconds
        pool['rate'] = sum(worker['rate'] for worker in pool['workers'])


def _add_processes(pools: list[dict[str, Any]], with_stacks: bool) -> None:
    workers = [worker for pool in pools for worker in pool['workers']]
    for worker in workers:
        pid = worker['pid']
        worker['state'], worker['memory'], worker['task'] = None, None, None
        worker['host'], worker['pid_there'] = (None, None) if pid is None else _place(pid)
        if worker['host'] is not None:
            # Its work there cannot be seen from here, and its proxy here only waits.
            worker['state'] = 'elsewhere'
        elif pid is not None:
            # It may end meanwhile.
            with contextlib.suppress(OSError):
                worker['state'] = _state(pid)
                worker['memory'] = _resident(pid)
                worker['task'] = None if worker['job'] is None else _task(pid)
    if with_stacks:
        # Only those who ask for stacks have it loaded.
        from ._stacks import ask_for_stacks

        here = [worker['pid'] for worker in workers if worker['host'] is None]
        stacks = ask_for_stacks([pid for pid in here if pid is not None])
        for worker in workers:
            worker['stack'] = stacks.get(worker['pid'])


def _place(pid: int) -> tuple[str | None, int | None]:
    """Returns the machine, and the pid there, of the process for which this one stands, if it
    stands for one: see `remote._proxy`.
    """
    folder = f'/proc/{pid}/fd'
    # It may end meanwhile.
    with contextlib.suppress(OSError, ValueError):
        for fd in os.listdir(folder):
            # So may each of its descriptors.
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(f'{folder}/{fd}').startswith(f'/memfd:{_PLACE_NAME} '):
                    there, _, host = _content(pid, f'fd/{fd}').partition(' ')
                    return host, int(there)
    return None, None


def _state(pid: int) -> str:
    # The name, which stands before, may have any characters.
    letter = _content(pid, 'stat').rpartition(')')[2].split()[0]
    return _STATES.get(letter, letter)


def _resident(pid: int) -> int:
    return int(_content(pid, 'statm').split()[1]) * os.sysconf('SC_PAGE_SIZE')


def _task(pid: int) -> str | None:
    """Returns the function that a Python worker shows as what it runs; see `_titles`."""
    for shown in (_command(pid).removeprefix('procession '), _printable(_content(pid, 'comm').strip())):
        kind, _, function = shown.partition(': ')
        if kind.startswith('worker ') and function:
            return function
    return None


def _command(pid: int) -> str:
    return _printable(_content(pid, 'cmdline').replace('\0', ' ').strip())


def _content(pid: int, name: str) -> str:
    with open(f'/proc/{pid}/{name}', 'rb') as file:
        return file.read(4096).decode(errors='replace')


def _printable(text: str) -> str:
    return ''.join(character if character.isprintable() else '?' for character in text)


def _table(pools: list[dict[str, Any]]) -> str:
    if not pools:
        return 'no pool'
    lines = []
    for pool in pools:
        rate, queued = pool['rate'], pool['queued_chunks']
        lines.append(f'pool of {pool["owner"]} ({pool["program"]:.60}): {queued} chunks queued, {rate:.0f} tasks/s')
        lines.append('  slot      pid  state          item     age   memory     done    /s  unread  task')
        for worker in pool['workers']:
            lines.append(_row(worker))
            if worker.get('stack'):
                lines += [f'         {line}' for line in _own_lines(worker['stack'])]
            elif 'stack' in worker:
                lines.append(f'         no stack: {_why_none(worker)}')
    return '\n'.join(map(_printable, lines))


def _why_none(worker: dict[str, Any]) -> str:
    host = worker['host']
    return 'it offers none, is stopped, or is in the kernel' if host is None else f'it is on {host}'


def _own_lines(stack: str) -> list[str]:
    """Returns the lines of a worker's stacks without those of what called its task."""
    lines, is_callers = [], False
    for line in stack.splitlines():
        is_callers = line.startswith(' ') and (is_callers or (line.endswith(' in _worker') and f'{_FOLDER}/_workers.py' in line))
        if not is_callers:
            lines.append(line)
    return lines


def _row(worker: dict[str, Any]) -> str:
    pid = worker['pid_there'] or worker['pid'] or '-'
    state = worker['state'] or 'no process'
    item = '-' if worker['item'] is None else worker['item']
    age = '-' if worker['age'] is None else f'{worker["age"]:.1f}s'
    memory = '-' if worker['memory'] is None else f'{worker["memory"] >> 20} MiB'
    done = worker['begun'] - (worker['job'] is not None)
    task = worker['task'] or ('' if worker['job'] is None else 'a task')
    if worker['host'] is not None:
        task = f'{task} on {worker["host"]}'.lstrip()
    row = f'{worker["slot"]:>6} {pid:>8}  {state:13} {item:>5} {age:>7} {memory:>8} {done:>8} {worker["rate"]:>5.0f}'
    return f'{row} {worker["unread_bytes"]:>7}  {task}'
