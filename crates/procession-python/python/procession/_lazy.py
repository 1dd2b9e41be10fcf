"""Modules of the standard library that execute at their first use. Used in any process, by the first import of this package that
needs ``multiprocessing``.

``import multiprocessing`` brings sockets, selectors, temporary files and pickle's Python half, which most programs and
their children never need: ten milliseconds, and megabytes that each forked child shares the upkeep of. Here the module
objects exist from the beginning, at their own places in `sys.modules`, and execute when somebody asks for something
that is in them, or sets it. What the program has imported before is left as it is.
"""

import os
import sys
from _frozen_importlib import module_from_spec
from _frozen_importlib_external import PathFinder, SourceFileLoader, spec_from_file_location
from _thread import RLock

__all__ = ['defer', 'load_all', 'loaded', 'when_loaded']

_PACKAGE = 'multiprocessing'
_NAMES = ('connection', 'context', 'reduction', 'resource_tracker', 'util')
# What `multiprocessing.pool` and `multiprocessing.util` take from the deferred when they execute themselves, and may never call.
_PROMISED = {'multiprocessing.connection': 'wait', 'subprocess': '_args_from_interpreter_flags'}

_lock = RLock()
_callbacks = {}

# A thread that is loading is not there in a forked child: see `_Loading`.
os.register_at_fork(after_in_child=_lock._at_fork_reinit)


class _Deferred(type(sys)):
    """A module that has not been executed."""

    def __getattr__(self, name):
        if name.startswith('__') and name != '__all__':
            raise AttributeError(f'module {self.__name__!r} has no attribute {name!r}')
        _load(self)
        return getattr(self, name)

    def __setattr__(self, name, value):
        # Imports set their modules and what has two underscores; what anybody else sets is not to be set anew by the execution.
        if not name.startswith('__') and not isinstance(value, type(sys)):
            _load(self)
        type(sys).__setattr__(self, name, value)

    def __delattr__(self, name):
        _load(self)
        delattr(self, name)

    def __dir__(self):
        _load(self)
        return dir(self)


class _Loading(_Deferred):
    """A module that is being executed, by the thread that holds the lock; if none does, by one that this process was forked without.
    """

    __slots__ = ()
    __setattr__ = type(sys).__setattr__
    __delattr__ = type(sys).__delattr__
    __dir__ = type(sys).__dir__

    def __getattr__(self, name):
        if _lock._is_owned():
            raise AttributeError(f'module {self.__name__!r} has no attribute {name!r} yet')
        _load(self)
        return getattr(self, name)


def defer():
    """Makes those modules that have not been imported."""
    package = sys.modules.get(_PACKAGE) or _make(PathFinder.find_spec(_PACKAGE))
    # A standard library in an archive is left alone.
    if package is None or type(package.__spec__.loader) is not SourceFileLoader:
        return
    (folder,) = package.__path__
    for name in _NAMES:
        module = _make(spec_from_file_location(f'{_PACKAGE}.{name}', f'{folder}/{name}.py'))
        if module is not None:
            setattr(package, name, module)
    _make(PathFinder.find_spec('subprocess'))


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
        if type(module) is _Deferred:
            _load(module)


def _module(name):
    # Where the package's names are answered by procession, what there was before is kept elsewhere.
    standard = sys.modules.get('procession._standard')
    return (standard and standard.saved(name)) or sys.modules.get(f'{_PACKAGE}.{name}')


def _make(spec):
    if spec is None or spec.name in sys.modules or type(spec.loader) is not SourceFileLoader:
        return None
    module = module_from_spec(spec)
    promised = _PROMISED.get(spec.name)
    if promised is not None:
        setattr(module, promised, _promise(module, promised))
    module.__class__ = _Deferred
    # Another thread may have begun to import it.
    return module if sys.modules.setdefault(spec.name, module) is module else None


def _promise(module, name):
    def function(*args, **kwds):
        _load(module)
        return getattr(module, name)(*args, **kwds)

    function.__module__, function.__name__, function.__qualname__ = module.__name__, name, name
    return function


def _load(module):
    with _lock:
        if not isinstance(module, _Deferred):
            return
        module.__class__ = _Loading
        # The package names the main module anew when it is imported, which is early everywhere else.
        main = sys.modules.get('__mp_main__')
        try:
            module.__spec__.loader.exec_module(module)
        except BaseException:
            module.__class__ = _Deferred
            raise
        finally:
            if main is not None:
                sys.modules['__mp_main__'] = main
        module.__class__ = type(sys)
        for callback in _callbacks.pop(module.__name__, ()):
            callback(module)
