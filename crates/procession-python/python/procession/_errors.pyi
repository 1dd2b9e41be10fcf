from multiprocessing.context import (
    AuthenticationError as AuthenticationError,
    BufferTooShort as BufferTooShort,
    ProcessError as ProcessError,
    TimeoutError as TimeoutError,
)

class ProcessLost(ProcessError):
    pid: int | None
    exitcode: int | None
    def __init__(self, message: str, pid: int | None = None, exitcode: int | None = None) -> None: ...

class WorkerLost(ProcessError):
    pid: int
    exitcode: int | None
    function: str
    by_oom_killer: bool | None
    def __init__(self, pid: int, exitcode: int | None, function: str, by_oom_killer: bool | None = None) -> None: ...

class TaskTimeoutError(TimeoutError, WorkerLost): ...
class CancelledError(ProcessError): ...
class BrokenPoolError(ProcessError): ...

def how_ended(exitcode: int | None) -> str: ...

class OwnerDiedError(RuntimeError):
    pid: int | None
    def __init__(self, message: str = 'the owner of a lock died', pid: int | None = None) -> None: ...
