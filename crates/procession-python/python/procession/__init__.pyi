# Functions of the default context, as methods bound to it. Queues are named as their classes, as in
# typeshed, so that they can be annotations: `procession.Queue` is a function all the same.
from . import context as context, process as process, reduction as reducer, reduction as reduction, spawn as spawn, util as util
from .context import (
    AuthenticationError as AuthenticationError,
    BrokenPoolError as BrokenPoolError,
    BufferTooShort as BufferTooShort,
    CancelledError as CancelledError,
    Process as Process,
    ProcessError as ProcessError,
    ProcessLost as ProcessLost,
    TaskTimeoutError as TaskTimeoutError,
    TimeoutError as TimeoutError,
    WorkerLost as WorkerLost,
)
from .process import (
    active_children as active_children,
    current_process as current_process,
    parent_process as parent_process,
)
from .queues import JoinableQueue as JoinableQueue, Queue as Queue, SimpleQueue as SimpleQueue

__version__: str
SUBDEBUG: int
SUBWARNING: int

__all__ = [
    'Array',
    'AuthenticationError',
    'Barrier',
    'BoundedSemaphore',
    'BrokenPoolError',
    'BufferTooShort',
    'CancelledError',
    'Condition',
    'Event',
    'JoinableQueue',
    'Lock',
    'Manager',
    'Pipe',
    'Pool',
    'Process',
    'ProcessError',
    'ProcessLost',
    'Queue',
    'RLock',
    'RawArray',
    'RawValue',
    'Semaphore',
    'SimpleQueue',
    'TaskTimeoutError',
    'TimeoutError',
    'Value',
    'WorkerLost',
    'active_children',
    'allow_connection_pickling',
    'cpu_count',
    'current_process',
    'freeze_support',
    'get_all_start_methods',
    'get_context',
    'get_logger',
    'get_start_method',
    'log_to_stderr',
    'parent_process',
    'reducer',
    'set_executable',
    'set_forkserver_preload',
    'set_start_method',
]

Array = context._default_context.Array
Barrier = context._default_context.Barrier
BoundedSemaphore = context._default_context.BoundedSemaphore
Condition = context._default_context.Condition
Event = context._default_context.Event
Lock = context._default_context.Lock
Manager = context._default_context.Manager
Pipe = context._default_context.Pipe
Pool = context._default_context.Pool
RLock = context._default_context.RLock
RawArray = context._default_context.RawArray
RawValue = context._default_context.RawValue
Semaphore = context._default_context.Semaphore
Value = context._default_context.Value
allow_connection_pickling = context._default_context.allow_connection_pickling
cpu_count = context._default_context.cpu_count
freeze_support = context._default_context.freeze_support
get_all_start_methods = context._default_context.get_all_start_methods
get_context = context._default_context.get_context
get_logger = context._default_context.get_logger
get_start_method = context._default_context.get_start_method
log_to_stderr = context._default_context.log_to_stderr
set_executable = context._default_context.set_executable
set_forkserver_preload = context._default_context.set_forkserver_preload
set_start_method = context._default_context.set_start_method
