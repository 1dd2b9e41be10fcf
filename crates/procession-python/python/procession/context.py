"""Contexts: the whole API of the package, bound to one start method. Used in any process, from any
thread.

They are contexts of the standard library too (subclasses of its own), so that whatever takes a
context of ``multiprocessing`` takes these. A context knows all that it makes; what it makes takes
its context as a parameter, and does not import this module.
"""

import functools
import os

from . import _spawning, _start_method, process as _process
from ._base_context import concrete_contexts as _concrete_contexts, makers as _makers
from ._errors import (
    AuthenticationError as AuthenticationError,
    BrokenPoolError as BrokenPoolError,
    BufferTooShort as BufferTooShort,
    CancelledError as CancelledError,
    MemoryLimitError as MemoryLimitError,
    NotRemote as NotRemote,
    ProcessError as ProcessError,
    ProcessLost as ProcessLost,
    TaskTimeoutError as TaskTimeoutError,
    TimeoutError as TimeoutError,
    WorkerLost as WorkerLost,
)
from ._processes import (
    ForkProcess as ForkProcess,
    ForkServerProcess as ForkServerProcess,
    Process as Process,
    SpawnProcess as SpawnProcess,
)
from ._spawning import (
    answers_multiprocessing as answers_multiprocessing,
    assert_spawning as assert_spawning,
    get_spawning_popen as get_spawning_popen,
    note_maker as note_maker,
    set_spawning_popen as set_spawning_popen,
)
from ._standard import standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    import multiprocessing.context as _standard
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar, Literal, overload, type_check_only

    from ._base_context import BaseContext as _BaseContext

    _Process = Process

    class BaseContext(_BaseContext):
        # With the contexts that it returns, which that module does not know.
        @overload  # type: ignore[override]
        def get_context(self, method: None = None) -> 'DefaultContext': ...
        @overload
        def get_context(self, method: Literal['fork']) -> 'ForkContext': ...
        @overload
        def get_context(self, method: Literal['spawn']) -> 'SpawnContext': ...
        @overload
        def get_context(self, method: Literal['forkserver']) -> 'ForkServerContext': ...
        @overload
        def get_context(
            self,
            method: Literal['ray'],
            address: str | None = None,
            *,
            resources: Mapping[str, float] | None = None,
            runtime_env: Mapping[str, Any] | None = None,
            certificate: str | os.PathLike[str] | None = None,
            key: str | os.PathLike[str] | None = None,
        ) -> 'RemoteContext': ...
        @overload
        def get_context(
            self,
            method: Literal['dask'],
            address_or_client: Any = None,
            *,
            certificate: str | os.PathLike[str] | None = None,
            key: str | os.PathLike[str] | None = None,
        ) -> 'RemoteContext': ...
        @overload
        def get_context(
            self,
            method: Literal['mpi'],
            *,
            certificate: str | os.PathLike[str] | None = None,
            key: str | os.PathLike[str] | None = None,
        ) -> 'RemoteContext': ...
        @overload
        def get_context(self, method: str, *args: Any, **options: Any) -> 'BaseContext': ...
        def get_context(self, method: str | None = None, *args: Any, **options: Any) -> Any: ...

    # The rest of the contexts of clusters, whose class is in `remote`.
    @type_check_only
    class RemoteContext(BaseContext):
        Process: Any

        def put(self, value: Any) -> Any: ...

else:
    from ._base_context import BaseContext

    _standard = standard('context')

__all__ = ()


# Processes of ours are not the standard library's by class: hence what is ignored here.
class DefaultContext(BaseContext, _standard.DefaultContext):  # type: ignore[misc]
    """The context behind the functions of the package: its start method can be set once."""

    Process: 'ClassVar[type[_Process]]' = Process  # type: ignore[assignment]

    def __init__(self) -> None:
        self._actual_context: Any = None

    # The running interpreter's default, which it may look for: an import that nobody uses must not.
    @functools.cached_property
    def _default_context(self) -> 'Any':
        return _concrete_contexts[_standard._default_context.get_all_start_methods()[0]]

    if not TYPE_CHECKING:
        # Its types are those of the base.
        def get_context(self, method=None, *args, **options):
            """Returns the context of the start method `method`, or the one that is set."""
            if method is not None:
                return BaseContext.get_context(self, method, *args, **options)
            if self._actual_context is None:
                self._actual_context = self._default_context
            return self._actual_context

    def _inherited_start_method(self) -> 'str | None':
        return self.get_start_method(allow_none=True)

    def _force_start_method(self, method: 'str | None') -> None:
        # As `set_start_method`, in one function: each that a forked child calls is a page or more
        # of its parent's to copy.
        self._actual_context = None if method is None else _concrete_contexts[method]


