"""The start of an interpreter for a child: what it does before its target, and what its parent
tells it. Any thread of the parent uses the parent's half. The child's only thread uses the child's
half, from :func:`spawn_main` on.
"""

import os
import sys

from . import _start_method, _titles, process
from ._engine import Link
from ._hooks import is_original
from ._standard import loaded, standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike
    from types import ModuleType
    from typing import Any, Final

__all__ = [
    '_main',
    'freeze_support',
    'set_executable',
    'get_executable',
    'get_preparation_data',
    'get_command_line',
    'import_main_path',
]

WINEXE: 'Final[bool]' = False
WINSERVICE: 'Final[bool]' = False

#: The number of the child's end of its link: the first after the standard streams.
LINK: 'Final[int]' = 3

# The first argument of a frozen program that is executed for a child; the name of the function that
# the child calls is the second. What the standard library has for it is not ours: Nuitka's programs
# and PyInstaller's act on that themselves.
_FROZEN_CHILD = '--procession-fork'

#: The main modules that :func:`prepare` has replaced.
old_main_modules: 'list[ModuleType]' = []

_TRACKERS = 'resource_tracker'
# The keys of preparation data that this package sets itself.
_OWN_DATA = {
    'authkey',
    'dir',
    'init_main_from_name',
    'init_main_from_path',
    'log_level',
    'log_to_stderr',
    'name',
    'orig_dir',
    'start_method',
    'sys_argv',
    'sys_path',
}
# The place of this package, for children that would not find it by `sys.path` before they are told
# the parent's.
_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_python_exe: 'bytes | None' = None if sys.executable is None else os.fsencode(sys.executable)
_inherited_fds: 'list[int] | None' = None


def set_executable(exe: 'str | bytes | PathLike[str] | None') -> None:
    """Sets the Python that is executed for children, in place of `sys.executable`."""
    global _python_exe
    _python_exe = exe if exe is None else os.fsencode(exe)


def get_executable() -> 'bytes | None':
    """Returns the path of the Python that is executed for children, as bytes."""
    return _python_exe


def is_forking(argv: 'Sequence[str]') -> bool:
    """Returns whether a command line is that of a child."""
    return len(argv) >= 2 and argv[1] == '--multiprocessing-fork'


def freeze_support() -> None:
    """In the main module of a frozen program: does the work of a child, of a fork server or of a
    resource tracker if this process is one, and does not return then.

    Call it first under the main guard. A frozen program is executed again for each of these
    processes, under each start method; the standard library asks for the call on Windows alone.

    ::

        if __name__ == '__main__':
            procession.freeze_support()
            main()

    Children and trackers that the standard library starts are served too.
    """
    if is_forking(sys.argv):
        standard('spawn').spawn_main(**_terms(sys.argv[2:]))
        sys.exit()
    if _is_frozen_child(sys.argv):
        module, _, function = sys.argv[2].partition('.')
        __import__(f'{__package__}.{module}')
        getattr(sys.modules[f'{__package__}.{module}'], function)(**_terms(sys.argv[3:]))
        sys.exit()
    program = _helper_program(sys.argv)
    if _is_frozen() and program is not None:
        exec(program, {'__name__': '__main__'})
        sys.exit()


def _is_frozen() -> bool:
    # Nuitka marks each module that it has compiled.
    return getattr(sys, 'frozen', False) or '__compiled__' in globals()


def _is_frozen_child(argv: 'Sequence[str]') -> bool:
    return argv[1:2] == [_FROZEN_CHILD]


def _terms(arguments: 'Sequence[str]') -> 'dict[str, Any]':
    terms = (argument.split('=') for argument in arguments)
    return {name: None if value == 'None' else int(value) for name, value in terms}


def _helper_program(argv: 'Sequence[str]') -> 'str | None':
    """Returns what a tracker or a fork server of the standard library's is to execute, by its
    command line; else `None`.
    """
    for option, program in zip(argv[1:], argv[2:]):
        if option == '-c' and program.startswith(('from multiprocessing.', 'import sys; from multiprocessing.')):
            return program
    return None


