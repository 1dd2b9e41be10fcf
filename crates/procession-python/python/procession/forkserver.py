"""The fork server: a small clean process that has imported the program's main module and forks a child for each start.
The class is used in its owner, by any thread; :func:`main` is the server.

The owner reaches it by a private pair of sockets that nobody else can name or open. Its children are made by `os.fork`; it
reaps them and reports their exit codes to its owner. A child says itself to its owner who it is, so each death is
unambiguous: a server that is killed is started anew by the next start, and its children live on. It ends with its
owner, and by Python's own rules it has one thread.
"""

import os
import signal
import sys
import threading

from . import _spawning, process, spawn
from ._engine import Child, Link, Server, flush_stdio, pidfd_of_self
from ._standard import loaded

__all__ = ['ensure_running', 'get_inherited_fds', 'connect_to_new_process', 'set_forkserver_preload']

_TRIES = 3
# Seconds that a process which leaves waits for a thread that is starting another.
_STOP_TIMEOUT = 1.0
# What the server leaves with when its preloaded modules have started threads: it could not be forked safely.
_HAS_THREADS = 75


class ForkServer:
    """A process's server, which starts with the first child that is asked of it."""

    def __init__(self):
        self._preload_modules = ['__main__']
        self._preload = True
        self._forget()

    def _forget(self):
        self._lock = threading.Lock()
        self._server = None
        self._requests = None
        self._forkserver_alive_fd = None
        self._forkserver_address = None

    def set_forkserver_preload(self, modules_names):
        """Sets the names of the modules that the server imports at its start; `'__main__'` is the main module.

        Without a call it is the main module alone. A module that does not import is told of by an `ImportWarning`.
        Modules that start threads cannot be preloaded, and with them none is: each child then imports what it needs.
        """
        if not all(type(name) is str for name in modules_names):
            raise TypeError('module_names must be a list of strings')
        self._preload_modules = modules_names
        self._preload = True

    def get_inherited_fds(self):
        """In a child: the file descriptors that came with its process object; elsewhere `None`."""
        return spawn.get_inherited_fds()

    @property
    def _forkserver_pid(self):
        return None if self._server is None else self._server.pid

    def connect_to_new_process(self, holder, attribute, letter, fds, name, daemon):
        """Has the server make a child that reads `letter` and gets copies of the file descriptors `fds`. The engine's hold of it
        becomes that attribute of `holder`. The standard library's takes the file descriptors and returns two pipes.
        """
        with self._lock:
            for _ in range(_TRIES):
                self._ensure_running()
                ours, theirs = Link.pair()
                ours.send(letter, fds)
                if self._requests.ask(theirs):
                    try:
                        if Child.answered(holder, attribute, ours, self._server, name, daemon):
                            return
                    except BaseException:
                        # What a handler raised, as a rule. The child, if it comes, is nobody's.
                        ours.close()
                        raise
                    if self._server.poll() is None:
                        how = 'each child was killed before it began'
                        continue
                code = self._end()
                how = f'it ended with exit code {code}'
                if code == _HAS_THREADS:
                    self._preload = False
            raise RuntimeError(f'the fork server could not start a process in {_TRIES} attempts: {how}')

    def ensure_running(self):
        """Starts the server unless it runs. Processes that this one starts have their own."""
        with self._lock:
            self._ensure_running()

    def _ensure_running(self):
        if self._server is not None:
            if self._server.poll() is None:
                return
            self._end()
        preload = self._preload_modules if self._preload else []
        data = spawn.get_preparation_data('forkserver') if preload else {}
        kept = ('alias', 'sys_path', 'sys_argv', 'dir', 'orig_dir', 'init_main_from_name', 'init_main_from_path')
        data = {key: value for key, value in data.items() if key in kept}
        requests, theirs = Link.pair()
        ours, own = Link.pair()
        passed = theirs.detach()
        try:
            # What children import of the package is imported once.
            names = [*preload, *(name for name in ('procession.context', 'procession.pool') if name in sys.modules)]
            ours.send(bytes(_spawning.reducer.ForkingPickler.dumps((names, data))), [pidfd_of_self(), passed])
        finally:
            os.close(passed)
        command = spawn.command_line('from procession.forkserver import main; main()')
        command = [os.fsencode(part) for part in command]
        # Before the server, as a handler may raise right after its start.
        self._requests, self._forkserver_alive_fd = requests, requests.fileno()
        Child.executed(self, '_server', command[0], command, ours, own, 'forkserver', True)

    def _stop(self):
        # At the end of a process another thread may still wait for the server's answer. Then the server ends with its owner.
        if not self._lock.acquire(timeout=_STOP_TIMEOUT):
            return
        try:
            if self._server is not None:
                self._end()
        finally:
            self._lock.release()

    def _end(self):
        """Lets the server end, which it does without requests, and returns its exit code."""
        server = self._server
        self._requests.close()
        code = server.wait(1.0)
        if code is None:
            server.signal(signal.SIGKILL)
            code = server.wait(5.0)
        self._server = self._requests = self._forkserver_alive_fd = None
        return code


def main():
    """The server's life, in a process started for it. It ends when its owner closes its requests, or is killed with it.
    """
    import atexit  # noqa: F401: each child uses it
    import _pickle

    # A child that returns a value needs it. Imported here, it is imported once.
    from . import _outcome  # noqa: F401

    # A Ctrl-C is for the program.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    own = Link.inherited()
    received = own.receive()
    if received is None:
        return
    own.tie()
    letter, fds = received
    _parent, requests = fds
    requests = Link.of_fd(requests)
    for fd in fds:
        os.close(fd)
    preload, data = _pickle.loads(letter)
    _preload(preload, data)
    if len(os.listdir('/proc/self/task')) > 1:
        os._exit(_HAS_THREADS)
    _leave_generators_to_children()
    process._close_stdin()
    server = Server(requests)
    while (link := server.next_request()) is not None:
        # Or each child would write it too.
        process._flush_std_streams()
        flush_stdio()
        try:
            pid = os.fork()
            if pid == 0:
                _serve_one(link, server, own, handler)
            server.keep_child(pid, link)
        except OSError as error:
            link.say_failure(str(error))


def _preload(names, data):
    """Imports what children will want. What fails here fails in the child that wants it, and is told there."""
    if not names:
        return
    path = data.get('init_main_from_path')
    by_name = data.get('init_main_from_name')
    spawn.prepare({key: value for key, value in data.items() if not key.startswith('init_main')})
    for name in ['__main__'] * ('__main__' in names) + [name for name in names if name != '__main__']:
        process.current_process()._inheriting = True
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
            del process.current_process()._inheriting


def _leave_generators_to_children():
    """Has each child run the main module itself if that uses numpy's random numbers: what it has made a generator of would give each
    child the same numbers. What it imports stays imported.
    """
    if 'numpy.random' in sys.modules and spawn.old_main_modules:
        sys.modules['__main__'] = sys.modules['__mp_main__'] = spawn.old_main_modules.pop()


def _serve_one(link, server, own, handler):
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

# The server is its owner's alone.
os.register_at_fork(after_in_child=_forkserver._forget)