class ClusterDefaultContext(DefaultContext):
    """The default context of a program that `PROCESSION_CONTEXT` puts on a cluster. Its names are
    those of the cluster's context, and so are those of each start method that the program chooses.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    @functools.cached_property
    def _default_context(self) -> 'Any':
        return _remote_context(self._name, (), {})

    @property
    def Process(self) -> 'type[_Process]':  # type: ignore[override]
        """The class of processes on the cluster's machines."""
        return self.get_context().Process

    if not TYPE_CHECKING:
        # Its types are those of the base.
        def get_context(self, method=None, *args, **options):
            """Returns the cluster's context, also in the place of a start method's."""
            if method in _REMOTE and (args or options or method != self._name):
                return BaseContext.get_context(self, method, *args, **options)
            if method not in (None, self._name, *_concrete_contexts):
                raise ValueError(f'cannot find context for {method!r}')
            return self._default_context

    def set_start_method(self, method: 'str | None', force: bool = False) -> None:
        """Does nothing: the machines of a cluster have one way to start processes."""
        self.get_context(method)

    def get_start_method(self, allow_none: bool = False) -> str:
        """Returns the name of the cluster's context."""
        return self._name

    def _inherited_start_method(self) -> None:
        # Its children's own processes are their machine's.
        return None


def _of_cluster(name: str) -> 'Callable[..., Any]':
    @functools.wraps(getattr(BaseContext, name))
    def call(self: 'Any', *args: 'Any', **kwds: 'Any') -> 'Any':
        return getattr(self.get_context(), name)(*args, **kwds)

    return call


for _each in (
    *('Array', 'Barrier', 'BoundedSemaphore', 'Condition', 'Event', 'JoinableQueue', 'Lock', 'Manager', 'Pipe', 'Pool', 'Queue'),
    *('RLock', 'RawArray', 'RawValue', 'Semaphore', 'SimpleQueue', 'Value', 'cpu_count', 'share'),
    *('set_executable', 'set_forkserver_preload'),
):
    setattr(ClusterDefaultContext, _each, _of_cluster(_each))


class ForkContext(BaseContext, _standard.ForkContext):  # type: ignore[misc]
    """Starts processes by `fork`."""

    _name = 'fork'
    Process: 'ClassVar[type[ForkProcess]]' = ForkProcess  # type: ignore[assignment]


class SpawnContext(BaseContext, _standard.SpawnContext):  # type: ignore[misc]
    """Starts processes by `spawn`."""

    _name = 'spawn'
    Process: 'ClassVar[type[SpawnProcess]]' = SpawnProcess  # type: ignore[assignment]


class ForkServerContext(BaseContext, _standard.ForkServerContext):  # type: ignore[misc]
    """Starts processes by the fork server."""

    _name = 'forkserver'
    Process: 'ClassVar[type[ForkServerProcess]]' = ForkServerProcess  # type: ignore[assignment]


_REMOTE = ('ray', 'dask', 'mpi')
# Those of clusters that were asked for without options: the same each time, as with the others.
_remote_contexts: 'dict[str, Any]' = {}


def _remote_context(name: str, args: 'tuple[Any, ...]', options: 'dict[str, Any]') -> 'Any':
    from .remote import make_context

    if args or options:
        return make_context(name, *args, **options)
    if name not in _remote_contexts:
        _remote_contexts[name] = make_context(name)
    return _remote_contexts[name]


_concrete_contexts.update({context._name: context for context in (ForkContext(), SpawnContext(), ForkServerContext())})
_makers.update({name: functools.partial(_remote_context, name) for name in _REMOTE})


def _make_default() -> DefaultContext:
    """Returns the default context: `PROCESSION_CONTEXT` may name it. What it names is the
    program's own; its children have the interpreter's.
    """
    name = os.environ.get('PROCESSION_CONTEXT')
    if not name or _process._link is not None or _process.parent_process() is not None:
        return DefaultContext()
    if name in _REMOTE:
        return ClusterDefaultContext(name)
    if name not in _concrete_contexts:
        known = ', '.join([*_concrete_contexts, *_REMOTE])
        raise ValueError(f'PROCESSION_CONTEXT is {name!r}, and must be one of {known}')
    default = DefaultContext()
    default._force_start_method(name)
    return default


_default_context: 'DefaultContext' = _make_default()


_start_method.set_default_context(_default_context)

# The standard library's bootstrap, by which a child goes that a tool has hooked, takes it from here
# where this package answers for `multiprocessing`.
_force_start_method = _start_method.force


if not TYPE_CHECKING:
    # Types know which names there are.
    def __getattr__(name):
        # The sources that the package adopts take it from here.
        if name == 'reduction':
            return _spawning.reducer
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
