"""Modules of the standard library that a child of ours executes at their first use. Runs in an executed child, before
it imports anything else of this package.

A child's start is the interpreter's start and its imports, and ``import multiprocessing`` brings sockets, selectors and
pickle's Python half, which most targets never need. Here the module objects exist from the beginning, at their own
places in `sys.modules`, and execute when somebody asks for something that is in them. Elsewhere than in such children
nothing is deferred.
"""

import sys
from _frozen_importlib import module_from_spec
from _frozen_importlib_external import PathFinder, SourceFileLoader, spec_from_file_location
from _thread import RLock

__all__ = ['defer', 'load_all', 'loaded', 'when_loaded']

_PACKAGE = 'multiprocessing'
_NAMES = ('context', 'reduction', 'resource_tracker', 'util')

_lock = RLock()
_callbacks = {}


class _Deferred(type(sys)):
    """A module that has not been executed."""

    def __getattr__(self, name):
        if name.startswith('__') and name != '__all__':
            raise AttributeError(f'module {self.__name__!r} has no attribute {name!r}')
        _load(self)
        return getattr(self, name)


class _Loading(_Deferred):
    """A module that is being executed, by the thread that holds the lock."""

    __slots__ = ()

    def __getattr__(self, name):
        with _lock:
            if isinstance(self, _Loading):
                raise AttributeError(f'module {self.__name__!r} has no attribute {name!r} yet')
        return getattr(self, name)


def defer():
    """Makes the modules, unless ``multiprocessing`` has been imported."""
    if _PACKAGE in sys.modules:
        return
    spec = PathFinder.find_spec(_PACKAGE)
    # A standard library in an archive is left alone.
    if spec is None or type(spec.loader) is not SourceFileLoader:
        return
    package = _make(spec)
    (folder,) = package.__path__
    for name in _NAMES:
        setattr(package, name, _make(spec_from_file_location(f'{_PACKAGE}.{name}', f'{folder}/{name}.py')))


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


def _make(spec):
    module = module_from_spec(spec)
    module.__class__ = _Deferred
    sys.modules[spec.name] = module
    return module


def _load(module):
    with _lock:
        if type(module) is not _Deferred:
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
