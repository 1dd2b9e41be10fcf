"""The standard library's own ``multiprocessing``, as the parts of this package use it. Runs in any
process, at import.

Three kinds of modules make up the package:

* *ours*, written here on the engine;
* *shared*: the standard library's very module object under our name (:func:`share`), where there
  must be one state for both packages: finalizers, the current process, picklers' reducers. So a
  library that uses the standard library and a program that uses procession see the same processes,
  and pickle for each other's children;
* *adopted*: the standard library's source, executed under our name (:func:`adopt`), where its
  pure-Python part serves unchanged on our context. Its relative imports then find our modules.
"""

import multiprocessing
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

package = multiprocessing
_PREFIX = 'multiprocessing.'
_saved: 'dict[str, ModuleType]' = {}


def standard(name: str) -> 'ModuleType':
    """The standard library's module of this name, also where ``multiprocessing`` is answered by
    procession.

    What was not loaded before it was answered so is loaded apart from `sys.modules`, and itself
    imports from procession.
    """
    if name in _saved:
        return _saved[name]
    if sys.modules.get(package.__name__) is package:
        # Not by `importlib`, which no child of ours needs otherwise.
        __import__(_PREFIX + name)
        return sys.modules[_PREFIX + name]
    from importlib.util import module_from_spec

    spec = _spec(name)
    module = module_from_spec(spec)
    # Not under a lock, which could be awaited by one who holds an import's: of two modules loaded
    # at once the first serves.
    spec.loader.exec_module(module)
    return _saved.setdefault(name, module)


def save() -> None:
    """Keeps hold of what is loaded of the standard library, before its names are answered by
    others.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith(_PREFIX) and module.__name__ == name:
            _saved[name.removeprefix(_PREFIX)] = module


def loaded(name: str) -> 'ModuleType | None':
    """The standard library's module of this name if it is loaded already, else `None`."""
    if name in _saved:
        return _saved[name]
    if sys.modules.get(package.__name__) is package:
        return sys.modules.get(_PREFIX + name)
    return None


def owns(module: 'ModuleType') -> bool:
    """Returns whether `module` is one of the standard library's that :func:`save` has kept."""
    return _saved.get(module.__name__.removeprefix(_PREFIX)) is module


def share(name: str) -> None:
    """Puts the standard library's module in the place of the module `name` of this package, which
    calls this.
    """
    sys.modules[name] = standard(name.removeprefix('procession.'))


def adopt(name: str) -> None:
    """Executes the standard library's source of the module `name` of this package, which calls
    this, in its namespace.
    """
    namespace = sys.modules[name].__dict__
    loader = _spec(name.removeprefix('procession.')).loader
    if not hasattr(loader, 'get_code'):
        loader = _source_beside(name.removeprefix('procession.'))
    exec(loader.get_code(loader.name), namespace)


def _source_beside(name: str) -> 'Any':
    """Returns a loader of a module's source where its own loader gives no code: in a program that
    Nuitka has compiled.
    """
    from importlib.machinery import SourceFileLoader

    folder, path = package.__path__[0], name.replace('.', '/')
    if name == 'dummy':
        path = 'dummy/__init__'
    loader = SourceFileLoader(_PREFIX + name, f'{folder}/{path}.py')
    try:
        loader.get_data(loader.path)
    except OSError as error:
        advice = 'Compile it with --include-raw-dir=<the folder of the package multiprocessing>=multiprocessing'
        raise ImportError(f'{error.filename} is not in this compiled program. {advice}') from error
    return loader


def _spec(name: str) -> 'Any':
    path = package.__path__
    for part in name.split('.')[:-1]:
        path = [f'{folder}/{part}' for folder in path]
    from importlib.machinery import PathFinder

    return PathFinder.find_spec(_PREFIX + name, path)
