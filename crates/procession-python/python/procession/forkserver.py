"""The fork server: a small clean process that has imported the program's main module and forks a
child for each start. The class is used in its owner, by any thread; :func:`main` is the server.

The engine is the server's client: it asks for children, and has the server started anew when it is
lost. The owner reaches the server by a private pair of sockets that nobody else can name or open.
The server makes its children by `os.fork`, reaps them and reports their exit codes to its owner.
Each child tells the owner itself who it is, so each death is unambiguous. If the server is killed,
its children live on. It ends with its owner, and by Python's own rules it has one thread.
"""

from __future__ import annotations

import os
import posix
import signal
import sys

from . import _spawning, _titles, process, spawn
from ._engine import (
    Link,
    Server,
    ensure_server,
    flush_stdio,
    pidfd_of_self,
    server_pid,
    start_by_server,
    stop_server,
)
from ._execution import execute
from ._standard import loaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ._engine import Child

__all__ = ['ensure_running', 'get_inherited_fds', 'connect_to_new_process', 'set_forkserver_preload']

# The server's exit code if preloaded modules have started threads: it could not be forked safely.
_HAS_THREADS = 75


class ForkServer:
    """The server of a process, which starts with the first child that is asked of it."""

    _forkserver_address = None

    def __init__(self) -> None:
        self._preload_modules = ['__main__']
        self._preload = True
        self._server: Any = None

    def set_forkserver_preload(self, modules_names: list[str]) -> None:
        """Sets the names of the modules that the server imports at its start; `'__main__'` is the
        main module.

        Without a call it is the main module alone. An `ImportWarning` names each module that cannot
        be imported. If a module starts threads, none is preloaded: each child then imports what it
        needs.
        """
        if not all(type(name) is str for name in modules_names):
            raise TypeError('module_names must be a list of strings')
        self._preload_modules = modules_names
        self._preload = True

    def get_inherited_fds(self) -> list[int] | None:
        """In a child: the file descriptors that came with its process object; elsewhere `None`."""
        return spawn.get_inherited_fds()

    @property
    def _forkserver_pid(self) -> int | None:
        return server_pid()

    def connect_to_new_process(
        self,
        holder: object,
        attribute: str,
        letter: bytes,
        fds: Sequence[int],
        name: str,
        daemon: bool,
        leads_group: bool = False,
    ) -> None:
        """Has the server make a child that reads `letter` and gets copies of the file descriptors
        `fds`. The engine's hold of it becomes that attribute of `holder`. The standard library's
        method takes the file descriptors and returns two pipes.
        """
        start_by_server(self._start, holder, attribute, letter, fds, name, daemon, leads_group)

    def ensure_running(self) -> None:
        """Starts the server unless it runs. Processes that this one starts have their own."""
        ensure_server(self._start)

    def _start(self, code: int | None) -> tuple[Child, Link]:
        """Starts a server, for one thread at a time. `code` is the exit code of the server before
        it, if that is known. Returns the server and the owner's end of its link.
        """
        if code == _HAS_THREADS:
            self._preload = False
        preload = self._preload_modules if self._preload else []
        data = spawn.get_preparation_data('forkserver') if preload else {}
        kept = ('alias', 'sys_path', 'sys_argv', 'dir', 'orig_dir', 'init_main_from_name', 'init_main_from_path', 'titles')
        data = {key: value for key, value in data.items() if key in kept}
        requests, theirs = Link.pair()
        ours, own = Link.pair()
        passed = theirs.detach()
        try:
            # The parts of the package that children import are imported once.
            names = [
                *preload,
                *(name for name in ('procession.context', 'procession.pool', 'procession._workers') if name in sys.modules),
            ]
            ours.send(bytes(_spawning.reducer.ForkingPickler.dumps((names, data))), [pidfd_of_self(), passed])
        finally:
            os.close(passed)
        # If a handler raises right after the start, the server ends with `requests`.
        execute(self, '_server', 'forkserver.main', ours, own, 'forkserver', True)
        return self._server, requests

    def _stop(self) -> None:
        stop_server()


