"""The standard library's own ``multiprocessing``, as the parts of this package use it. Runs in any process, at import.

Three kinds of modules make up the package:

* *ours*, written here on the engine;
* *shared*: the standard library's very module object under our name (:func:`share`), where there must be one state for both
  packages: finalizers, the current process, picklers' reducers. So a library that uses the standard library and a program
  that uses procession see the same processes, and pickle for each other's children;
* *adopted*: the standard library's source, executed under our name (:func:`adopt`), where its pure-Python part serves
  unchanged on our context. Its relative imports then find our modules.
"""

import importlib
import importlib.machinery
import sys

import multiprocessing as package

_PREFIX = 'multiprocessing.'
_saved = {}


def standard(name):
    """The standard library's module of this name, also where ``multiprocessing`` is answered by procession."""
    if name in _saved:
        return _saved[name]
    return importlib.import_module(_PREFIX + name)


def save():
    """Keeps hold of what is loaded of the standard library, before its names are answered by others."""
    for name, module in list(sys.modules.items()):
        if name.startswith(_PREFIX) and module.__name__ == name:
            _saved[name.removeprefix(_PREFIX)] = module


def share(name):
    """Puts the standard library's module in the place of the module `name` of this package, which calls this."""
    sys.modules[name] = standard(name.removeprefix('procession.'))


def adopt(name):
    """Executes the standard library's source of the module `name` of this package, which calls this, in its namespace."""
    namespace = sys.modules[name].__dict__
    loader = importlib.machinery.PathFinder.find_spec(
        _PREFIX + name.removeprefix('procession.'), _path_of(name)
    ).loader
    exec(loader.get_code(loader.name), namespace)


def _path_of(name):
    path = package.__path__
    for part in name.split('.')[1:-1]:
        path = [f'{folder}/{part}' for folder in path]
    return path
