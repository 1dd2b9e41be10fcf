"""The title that `ps` and `top` show of a child: its name and what it runs. Used in a child by its
first thread, and before in its parent.

Without more a process has a name of 15 bytes. The optional package `setproctitle` shows all of a
title, in the place of the command line. A program that has given itself a name keeps it, in its
forked children too.
"""

import os
import sys

from . import _engine
from ._standard import standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from typing import Any

_process = standard('process')

# The package's function; `None`: it is not installed, or nobody has looked.
_set_title: 'Any' = None
_has_looked = False
# The name that was set here, or in the process that this one was forked from.
_name: 'bytes | None' = None


def look() -> bool:
    """Looks for `setproctitle`; returns whether it is there. Parents look, so that each child is
    spared it.
    """
    global _set_title, _has_looked
    if not _has_looked:
        _has_looked = True
        try:
            from setproctitle import setproctitle as _set_title
        except ImportError:
            # It is an optional package, or broken: names remain.
            return False
    return _set_title is not None


def show(title: str, name: str) -> None:
    """Has this process shown by `title`, or by the first 15 bytes of `name`."""
    global _name
    if _is_named_by_program():
        return
    if _set_title is None:
        _engine.set_process_name(name)
    else:
        _set_title(f'procession {title}')
    _name = _engine.process_name()


def prepare_to_show(process: 'Any') -> None:
    """In a parent that forks: puts into the process what shows the child there. It is one call, as
    each function that a forked child calls is a page of its parent's to copy.
    """
    if _is_named_by_program():
        process._shown = None, None
    elif _set_title is None:
        process._shown = _engine.set_process_name, _short_name_of(process)
    else:
        process._shown = _set_title, 'procession ' + _title_of(process)


def show_process(process: 'BaseProcess') -> None:
    """In another child: shows the name of its process and its target."""
    show(_title_of(process), _short_name_of(process))


def show_worker(slot: int) -> None:
    """In a worker of a pool: shows its number, and from then on the functions that it runs."""
    if not _is_named_by_program():
        _engine.name_worker(slot, _set_title)


def _is_named_by_program() -> bool:
    name = _engine.process_name()
    if name == _name or name.startswith(b'python'):
        return False
    _, shown = getattr(_process._current_process, '_shown', None) or (None, None)
    if shown is not None and name == os.fsencode(shown)[:15]:
        return False
    # As it is when a program is executed.
    return name not in [os.fsencode(os.path.basename(path))[:15] for path in (sys.executable, *sys.argv[:1]) if path]


def _short_name_of(process: 'BaseProcess') -> str:
    kind = type(process).__name__ + '-'
    # The start method's name would leave no room for the number.
    return 'Process-' + process.name.removeprefix(kind) if process.name.startswith(kind) else process.name


def _title_of(process: 'Any') -> str:
    target = process._target
    return process.name if target is None else f'{process.name}: {_name_of(target)}'


def _name_of(target: 'Any') -> str:
    try:
        return f'{target.__module__}.{target.__qualname__}'
    except Exception:
        # A partial or another object, whose attributes may be computed, and may raise anything.
        return f'{type(target).__module__}.{type(target).__qualname__}'
