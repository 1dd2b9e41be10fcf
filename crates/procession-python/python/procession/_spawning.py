"""Pickling for a child: for which child a thread pickles, what may go to it, and by which reducer.
Used in any process, from any thread.

It is announced where the standard library announces it, so that its locks, queues and connections
travel to our children, and ours to its.
"""

import sys

from . import _start_method, reduction
from ._engine import set_pickler
from ._standard import standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing import context as _standard
    from multiprocessing.context import get_spawning_popen as get_spawning_popen, set_spawning_popen as set_spawning_popen
    from typing import Any
else:
    _standard = standard('context')
    get_spawning_popen = _standard.get_spawning_popen
    set_spawning_popen = _standard.set_spawning_popen

#: The module that says how objects are pickled for children, and in queues, pools and pipes; or an
#: object with its names.
reducer: 'Any' = reduction


def set_reducer(other: 'Any') -> None:
    """From now on `other` is the :data:`reducer`, of the standard library's contexts too."""
    global reducer
    reducer = other
    _standard._default_context.reducer = other
    set_pickler(other.ForkingPickler if other is not reduction else None)


def assert_spawning(obj: 'Any') -> None:
    """Raises `RuntimeError` unless a child is being started that `obj` may go to."""
    _standard.assert_spawning(obj)
    # In an argument of a pool's task it may.
    method = getattr(get_spawning_popen(), 'method', None)
    if getattr(obj, '_is_fork_ctx', False) and method in ('spawn', 'forkserver'):
        raise RuntimeError(
            f'A SemLock created in a fork context is being shared with a process in a {method} context, which multiprocessing does not '
            'support. Make it by the context of the process, or import procession in its place, where this works'
        )


def answers_multiprocessing() -> bool:
    """Returns whether the program's `multiprocessing` is this package."""
    return sys.modules.get('multiprocessing') is sys.modules[__package__]


def note_maker(obj: 'Any', ctx: '_standard.BaseContext | None') -> None:
    """Notes that `ctx` makes `obj`. What its `fork` makes, the original keeps from children of the
    other start methods, and a program that asked for `multiprocessing` gets that.
    """
    if answers_multiprocessing() and (ctx or _start_method.default_context()).get_start_method() == 'fork':
        obj._is_fork_ctx = True
