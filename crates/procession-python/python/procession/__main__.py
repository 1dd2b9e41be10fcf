"""``python -m procession PROGRAM``: runs an unmodified program, whose ``import multiprocessing``
procession answers.

::

    python -m procession script.py args...      a script, or a folder or archive with a __main__.py
    python -m procession -m module args...      a module
    python -m procession -c code args...        a line of code
    python -m procession --context ray ...      the same, on a cluster: see docs/scale
    python -m procession top [PID]              shows what the pools of running programs do

The program is `__main__` and sees `sys.argv`, `sys.path` and its own `__file__` and `__spec__` as
if Python itself had run it; so do its children find its main module. Runs in the main thread,
before the program; the program then runs inside it.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import io
import os
import pkgutil
import runpy
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

__all__ = ['main']

USAGE = 'usage: python -m procession [--context NAME] [-c code | -m module | script] [argument ...]\n       python -m procession top [PID]'


def main(arguments: Sequence[str]) -> None:
    """Runs the program that `arguments` name, with the arguments that follow it, and ends with it.

    `SystemExit` is raised as the program raises it, and with code 1 after an exception that it does
    not catch; with code 2 without a program.
    """
    if arguments[:1] == ['top']:
        # A program of its own; a script of this name is run as `./top`.
        from ._top import main as top

        sys.exit(top(list(arguments[1:])))
    from . import _alias

    if arguments[:1] == ['--context']:
        # Read where the default context is made, and by no child.
        os.environ['PROCESSION_CONTEXT'] = arguments[1] if len(arguments) > 1 else ''
        arguments = arguments[2:]
    if os.environ.get('PROCESSION_CONTEXT') == 'mpi':
        from .remote._mpi_rank import serve_unless_first

        serve_unless_first()
    _alias.install()
    run_program(arguments)


def run_program(arguments: Sequence[str]) -> None:
    """Runs the program that `arguments` name, with the arguments that follow it."""
    run = _runner(arguments)
    try:
        run()
    except Exception as error:
        _show(error)
        sys.exit(1)


def _runner(arguments: Sequence[str]) -> Callable[[], None]:
    match arguments:
        case ['-h' | '--help', *_]:
            print(USAGE)
            sys.exit(0)
        case ['-c', code, *rest]:
            sys.argv[:] = ['-c', *rest]
            return lambda: _run_code(code)
        case ['-m', name, *rest]:
            # The place of the module is filled in when it is found, as Python does.
            sys.argv[:] = ['-m', *rest]
            return lambda: _run_module(name)
        case [path, *rest] if not path.startswith('-'):
            sys.argv[:] = [path, *rest]
            return lambda: _run_path(path)
        case _:
            problem = ' '.join(['not to be run:', *arguments[:1]]) if arguments else 'a program to run is missing'
            print(f'{USAGE}\n{problem}', file=sys.stderr)
            sys.exit(2)


def _run_code(code: str) -> None:
    if sys.version_info >= (3, 14):
        # As `python -c` does since then.
        from textwrap import dedent

        code = dedent(code)
    _set_first_path('')
    module = _new_main(importlib.machinery.BuiltinImporter)
    exec(compile(code, '<string>', 'exec', dont_inherit=True), module.__dict__)


def _run_module(name: str) -> None:
    _new_main(None)
    # It runs a module as Python itself does, and is undeclared.
    runpy._run_module_as_main(name)  # type: ignore[attr-defined]


def _run_path(path: str) -> None:
    absolute = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    # An archive or a folder has an importer; a script's own folder comes first where the importer's
    # would.
    if pkgutil.get_importer(absolute) is not None:
        _set_first_path(absolute, always=True)
        _new_main(None)
        runpy._run_module_as_main('__main__', False)  # type: ignore[attr-defined]
        return
    _set_first_path(os.path.dirname(os.path.realpath(path)))
    try:
        code, loader = _compiled(absolute)
    except OSError as error:
        problem = f'[Errno {error.errno}] {error.strerror}'
        print(f"{sys.executable}: can't open file {absolute!r}: {problem}", file=sys.stderr)
        sys.exit(2)
    module = _new_main(loader('__main__', absolute))
    module.__file__ = absolute
    if sys.version_info < (3, 15):
        module.__cached__ = None
    exec(code, module.__dict__)


def _compiled(path: str) -> tuple[types.CodeType, Any]:
    with io.open_code(path) as file:
        code = pkgutil.read_code(file)
    if code is not None:
        return code, importlib.machinery.SourcelessFileLoader
    with io.open_code(path) as file:
        source = file.read()
    return compile(source, path, 'exec', dont_inherit=True), importlib.machinery.SourceFileLoader


def _new_main(loader: Any) -> Any:
    module: Any = types.ModuleType('__main__')
    module.__loader__ = loader
    module.__builtins__ = builtins
    if sys.version_info < (3, 14):
        module.__annotations__ = {}
    sys.modules['__main__'] = sys.modules['__mp_main__'] = module
    return module


def _set_first_path(path: str, always: bool = False) -> None:
    # Python has put the current folder there for `-m procession`, unless it was told to put
    # nothing.
    if not sys.flags.safe_path:
        sys.path[0] = path
    elif always:
        sys.path.insert(0, path)


def _show(error: Exception) -> None:
    """Shows an uncaught exception as Python does: without the frames of this module, and of what it
    was run by.
    """
    traceback = error.__traceback__
    while traceback is not None and _is_ours(traceback.tb_frame):
        traceback = traceback.tb_next
    error.__traceback__ = traceback
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, traceback
    sys.last_exc = error  # type: ignore[attr-defined, unused-ignore]
    sys.excepthook(type(error), error, traceback)


def _is_ours(frame: types.FrameType) -> bool:
    return frame.f_globals is globals()


if __name__ == '__main__':
    # The module that Python made `__main__` of is kept: it is this module, whose functions run
    # while the program does.
    _keep = sys.modules['__main__']
    main(sys.argv[1:])
