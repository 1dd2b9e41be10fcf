"""The package's exceptions. They are raised in any process, and go from one to another in pickles.

Each keeps the name that its users know, and that pickles and tracebacks give: that of the module in
which programs find it.
"""

import signal

from ._standard import standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.context import (
        AuthenticationError as AuthenticationError,
        BufferTooShort as BufferTooShort,
        ProcessError as ProcessError,
        TimeoutError as TimeoutError,
    )
    from typing import Any
else:
    _standard = standard('context')
    AuthenticationError = _standard.AuthenticationError
    BufferTooShort = _standard.BufferTooShort
    ProcessError = _standard.ProcessError
    TimeoutError = _standard.TimeoutError


class ProcessLost(ProcessError):
    """A process ended without a result: it was killed, or left by `sys.exit` or `os._exit`.

    `pid` is its process id, `exitcode` its exit code; a negative one is the signal that killed it.
    """

    __module__ = 'procession.context'

    def __init__(self, message: str, pid: 'int | None' = None, exitcode: 'int | None' = None) -> None:
        super().__init__(message)
        self.pid = pid
        self.exitcode = exitcode

    def __reduce__(self) -> 'tuple[Any, ...]':
        return type(self), (*self.args, self.pid, self.exitcode)


class WorkerLost(ProcessError):
    """A pool's worker ended while it ran the task: it was killed, it crashed, or the task ended it.

    `pid` is the worker's, `exitcode` its exit code (negative: the signal that killed it; `None`:
    unknown), `function` the name of the task's function, `by_oom_killer` whether the kernel killed
    it for want of memory (`None`: that cannot be known). `host` is the name of the machine that it
    ran on, `None` if it was this one.
    """

    __module__ = 'procession.context'

    host: 'str | None' = None

    def __init__(self, pid: int, exitcode: 'int | None', function: str, by_oom_killer: 'bool | None' = None) -> None:
        super().__init__(pid, exitcode, function, by_oom_killer)
        self.pid = pid
        self.exitcode = exitcode
        self.function = function
        self.by_oom_killer = by_oom_killer

    def __str__(self) -> str:
        text = f'worker process {self.pid}{self._where} {how_ended(self.exitcode)} while it ran {self.function}'
        if self.by_oom_killer:
            text += "; the kernel's OOM killer did it: use fewer workers, or tasks that need less memory"
        return text

    @property
    def _where(self) -> str:
        return '' if self.host is None else f' on {self.host}'


class TaskTimeoutError(TimeoutError, WorkerLost):
    """A task ran longer than its `timeout`, and its worker was ended and replaced."""

    __module__ = 'procession.context'

    def __str__(self) -> str:
        return f'{self.function} ran longer than its timeout, and its worker, process {self.pid}{self._where}, was ended'


class MemoryLimitError(WorkerLost):
    """A task took more memory than the `memory_limit` of its pool, which ended its worker.

    `limit` is in bytes.
    """

    __module__ = 'procession.context'

    def __init__(self, pid: int, exitcode: 'int | None', function: str, limit: int) -> None:
        super().__init__(pid, exitcode, function)
        self.args = (pid, exitcode, function, limit)
        self.limit = limit

    def __str__(self) -> str:
        return (
            f'{self.function} took more than the memory limit of {self.limit} bytes, and its worker, process {self.pid}{self._where}, was ended: '
            'raise memory_limit, or give it less at once'
        )


class CancelledError(ProcessError):
    """The call was cancelled before its result was there."""

    __module__ = 'procession.context'


class BrokenPoolError(ProcessError):
    """No worker of a pool could be kept, or its shared memory was overwritten; `__cause__` says
    why.
    """

    __module__ = 'procession.context'


class NotRemote(ProcessError):
    """A thing that exists on one machine only was to be used by a process on another; the message
    says what to use instead.
    """

    __module__ = 'procession.context'


# Of the local processes that stand for one on another machine, by pid: its machine and its pid.
_places: 'dict[int, tuple[str, int]]' = {}
_MAX_PLACES = 4096


def note_place(pid: int, host: str, remote_pid: int) -> None:
    """Notes that the local process `pid` stands for a process on another machine."""
    while len(_places) >= _MAX_PLACES:
        _places.pop(next(iter(_places)), None)
    _places[pid] = host, remote_pid


def place_of(pid: 'int | None') -> 'tuple[str, int] | None':
    """Returns the machine, and the pid there, of the process for which the local process `pid`
    stands; `None`: it stands for none.
    """
    return None if pid is None else _places.get(pid)


def forget_place(pid: 'int | None') -> None:
    """Notes that a local process of this pid stands for no other."""
    if pid is not None:
        _places.pop(pid, None)


def lost(name: str, pid: int, *args: object) -> 'WorkerLost':
    """Returns the exception of this name for a worker, which may be on another machine."""
    host, pid = _places.get(pid, (None, pid))
    error: WorkerLost = globals()[name](pid, *args)
    if host is not None:
        error.host = host
    return error


def how_ended(exitcode: 'int | None') -> str:
    """Returns how a process ended that has this `exitcode`, for messages."""
    if exitcode is None:
        return 'ended (its exit code is unknown)'
    if exitcode >= 0:
        return f'exited with code {exitcode}'
    try:
        return f'was killed by {signal.Signals(-exitcode).name}'
    except ValueError:
        return f'was killed by signal {-exitcode}'


class OwnerDiedError(RuntimeError):
    """The process that had a lock ended without releasing it. The lock is free; what it guards may
    be half-changed.

    `pid` is that process's. Raised once, by the call that acquires next, which then has not
    acquired::

        try:
            lock.acquire()
        except OwnerDiedError:
            make_whole()
            lock.acquire()
    """

    __module__ = 'procession.synchronize'

    def __init__(self, message: str = 'the owner of a lock died', pid: 'int | None' = None) -> None:
        super().__init__(message, pid)
        self.pid = pid

    def __str__(self) -> str:
        return str(self.args[0])