def check_not_repeated() -> None:
    """Raises `RuntimeError` in a frozen program that runs again in the place of a child: each run
    would start another.
    """
    argv = sys.argv
    if _is_frozen() and (is_forking(argv) or _is_frozen_child(argv) or _helper_program(argv) is not None):
        raise RuntimeError(
            'this frozen program was executed for a child process and runs as a whole instead. Call procession.freeze_support() first '
            "under `if __name__ == '__main__':` in its main module"
        )


def get_command_line(**kwds: 'Any') -> 'list[str]':
    """Returns the command of a child which calls :func:`spawn_main` with these arguments."""
    return command_line('spawn.spawn_main', **kwds)


def command_line(entry: str, **kwds: 'Any') -> 'list[str]':
    """Returns the command that starts an interpreter which calls `entry`, a function of a module of
    this package, and imports no more for it than it must.
    """
    terms = [f'{name}={value!r}' for name, value in kwds.items()]
    # The path is bytes, which the standard library declares a string.
    command: list[Any]
    if _is_frozen():
        check_not_repeated()
        command = [get_executable(), _FROZEN_CHILD, entry, *terms]
        return command
    from .util import _args_from_interpreter_flags

    module, _, function = entry.partition('.')
    # The current folder is not the program's: what lies there is imported only if the parent's
    # path, which comes later, says so. This package's folder may be on the path for the parent
    # alone, and must not come before anything of the child's.
    program = (
        f"import sys; sys.path[:1] = sys.path[:1] * (sys.path[:1] != ['']); sys.path.append({_FOLDER!r}); "
        f'from procession.{module} import {function}; {function}({", ".join(terms)})'
    )
    args = _args_from_interpreter_flags()
    for name, value in sys._xoptions.items():
        option = name if value is True else f'{name}={value}'
        if option not in args:
            args += ['-X', option]
    command = [get_executable(), *args, '-c', program, '--multiprocessing-fork']
    return command


def spawn_main(pipe_handle: int, parent_pid: 'int | None' = None, tracker_fd: 'int | None' = None) -> None:
    """In an interpreter started for a child: does all of the child's work, and exits with its exit
    code.
    """
    assert is_forking(sys.argv) or _is_frozen_child(sys.argv), 'Not forking'
    import atexit
    import gc

    # The first that is registered runs last.
    atexit.register(process._end_helpers)
    # The objects imported so far stay to the end, where the collector would go through all of them,
    # for milliseconds.
    gc.freeze()
    sys.exit(_main(inherited_link(pipe_handle)))


def inherited_link(number: int) -> Link:
    """In an executed process: its end of the link to its parent, which it was given under this
    number.
    """
    if number == LINK:
        return Link.inherited()
    link = Link.of_fd(number)
    os.close(number)
    return link


def hear_interrupts() -> None:
    """In an executed child, where SIGINT is blocked: from now on a Ctrl-C means this process. One
    that came before did not.
    """
    import _signal

    handler = _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGINT])
    _signal.signal(_signal.SIGINT, handler)


def _main(link: Link, begin: 'Callable[[], object]' = hear_interrupts) -> int:
    """In the child: prepares it by what came on its link and runs its process object; returns the
    exit code. `begin` has it hear Ctrl-C once it does its work.
    """
    global _inherited_fds
    import _pickle
    import io

    received = link.receive()
    if received is None:
        # The parent is gone, and nobody is left to tell.
        return 1
    content, (parent_sentinel, *_inherited_fds) = received
    process._tie(link, begin)
    message = io.BytesIO(content)
    setting, logs = _pickle.load(message), None
    if setting is not None:
        from . import _output

        *_, logs = setting
        _inherited_fds = _output.enter_executed(setting, _inherited_fds, link)
    current: Any = process.current_process()
    current._inheriting = True
    data: dict[str, Any] = {}
    try:
        data = _pickle.load(message)
        if data.get('slot') is not None:
            # Before anything of the program is imported.
            process._become_worker(data['slot'])
            if data['place'] is not None:
                data['place'].enter()
        _use_trackers(data.pop('trackers'), _inherited_fds)
        prepare(data)
        self: Any = _pickle.load(message)
        if logs is not None:
            from . import _logs

            # Modules of the program may have given loggers handlers, as in their parent.
            _logs.begin(logs)
    except Exception as error:
        _leave_unbegun(error, data)
        return 1
    finally:
        del current._inheriting
    exitcode: int = self._bootstrap(parent_sentinel)
    return exitcode


