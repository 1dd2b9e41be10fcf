"""The stacks of a worker, for its user from outside. A worker offers them: at a signal
`faulthandler` writes the stack of each thread into a memfd, also while the worker hangs in C. The
onlooker, a process of the same user, asks and reads.
"""

from __future__ import annotations

import _signal
import faulthandler
import os
import time

from ._engine import Child, create_memfd

# None of those that programs and their libraries use.
_SIGNAL = _signal.SIGRTMIN + 13
_NAME = 'procession-stacks'
# Bytes after which an onlooker empties the memfd, and the most that it reads.
_MAX_KEPT = 1 << 18
# Seconds that an answer may take, and without a further byte before it counts as whole.
_PATIENCE, _PAUSE = 0.2, 0.02


def offer() -> None:
    """Worker: has its stacks written at the signal, unless the program uses that itself."""
    if _signal.getsignal(_SIGNAL) == _signal.SIG_DFL:
        faulthandler.register(_SIGNAL, create_memfd(_NAME))


def ask_for_stacks(pids: list[int]) -> dict[int, str | None]:
    """Returns the stacks of these processes; `None` of one that does not offer any, or does not
    answer in time: it is stopped, or in the kernel.
    """
    asked = {pid: _ask(pid) for pid in pids}
    found: dict[int, str | None] = dict.fromkeys(pids)
    sizes, end = dict.fromkeys(pids, -1), time.monotonic() + _PATIENCE
    waiting = {pid for pid, place in asked.items() if place is not None}
    while waiting and time.monotonic() < end:
        time.sleep(_PAUSE)
        for pid in list(waiting):
            path, before = asked[pid]  # type: ignore[misc]
            size = _size(path)
            if size > before and size == sizes[pid]:
                found[pid] = _read(path, before)
                waiting.discard(pid)
            sizes[pid] = size
    return found


def _ask(pid: int) -> tuple[str, int] | None:
    """Sends the signal to a process that handles it, and to no other: it would end of it."""
    try:
        # From here on the signal reaches this process or none.
        process = Child.of_others(pid, '', False)
        path = _place(pid)
        if path is None or not _handles(pid):
            return None
        before = _size(path)
        if before > _MAX_KEPT:
            # Its memory goes back; the worker writes on where it was.
            os.truncate(path, 0)
        process.signal(_SIGNAL)
        return path, before
    except OSError:
        # It has ended, or another user has it.
        return None


def _handles(pid: int) -> bool:
    with open(f'/proc/{pid}/status') as status:
        caught = next((line.split()[1] for line in status if line.startswith('SigCgt:')), '0')
    return bool(int(caught, 16) >> (_SIGNAL - 1) & 1)


def _place(pid: int) -> str | None:
    folder = f'/proc/{pid}/fd'
    for name in os.listdir(folder):
        try:
            target = os.readlink(f'{folder}/{name}')
        except FileNotFoundError:
            continue  # closed since
        if target.startswith(f'/memfd:{_NAME}'):
            return f'{folder}/{name}'
    return None


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        # It has ended.
        return -1


def _read(path: str, start: int) -> str | None:
    try:
        with open(path, 'rb') as file:
            file.seek(start)
            return file.read(_MAX_KEPT).decode(errors='replace')
    except OSError:
        return None