def main(pipe_handle: int) -> None:
    """The server's life, in a process started for it. It ends when its owner closes its requests,
    or is killed with its owner.
    """
    import _pickle
    import atexit  # noqa: F401 - each child uses it

    # A child that returns a value needs it. Imported here, it is imported once.
    from . import _outcome  # noqa: F401

    # A Ctrl-C is for the program.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    own = spawn.inherited_link(pipe_handle)
    received = own.receive()
    if received is None:
        return
    own.tie()
    letter, fds = received
    _parent, number = fds
    requests = Link.of_fd(number)
    for fd in fds:
        os.close(fd)
    preload, data = _pickle.loads(letter)
    if data.get('titles'):
        _titles.look()
    _titles.show('fork server', 'fork server')
    _preload(preload, data)
    # Debuggers and profilers put a function of theirs in the place of `os.fork`, and look after
    # their threads themselves.
    if len(os.listdir('/proc/self/task')) > 1 and os.fork is posix.fork:
        os._exit(_HAS_THREADS)
    _leave_generators_to_children()
    process._close_stdin()
    server = Server(requests)
    while (request := server.next_request()) is not None:
        link, leads_group = request
        # Or each child would write it too.
        process._flush_std_streams()
        flush_stdio()
        try:
            pid = os.fork()
            if pid == 0:
                _serve_one(link, server, own, handler)
            server.keep_child(pid, link, leads_group)
        except OSError as error:
            link.say_failure(str(error))


def _preload(names: Sequence[str], data: Mapping[str, Any]) -> None:
    """Imports the modules that children want. A module that fails here fails in the child too,
    which tells of it.
    """
    if not names:
        return
    path = data.get('init_main_from_path')
    by_name = data.get('init_main_from_name')
    spawn.prepare({key: value for key, value in data.items() if not key.startswith('init_main')})
    for name in ['__main__'] * ('__main__' in names) + [name for name in names if name != '__main__']:
        current: Any = process.current_process()
        current._inheriting = True
        try:
            if name != '__main__':
                __import__(name)
            elif by_name is not None:
                spawn._fixup_main_from_name(by_name)
            elif path is not None:
                spawn._fixup_main_from_path(path)
        except (Exception, SystemExit) as error:
            import warnings

            text = f'the fork server cannot preload {name}: {type(error).__name__}: {error}'
            warnings.warn(text, ImportWarning, stacklevel=1)
        finally:
            del current._inheriting


def _leave_generators_to_children() -> None:
    """Has each child run the main module itself if that uses numpy's random numbers: its generators
    would give each child the same numbers. The modules that it imports stay imported.
    """
    if 'numpy.random' in sys.modules and spawn.old_main_modules:
        sys.modules['__main__'] = sys.modules['__mp_main__'] = spawn.old_main_modules.pop()


def _serve_one(link: Link, server: Server, own: Link, handler: Any) -> None:
    """In a child: everything, to its end."""
    import atexit

    code, is_own = 1, False
    try:
        # The server's callbacks are not the child's.
        atexit._clear()
        is_own = True
        server.leave()
        own.close()
        try:
            link.say_hello()
        except BrokenPipeError:
            # A handler has ended the wait for this child, and nobody wants it.
            return
        util = loaded('util')
        if util is not None:
            atexit.register(util._exit_function)
        generators = sys.modules.get('numpy.random')
        if generators is not None:
            # The one that belongs to numpy itself. The main module may seed it.
            generators.seed()
        code = spawn._main(link, lambda: signal.signal(signal.SIGINT, handler))
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            if is_own:
                atexit._run_exitfuncs()
                process._end_helpers()
            process._flush_std_streams()
            flush_stdio()
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)


_forkserver = ForkServer()
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
connect_to_new_process = _forkserver.connect_to_new_process
set_forkserver_preload = _forkserver.set_forkserver_preload
