"""Answers ``import multiprocessing`` with procession, for programs that nobody wants to edit.

``python -m procession`` calls :func:`install` before the program runs, and so do its children
before they run anything of the program: those of `fork` inherit it, the others are told so in their
preparation. It runs in the thread that calls it, which should be alone with imports of
``multiprocessing`` at that moment.

>>> from procession import _alias
>>> _alias.install()
>>> import multiprocessing.pool
>>> multiprocessing.pool.__name__
'procession.pool'

The standard library's own modules live on under :func:`procession._standard.standard`.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import types

from . import _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from typing import Any

__all__ = ['install', 'installed']

_NAME = 'multiprocessing'
_PREFIX = _NAME + '.'

#: Whether this process answers so; its children are to do the same.
installed = False


def install() -> None:
    """From now on this process answers ``multiprocessing`` and each of its submodules with
    procession's.

    Modules that are loaded already and know the package or a submodule by a name of theirs, as by
    ``import multiprocessing as mp``, know procession by it. Classes and functions that they took
    from it, as by ``from multiprocessing import Queue``, stay what they are. A second call does
    nothing.
    """
    global installed
    if installed:
        return
    installed = True
    _standard.save()
    for name in [name for name in sys.modules if name.startswith(_PREFIX)]:
        del sys.modules[name]
    sys.modules[_NAME] = sys.modules[__package__]
    sys.meta_path.insert(0, _Finder)
    _tell_loaded_modules()


class _Finder:
    """Finds `multiprocessing.x` where `procession.x` is."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not name.startswith(_PREFIX) or importlib.util.find_spec(_own(name)) is None:
            return None
        loader: Any = _Loader
        return importlib.machinery.ModuleSpec(name, loader, is_package=False)


class _Loader:
    """Loads our module under its own name, and then puts it in the place of the module that the
    import made.
    """

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        importlib.import_module(_own(spec.name))

    @staticmethod
    def exec_module(module: Any) -> None:
        name = module.__spec__.name
        sys.modules[name] = sys.modules[_own(name)]


def _own(name: str) -> str:
    return __package__ + name.removeprefix(_NAME)


def _tell_loaded_modules() -> None:
    for name, module in list(sys.modules.items()):
        if name.partition('.')[0] in (_NAME, __package__) or not isinstance(module, types.ModuleType):
            continue
        # Asked so, a module of others that loads itself at its first use does not.
        namespace = object.__getattribute__(module, '__dict__')
        for key, value in list(namespace.items()):
            if value is _standard.package:
                namespace[key] = sys.modules[_NAME]
            elif isinstance(value, types.ModuleType) and _standard.owns(value):
                namespace[key] = importlib.import_module(value.__name__)
