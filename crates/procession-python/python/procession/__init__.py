"""Process-based parallelism: ``multiprocessing`` on an engine written in Rust.

``import procession as mp`` takes the place of ``import multiprocessing as mp``. The names of the
default context are made at the first use of one, so that a child that needs none of them starts
without.
"""

import sys

from ._engine import __version__ as __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Functions of the default context, as methods bound to it. Queues are named as their classes,
    # as in typeshed, so that they can be annotations: `procession.Queue` is a function all the
    # same.
    from . import (
        context as context,
        process as process,
        reduction as reducer,
        reduction as reduction,
        spawn as spawn,
        util as util,
    )
    from ._engine import Line as Line
    from .context import (
        AuthenticationError as AuthenticationError,
        BrokenPoolError as BrokenPoolError,
        BufferTooShort as BufferTooShort,
        CancelledError as CancelledError,
        MemoryLimitError as MemoryLimitError,
        NotRemote as NotRemote,
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
        current_worker as current_worker,
        parent_process as parent_process,
    )
    from .queues import JoinableQueue as JoinableQueue, Queue as Queue, SimpleQueue as SimpleQueue

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
        'Line',
        'Lock',
        'Manager',
        'MemoryLimitError',
        'NotRemote',
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
        'current_worker',
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
        'share',
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
    share = context._default_context.share

# The standard library has these names too.
SUBDEBUG = 5
SUBWARNING = 25

_SUBMODULES = ('aio', 'context', 'futures', 'process', 'reduction', 'spawn', 'util')

# A program run as `__main__` is `__mp_main__` in its children.
if '__main__' in sys.modules:
    sys.modules.setdefault('__mp_main__', sys.modules['__main__'])


def _fill() -> None:
    __import__('procession.context')
    default = sys.modules['procession.context']._default_context
    names = [name for name in dir(default) if not name.startswith('_')]
    globals().update({name: getattr(default, name) for name in names if name != 'Process'})
    # On a cluster it imports modules that need the other names.
    globals().update(Process=default.Process, __all__=names)


if not TYPE_CHECKING:
    # Types know which names there are.
    def __getattr__(name):
        if name in _SUBMODULES:
            # Asked for by `from . import` too, which is no use of the default context.
            __import__(f'{__name__}.{name}')
            return sys.modules[f'{__name__}.{name}']
        if '__all__' not in globals() and (name == '__all__' or not name.startswith('_')):
            _fill()
            if name in globals():
                return globals()[name]
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> 'list[str]':
    if '__all__' not in globals():
        _fill()
    return sorted(globals())


# `dir` and `__all__` are those of the standard library.
del TYPE_CHECKING
