"""Contexts: the whole API of the package, bound to one start method. Used in any process, from any
thread.

They are contexts of the standard library too (subclasses of its own), so that whatever takes a
context of ``multiprocessing`` takes these. A context knows all that it makes; what it makes takes
its context as a parameter, and does not import this module.
"""

import functools

from . import _spawning, _start_method
from ._errors import (
    AuthenticationError,
    BrokenPoolError,
    BufferTooShort,
    CancelledError,
    ProcessError,
    ProcessLost,
    TaskTimeoutError,
    TimeoutError,
    WorkerLost,
)
from ._processes import ForkProcess, ForkServerProcess, Process, SpawnProcess
from ._spawning import answers_multiprocessing, assert_spawning, get_spawning_popen, note_maker, set_spawning_popen
from ._standard import standard

_standard = standard('context')

__all__ = ()


class BaseContext(_standard.BaseContext):
    """What every context offers."""

    ProcessLost = ProcessLost
    WorkerLost = WorkerLost
    TaskTimeoutError = TaskTimeoutError
    CancelledError = CancelledError
    BrokenPoolError = BrokenPoolError

    def Manager(self):
        """Returns a started manager, whose process is of this context."""
        from .managers import SyncManager

        manager = SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def Pipe(self, duplex=True):
        """Returns two connections, the ends of a pipe; of one that is not duplex the first receives
        and the second sends.
        """
        from .connection import Pipe

        return Pipe(duplex)

    def Lock(self):
        """Returns a lock, which any process or thread may release."""
        from .synchronize import Lock

        return Lock(ctx=self.get_context())

    def RLock(self):
        """Returns a lock that its owner may acquire again."""
        from .synchronize import RLock

        return RLock(ctx=self.get_context())

    def Condition(self, lock=None):
        """Returns a condition on `lock`, or on an `RLock` of its own."""
        from .synchronize import Condition

        return Condition(lock, ctx=self.get_context())

    def Semaphore(self, value=1):
        """Returns a semaphore of `value` permits."""
        from .synchronize import Semaphore

        return Semaphore(value, ctx=self.get_context())

    def BoundedSemaphore(self, value=1):
        """Returns a semaphore that never has more than its first `value` permits."""
        from .synchronize import BoundedSemaphore

        return BoundedSemaphore(value, ctx=self.get_context())

    def Event(self):
        """Returns an event, which is not set."""
        from .synchronize import Event

        return Event(ctx=self.get_context())

    def Barrier(self, parties, action=None, timeout=None):
        """Returns a barrier for so many parties; one of them calls `action` each time it opens."""
        from .synchronize import Barrier

        return Barrier(parties, action, timeout, ctx=self.get_context())

    def Queue(self, maxsize=0):
        """Returns a queue of at most `maxsize` items; 0: as many as memory holds."""
        from .queues import Queue

        return Queue(maxsize, ctx=self.get_context())

    def JoinableQueue(self, maxsize=0):
        """Returns a queue with `task_done` and `join`."""
        from .queues import JoinableQueue

        return JoinableQueue(maxsize, ctx=self.get_context())

    def SimpleQueue(self):
        """Returns a queue with little more than `put` and `get`."""
        from .queues import SimpleQueue

        return SimpleQueue(ctx=self.get_context())

    def Pool(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, **terms):
        """Returns a pool of worker processes."""
        from .pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context(), **terms)

    def RawValue(self, typecode_or_type, *args):
        """Returns a ctypes object in shared memory, without a lock."""
        from .sharedctypes import RawValue

        return RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type, size_or_initializer):
        """Returns a ctypes array in shared memory, without a lock."""
        from .sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type, *args, lock=True):
        """Returns a ctypes object in shared memory, with a lock."""
        from .sharedctypes import Value

        return Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(self, typecode_or_type, size_or_initializer, *, lock=True):
        """Returns a ctypes array in shared memory, with a lock."""
        from .sharedctypes import Array

        return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    def freeze_support(self):
        """In a frozen program: does a child's work if this process is one, and does not return
        then; see :func:`procession.spawn.freeze_support`.
        """
        from .spawn import freeze_support

        freeze_support()

    def get_logger(self):
        """Returns the package's logger."""
        from .util import get_logger

        return get_logger()

    def log_to_stderr(self, level=None):
        """Turns logging on, to stderr."""
        from .util import log_to_stderr

        return log_to_stderr(level)

    def allow_connection_pickling(self):
        """Has connections and sockets travel to children, which they do anyway."""
        from . import connection  # noqa: F401

    def set_executable(self, executable):
        """Sets the Python that `spawn` and the fork server execute, in place of `sys.executable`.
        """
        from .spawn import set_executable

        set_executable(executable)

    def set_forkserver_preload(self, module_names):
        """Sets the modules that the fork server imports before it makes its first child."""
        from .forkserver import set_forkserver_preload

        set_forkserver_preload(module_names)

    def get_context(self, method=None):
        """Returns this context, or that of the start method `method`."""
        if method is None:
            return self
        try:
            context = _concrete_contexts[method]
        except KeyError:
            raise ValueError(f'cannot find context for {method!r}') from None
        context._check_available()
        return context

    @property
    def reducer(self):
        """The module that says how objects are pickled for children, and in queues, pools and
        pipes; or an object with its names.

        Set it before the first pipe is made, as with the standard library.
        """
        return _spawning.reducer

    @reducer.setter
    def reducer(self, reduction):
        _spawning.set_reducer(reduction)


class DefaultContext(BaseContext, _standard.DefaultContext):
    """The context behind the functions of the package: its start method can be set once."""

    Process = Process

    def __init__(self):
        self._actual_context = None

    # The running interpreter's default, which it may look for: an import that nobody uses must not.
    @functools.cached_property
    def _default_context(self):
        return _concrete_contexts[_standard._default_context.get_all_start_methods()[0]]

    def get_context(self, method=None):
        """Returns the context of the start method `method`, or the one that is set."""
        if method is not None:
            return BaseContext.get_context(self, method)
        if self._actual_context is None:
            self._actual_context = self._default_context
        return self._actual_context

    def _force_start_method(self, method):
        # As `set_start_method`, in one function: each that a forked child calls is a page or more
        # of its parent's to copy.
        self._actual_context = None if method is None else _concrete_contexts[method]


class ForkContext(BaseContext, _standard.ForkContext):
    """Starts processes by `fork`."""

    _name = 'fork'
    Process = ForkProcess


class SpawnContext(BaseContext, _standard.SpawnContext):
    """Starts processes by `spawn`."""

    _name = 'spawn'
    Process = SpawnProcess


class ForkServerContext(BaseContext, _standard.ForkServerContext):
    """Starts processes by the fork server."""

    _name = 'forkserver'
    Process = ForkServerProcess


_concrete_contexts = {context._name: context for context in (ForkContext(), SpawnContext(), ForkServerContext())}
_default_context = DefaultContext()


_start_method.set_default_context(_default_context)

# The standard library's bootstrap, by which a child goes that a tool has hooked, takes it from here
# where this package answers for `multiprocessing`.
_force_start_method = _start_method.force


def __getattr__(name):
    # The sources that the package adopts take it from here.
    if name == 'reduction':
        return _spawning.reducer
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