def _leave_unbegun(error: Exception, data: 'Mapping[str, Any]') -> None:
    """In a child that cannot be prepared: says why. A pool's worker says it to its parent alone,
    where it may be one of many.
    """
    from . import _tracebacks

    if data.get('is_worker'):
        _tracebacks.annotate(error, 'before it began')
    else:
        _tracebacks.show(data.get('name', '?'), error)
    process._leave_outcome('raised', _tracebacks.cut(error))


def get_inherited_fds() -> 'list[int] | None':
    """In a child: the file descriptors that came with its process object; elsewhere `None`."""
    return _inherited_fds


def _use_trackers(places: 'Mapping[str, int]', inherited: 'Sequence[int]') -> None:
    # The first of those sent is not among these.
    fds = {name: inherited[place - 1] for name, place in places.items()}
    if 'multiprocessing' in fds:
        standard(_TRACKERS)._resource_tracker._fd = fds['multiprocessing']
    if 'procession' in fds:
        from . import resource_tracker

        resource_tracker._resource_tracker.inherit(fds['procession'])


def _check_not_importing_main() -> None:
    if getattr(process.current_process(), '_inheriting', False):
        from ._tracebacks import UNGUARDED

        advice = "Put the code that starts them under `if __name__ == '__main__':` in the main module"
        raise RuntimeError(f'{UNGUARDED} {advice}')


def get_preparation_data(name: str) -> 'dict[str, Any]':
    """Returns what a child of this process, of this name, has to know before it can unpickle
    anything of the program.
    """
    _check_not_importing_main()
    from . import util

    first = process.ORIGINAL_DIR
    data: dict[str, Any] = {
        'log_to_stderr': util._log_to_stderr,
        'authkey': process.current_process().authkey,
        'name': name,
        'sys_path': list(sys.path),
        'sys_argv': sys.argv,
        'orig_dir': first,
        'start_method': _start_method.chosen(),
    }
    try:
        data['dir'] = os.getcwd()
    except FileNotFoundError:
        # It was removed. A child that is executed is there all the same.
        pass
    if '' in sys.path and first is not None:
        data['sys_path'][sys.path.index('')] = first
    if util._logger is not None:
        data['log_level'] = util._logger.getEffectiveLevel()
    data.update(_main_data())
    alias = sys.modules.get('procession._alias')
    if alias is not None and alias.installed:
        data['alias'] = True
    if _titles.look():
        data['titles'] = True
    return {**_tools_data(name), **data}


def _tools_data(name: str) -> 'dict[str, Any]':
    """Returns what a tool adds to a child's preparation data, by a function that it has put in the
    place of the standard library's. Coverage adds an object that begins to measure when it is
    unpickled.
    """
    module = loaded('spawn')
    if module is None or is_original(module.get_preparation_data, module.is_forking):
        return {}
    data = module.get_preparation_data(name)
    return {key: value for key, value in data.items() if key not in _OWN_DATA}


def finds_main() -> bool:
    """Returns whether a child that is executed now can import the main module, and so finds by name
    what is in it.
    """
    data = _main_data()
    if 'init_main_from_name' in data:
        return not _is_left_alone(data['init_main_from_name'])
    return 'init_main_from_path' in data


def _is_left_alone(name: str) -> bool:
    # The main module of a package, a folder or an archive does its work whenever it is run.
    return name == '__main__' or name.endswith('.__main__')


