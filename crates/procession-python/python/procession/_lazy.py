"""Modules of the standard library that execute at their first use. Used in any process, by the first import of this package that
needs ``multiprocessing``.

``import multiprocessing`` brings sockets, selectors, temporary files and pickle's Python half, which most programs and
their children never need: ten milliseconds, and megabytes that each forked child shares the upkeep of. Here the module
objects exist from the beginning, at their own places in `sys.modules`, and execute when somebody asks for something
that is in them, or sets it. What the program has imported before, or has a finder of its own for, is left as it is.
"""

import os
import sys
from _frozen_importlib import _find_spec, module_from_spec
from _frozen_importlib_external import SourceFileLoader
from _thread import RLock

__all__ = ['defer', 'load_all', 'loaded', 'when_loaded']

_PACKAGE = 'multiprocessing'
_NAMES = ('connection', 'context', 'reduction', 'resource_tracker')
# What these take from the deferred when they execute themselves, and may never call.
_TAKEN = {
    'multiprocessing.pool': ('multiprocessing.connection', 'wait'),
    'multiprocessing.util': ('subprocess', '_args_from_interpreter_flags'),
}

_lock = RLock()
# Seconds between two looks of who waits for the lock.
_LOOK = 0.01
_callbacks = {}
# What was in a module before it began to execute, of those that are executing.
_executing = {}


class _Deferred(type(sys)):
    """A module that has not been executed."""

    def __getattr__(self, name):
        if name.startswith('__') and name != '__all__':
            raise AttributeError(f'module {self.__name__!r} has no attribute {name!r}')
        asker = sys._getframe(1).f_globals.get('__name__')
        if _TAKEN.get(asker) == (self.__name__, name):
            return lambda *args, **kwds: getattr(self, name)(*args, **kwds)
        _load(self)
        return getattr(self, name)

    def __setattr__(self, name, value):
        # The import system sets its own, and submodules; what anybody else sets is not to be set anew by the execution.
        if not name.startswith('__') and getattr(value, '__name__', None) != f'{self.__name__}.{name}':
            _load(self)
        type(sys).__setattr__(self, name, value)

    def __delattr__(self, name):
        _load(self)
        delattr(self, name)

    def __dir__(self):
        _load(self)
        return dir(self)

    def __reduce_ex__(self, protocol):
        # Picklers that know modules know them by their very type.
        return __import__('importlib').import_module, (self.__name__,)


class _Loading(_Deferred):
    """A module that is being executed, by the thread that holds the lock."""

    __slots__ = ()
    __setattr__ = type(sys).__setattr__
    __delattr__ = type(sys).__delattr__
    __dir__ = type(sys).__dir__

    def __getattribute__(self, name):
        # To other threads it is not there by halves.
        if not name.startswith('__') and not _lock._is_owned():
            _load(self)
        return type(sys).__getattribute__(self, name)

    def __getattr__(self, name):
        raise AttributeError(f'module {self.__name__!r} has no attribute {name!r} yet')


def defer():
    """Makes those modules that have not been imported."""
    package = sys.modules.get(_PACKAGE) or _make(_PACKAGE, None)
    # A standard library in an archive is left alone.
    if package is None or type(package.__spec__.loader) is not SourceFileLoader:
        return
    for name in _NAMES:
        module = _make(f'{_PACKAGE}.{name}', package.__path__)
        if module is not None:
            setattr(package, name, module)
    _make('subprocess', None)


def loaded(name):
    """The standard library's module `name` of ``multiprocessing`` if it has been executed, else `None`."""
    module = _module(name)
    return None if isinstance(module, _Deferred) else module


def when_loaded(name, callback):
    """Calls `callback` with the module `name` of ``multiprocessing`` once it is executed: now, if it has been or is not
    there.
    """
    with _lock:
        module = _module(name)
        if isinstance(module, _Deferred):
            _callbacks.setdefault(module.__name__, []).append(callback)
            return
    if module is None:
        __import__(f'{_PACKAGE}.{name}')
        module = sys.modules[f'{_PACKAGE}.{name}']
    callback(module)


def load_all():
    """Executes what has been deferred."""
    for module in list(sys.modules.values()):
        if isinstance(module, _Deferred):
            _load(module)


def _module(name):
    # Where the package's names are answered by procession, what there was before is kept elsewhere.
    standard = sys.modules.get('procession._standard')
    return (standard and standard.saved(name)) or sys.modules.get(f'{_PACKAGE}.{name}')


def _make(name, path):
    spec = None if name in sys.modules else _find_spec(name, path)
    if spec is None or type(spec.loader) is not SourceFileLoader:
        return None
    module = module_from_spec(spec)
    module.__class__ = _Deferred
    # Another thread may have begun to import it.
    return module if sys.modules.setdefault(name, module) is module else None


def _load(module):
    package = sys.modules.get(_PACKAGE)
    is_inside = module.__name__.startswith(f'{_PACKAGE}.')
    if is_inside and isinstance(package, _Deferred) and not _lock._is_owned():
        # First: another thread, which imports something that this module imports too, may wait for the package meanwhile.
        _load(package)
    # Who had the lock may have executed it, and have the lock for another by now, which waits for what this thread imports.
    while not _lock.acquire(timeout=_LOOK):
        if not isinstance(module, _Deferred):
            return
    try:
        if type(module) is not _Deferred:
            return
        # Somebody may have reloaded it.
        if '__builtins__' not in module.__dict__:
            _execute(module)
        module.__class__ = type(sys)
        for callback in _callbacks.pop(module.__name__, ()):
            callback(module)
    finally:
        _lock.release()


def _execute(module):
    _executing[module] = dict(module.__dict__)
    module.__class__ = _Loading
    # The package names the main module anew when it is imported, which is early everywhere else.
    main = sys.modules.get('__mp_main__')
    try:
        module.__spec__.loader.exec_module(module)
    except BaseException:
        _undo(module)
        raise
    finally:
        _executing.pop(module, None)
        if main is not None:
            sys.modules['__mp_main__'] = main


def _undo(module):
    """Has a module that was executed in part be as before, but for what it has imported."""
    namespace, before = module.__dict__, _executing[module]
    for name in [name for name, value in namespace.items() if not isinstance(value, type(sys))]:
        del namespace[name]
    namespace.update(before)
    module.__class__ = _Deferred


def _after_fork():
    # A thread that was executing a module is not there in the child, unless it forked.
    if not _lock._is_owned():
        for module in list(_executing):
            _undo(module)
        _executing.clear()
        _lock._at_fork_reinit()


os.register_at_fork(after_in_child=_after_fork)
