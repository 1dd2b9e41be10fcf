"""The stacks of a worker, for its user from outside. A worker offers them: at a signal
`faulthandler` writes the stack of each thread into a memfd, also while the worker hangs in C. The
onlooker, a process of the same user, asks and reads.
"""

from __future__ import annotations

import _signal
import contextlib
import faulthandler
import os
import time

from ._engine import Child, create_memfd

# None of those that programs and their libraries use.
_SIGNAL = _signal.SIGRTMIN + 13
_NAME = 'procession-stacks'
# Bytes after which an onlooker empties the memfd, and the most that it reads.
_MAX_KEPT = 1 << 18
# Seconds that an answer may take, and between two looks at it.
_PATIENCE, _PAUSE = 0.3, 0.01


def offer() -> None:
    """Worker: has its stacks written at the signal, unless the program uses that itself."""
    if _signal.getsignal(_SIGNAL) == _signal.SIG_DFL:
        faulthandler.register(_SIGNAL, create_memfd(_NAME))


def ask_for_stacks(pids: list[int]) -> dict[int, str | None]:
    """Returns the stacks of these processes; `None` of one that does not offer any, or does not
    answer in time: it is stopped, or in the kernel.
    """
    asked = {pid: _ask(pid) for pid in pids}
    waiting = [question for question in asked.values() if question is not None]
    end = time.monotonic() + _PATIENCE
    while waiting and time.monotonic() < end:
        time.sleep(_PAUSE)
        waiting = [question for question in waiting if not question.is_answered()]
    return {pid: None if question is None else question.answer() for pid, question in asked.items()}


class _Question:
    """A worker that was asked for its stacks: the memfd that it writes to, the size of this before,
    and the threads that do not hear the signal.
    """

    def __init__(self, pid: int, path: str, before: int, deaf: set[str]) -> None:
        self._pid, self._path, self._before, self._deaf = pid, path, before, deaf

    def is_answered(self) -> bool:
        """Returns whether the answer is whole. The thread that writes it has the signal blocked
        until it has written all.
        """
        return _size(self._path) > self._before and _threads_without_signal(self._pid) <= self._deaf

    def answer(self) -> str | None:
        """Returns what has been written; `None` if that is nothing."""
        try:
            with open(self._path, 'rb') as file:
                file.seek(self._before)
                return file.read(_MAX_KEPT).decode(errors='replace') or None
        except OSError:
            # It has ended.
            return None


def _ask(pid: int) -> _Question | None:
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
        question = _Question(pid, path, before, _threads_without_signal(pid))
        process.signal(_SIGNAL)
        return question
    except OSError:
        # It has ended, or another user has it.
        return None


def _handles(pid: int) -> bool:
    return _is_among(f'/proc/{pid}/status', 'SigCgt:')


def _threads_without_signal(pid: int) -> set[str]:
    """Returns the threads of the process that have the signal blocked."""
    folder, found = f'/proc/{pid}/task', set()
    # They may end meanwhile.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if _is_among(f'{folder}/{thread}/status', 'SigBlk:'):
                    found.add(thread)
    return found


def _is_among(path: str, kind: str) -> bool:
    """Returns whether the signal is among those of this kind in a file of the kernel's."""
    with open(path) as status:
        signals = next((line.split()[1] for line in status if line.startswith(kind)), '0')
    return bool(int(signals, 16) >> (_SIGNAL - 1) & 1)


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
