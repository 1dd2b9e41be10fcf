"""The package's exceptions. They are raised in any process, and go from one to another in pickles.

Each keeps the name that its users know, and that pickles and tracebacks give: that of the module in
which programs find it.
"""

import signal

from ._standard import standard

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

    def __init__(self, message, pid=None, exitcode=None):
        super().__init__(message)
        self.pid = pid
        self.exitcode = exitcode

    def __reduce__(self):
        return type(self), (*self.args, self.pid, self.exitcode)


class WorkerLost(ProcessError):
    """A pool's worker ended while it ran the task: it was killed, it crashed, or the task ended it.

    `pid` is the worker's, `exitcode` its exit code (negative: the signal that killed it; `None`:
    unknown), `function` the name of the task's function, `by_oom_killer` whether the kernel killed
    it for want of memory (`None`: that cannot be known).
    """

    __module__ = 'procession.context'

    def __init__(self, pid, exitcode, function, by_oom_killer=None):
        super().__init__(pid, exitcode, function, by_oom_killer)
        self.pid = pid
        self.exitcode = exitcode
        self.function = function
        self.by_oom_killer = by_oom_killer

    def __str__(self):
        text = f'worker process {self.pid} {how_ended(self.exitcode)} while it ran {self.function}'
        if self.by_oom_killer:
            text += "; the kernel's OOM killer did it: use fewer workers, or tasks that need less memory"
        return text


class TaskTimeoutError(TimeoutError, WorkerLost):
    """A task ran longer than its `timeout`, and its worker was ended and replaced."""

    __module__ = 'procession.context'

    def __str__(self):
        return f'{self.function} ran longer than its timeout, and its worker, process {self.pid}, was ended'


class CancelledError(ProcessError):
    """The call was cancelled before its result was there."""

    __module__ = 'procession.context'


class BrokenPoolError(ProcessError):
    """No worker of a pool could be kept, or its shared memory was overwritten; `__cause__` says
    why.
    """

    __module__ = 'procession.context'


def how_ended(exitcode):
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

    def __init__(self, message='the owner of a lock died', pid=None):
        super().__init__(message, pid)
        self.pid = pid

    def __str__(self):
        return str(self.args[0])