def _main_data() -> 'dict[str, str]':
    """By what a child finds the main module: its name, if it has one as a module, else its path, if
    it has one.
    """
    main = sys.modules['__main__']
    # A debugger's has no `__spec__`, and one whose main thread has ended no `__file__`.
    name = getattr(getattr(main, '__spec__', None), 'name', None)
    if name is not None:
        return {'init_main_from_name': name}
    path = getattr(main, '__file__', None)
    # A program from standard input says `<stdin>`.
    if path is None or path == '<stdin>':
        return {}
    if not os.path.isabs(path) and process.ORIGINAL_DIR is not None:
        path = os.path.join(process.ORIGINAL_DIR, path)
    return {'init_main_from_path': os.path.normpath(path)}


def prepare(data: 'Mapping[str, Any]') -> None:
    """In the child: gets it ready to unpickle its process object, by what
    :func:`get_preparation_data` returned.
    """
    if data.get('alias'):
        from . import _alias

        _alias.install()
    if data.get('titles'):
        _titles.look()
    current = process.current_process()
    if 'name' in data:
        current.name = data['name']
    if 'authkey' in data:
        current.authkey = data['authkey']
    if data.get('log_to_stderr'):
        standard('util').log_to_stderr()
    if 'log_level' in data:
        standard('util').get_logger().setLevel(data['log_level'])
    if 'sys_path' in data:
        sys.path = data['sys_path']
    if 'sys_argv' in data:
        sys.argv = data['sys_argv']
    if 'dir' in data:
        os.chdir(data['dir'])
    if 'orig_dir' in data:
        module: Any = standard('process')
        module.ORIGINAL_DIR = data['orig_dir']
    if 'start_method' in data:
        _start_method.force(data['start_method'])
    if 'init_main_from_name' in data:
        _fixup_main_from_name(data['init_main_from_name'])
    elif 'init_main_from_path' in data:
        _fixup_main_from_path(data['init_main_from_path'])


def import_main_path(main_path: str) -> None:
    """Has the file at `main_path` be the main module of this child, without what it keeps under the
    usual guard.
    """
    _fixup_main_from_path(main_path)


def _fixup_main_from_name(mod_name: str) -> None:
    main = sys.modules['__main__']
    if _is_left_alone(mod_name):
        return
    if getattr(main.__spec__, 'name', None) == mod_name:
        return
    import runpy

    _replace_main(runpy.run_module(mod_name, run_name='__mp_main__', alter_sys=True))


def _fixup_main_from_path(main_path: str) -> None:
    main = sys.modules['__main__']
    # IPython's launcher was long one without the usual guard.
    if os.path.splitext(os.path.basename(main_path))[0] == 'ipython':
        return
    if getattr(main, '__file__', None) == main_path:
        return
    if os.path.isfile(main_path) and main_path.endswith('.py'):
        _run_script(main_path)
        return
    import runpy

    _replace_main(runpy.run_path(main_path, run_name='__mp_main__'))


def _run_script(path: str) -> None:
    """Runs a script as `__mp_main__`, as `runpy` would, without what that imports for folders and
    archives.
    """
    import io

    with io.open_code(path) as file:
        code = compile(file.read(), path, 'exec', dont_inherit=True)
    module = type(sys)('__mp_main__')
    module.__dict__.update(__file__=path, __package__='')
    if sys.version_info < (3, 15):
        module.__dict__['__cached__'] = None
    before, argument = sys.modules.get('__mp_main__'), sys.argv[:1]
    sys.modules['__mp_main__'] = module
    sys.argv[:1] = [path]
    try:
        exec(code, module.__dict__)
    except BaseException:
        sys.modules['__mp_main__'] = before or sys.modules['__main__']
        raise
    finally:
        sys.argv[:1] = argument
    old_main_modules.append(sys.modules['__main__'])
    sys.modules['__main__'] = module


def _replace_main(content: 'Mapping[str, Any]') -> None:
    module = type(sys)('__mp_main__')
    module.__dict__.update(content)
    old_main_modules.append(sys.modules['__main__'])
    sys.modules['__main__'] = sys.modules['__mp_main__'] = module
