"""Processes as their parent and they themselves see them. Used in any process, from any thread;
:meth:`BaseProcess._bootstrap` in a child, by its only thread.

Which process this is, which parent and which children it has, is kept where the standard library
keeps it: there is one answer, whichever package is asked. A child imports this module before its
target, so it imports little itself.
"""

import itertools
import os
import sys
import threading

from . import _titles
from ._hooks import is_original
from ._standard import loaded, standard
from ._start_method import force as force_start_method

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from multiprocessing.process import (
        BaseProcess as _BaseProcess,
        active_children as active_children,
        current_process as current_process,
        parent_process as parent_process,
    )
    from types import ModuleType
    from typing import Any, Literal, TextIO

    from ._engine import Line, Link

    # Typeshed does not declare all that is used of it here.
    _standard: Any
    ORIGINAL_DIR: str | None

    class _ParentProcessBase(_BaseProcess):
        _sentinel: int

        def __init__(self, name: str, pid: int, sentinel: int | None) -> None: ...

else:
    _standard = standard('process')
    AuthenticationString = _standard.AuthenticationString
    active_children = _standard.active_children
    current_process = _standard.current_process
    parent_process = _standard.parent_process
    _BaseProcess, _ParentProcessBase = _standard.BaseProcess, _standard._ParentProcess

__all__ = ['BaseProcess', 'current_process', 'current_worker', 'active_children', 'parent_process']

# In a child: its end of the link to its parent, by which it is tied to its parent's life and leaves
# its outcome.
_link: 'Link | None' = None
_link_is_loose = False
# In a worker of a pool: its pid, which its own children do not have, and its slot.
_worker: 'tuple[int, int] | None' = None
# In a child that does not hear Ctrl-C yet: what makes it.
_hear_interrupts: 'Callable[[], object] | None' = None
# In a forked process: the children of its parent.
_others: 'set[Any]' = set()
# The modules that forked children find imported: the shared `util`, and the one that leaves
# outcomes.
_util: 'Any' = None
_outcome: 'ModuleType | None' = None
# The standard input of forked children, opened before: there is time for it in their parent.
_empty_stdin: 'TextIO | None' = None
# The standard library's bootstrap; `None` if a tool had replaced it before.
_plain_bootstrap = _standard.BaseProcess._bootstrap
if not is_original(_plain_bootstrap, _standard._cleanup):
    _plain_bootstrap = None


class BaseProcess(_BaseProcess):
    """A process: its arguments, its start, its end.

    What the standard library's has not: :meth:`result`, and, before 3.14, :meth:`interrupt`. A
    process ends when its parent is killed, daemon or not.

    What it prints, also by C code, goes where `output` says: `'prefix'` prints each line on this
    process's matching stream behind the name of the process, `'null'` drops it, and a function gets
    each line, as an object with `text`, `stream`, `name`, `pid` and `worker`. With `logs`, true or
    a level, what it logs goes through this process's handlers. :meth:`join` returns once all of
    that has come. With `process_group` it leads a process group, so that what it starts ends with
    it::

        process = Process(target=train, output='prefix', logs=True, process_group=True)

    :raises ValueError: there is no such output or level.
    :raises TypeError: the value of a keyword is of another kind.
    """

    if TYPE_CHECKING:
        # Typeshed does not declare them. The first is of any library.
        _popen: Any
        _sentinel: int
        _name: str
        _parent_pid: int
        _parent_name: str
        _target: Callable[..., object] | None
        _args: tuple[Any, ...]
        _kwargs: dict[str, Any]

        def _check_closed(self) -> None: ...

        # Those of its subclasses: the start method, and what starts a process by it.
        _start_method: str | None
        _Popen: Callable[[Any], Any]

        # The types of what follows.
        _slot: int | None
        _place: Any
        _signal_mask: Iterable[int] | None
        _shown: tuple[Callable[[Any], object] | None, Any] | None
        _surroundings: Any

    # True if it is a worker of a pool, which says to its parent why it cannot begin.
    _is_worker = False
    # A worker's slot, and what it has for itself: a `Place`, or nothing.
    _slot = None
    _place = None
    # True if a fresh interpreter imports the program's main module for it.
    _imports_main = True
    # True if a Ctrl-C means the process from its beginning on; otherwise the process says when.
    _hears_interrupts = True
    # The signals that a forked process has blocked, if they are not those of its parent.
    _signal_mask = None
    # The function that shows a forked child, and its argument. See `_titles`.
    _shown = None
    # Its surroundings, by its keywords or its pool's: see `_output`.
    _surroundings = None

    def __init__(
        self,
        group: None = None,
        target: 'Callable[..., object] | None' = None,
        name: 'str | None' = None,
        args: 'Iterable[Any]' = (),
        kwargs: 'Mapping[str, Any]' = {},
        *,
        daemon: 'bool | None' = None,
        output: "Literal['inherit', 'null', 'prefix'] | Callable[[Line], object] | None" = None,
        logs: 'bool | int | str' = False,
        process_group: bool = False,
    ) -> None:
        super().__init__(group, target, name, args, kwargs, daemon=daemon)
        if output is not None or logs is not False or process_group is not False:
            from ._output import Surroundings

            self._surroundings = Surroundings(output, logs, process_group)

    def start(self) -> None:
        """Starts the process, once. A daemonic process may start others too: they end with it.

        :raises AssertionError: it was started before, or is another process's object.
        """
        self._check_closed()
        assert self._popen is None, 'cannot start a process twice'
        assert self._parent_pid == os.getpid(), 'can only start a process object created by current process'
        _standard._cleanup()
        # One of ours notes itself as this object's, and this object among the children.
        popen = self._Popen(self)
        if self._popen is None:
            self._popen, self._sentinel = popen, popen.sentinel
            _standard._children.add(self)
        # They may lead back to this object, which would then be collected late.
        del self._target, self._args, self._kwargs

    def run(self) -> 'Any':
        """Does the work of the process: calls the target, and returns what that returns. May be
        overridden.
        """
        if self._target:
            return self._target(*self._args, **self._kwargs)

    def interrupt(self) -> None:
        """Sends SIGINT, which is `KeyboardInterrupt` in a Python process unless it has a handler of
        its own.

        As :meth:`terminate`; a process that has ended already gets nothing.
        """
        self._check_closed()
        self._popen.interrupt()

    def result(self, timeout: 'float | None' = None) -> 'Any':
        """Waits up to `timeout` seconds for the process to end, and returns what its target (its
        :meth:`run`) returned.

        ::

            process = Process(target=pow, args=(2, 10))
            process.start()
            assert process.result() == 1024

        An exception that ended the target is raised here too, with the traceback of the child as
        its `__cause__`.

        :raises TimeoutError: the process has not ended in time; ask again.
        :raises ProcessLost: it left no result, since it was killed or left by `sys.exit` or
            `os._exit`.
        :raises pickle.PicklingError: the result does not pickle; the process itself did not fail
            for it.
        """
        self._check_closed()
        assert self._parent_pid == os.getpid(), 'can only ask a child process'
        assert self._popen is not None, 'can only ask a started process'
        self.join(timeout)
        return self._popen.result(self._name)

    def _bootstrap(self, parent_sentinel: 'int | None' = None) -> int:
        """Runs the target in the child; returns the exit code. What happens around it is the
        standard library's, and so are the hooks of tools that have replaced its method of this
        name.
        """
        hook = _standard.BaseProcess._bootstrap
        if hook is not _plain_bootstrap:
            return self._bootstrap_by(hook, parent_sentinel)
        exitcode = 1
        try:
            # Written as one: each function that a forked child calls is a page or more of its
            # parent's to copy.
            if self._start_method is not None:
                force_start_method(self._start_method)
            _close_stdin()
            # Kept until the hooks below have run, as they may look at it.
            before = _standard._current_process, _standard._children
            _standard._process_counter = itertools.count(1)
            _standard._children = set()
            _standard._current_process = self
            _standard._parent_process = _ParentProcess(self._parent_name, self._parent_pid, parent_sentinel)
            if threading._HAVE_THREAD_NATIVE_ID:  # type: ignore[attr-defined]
                threading.main_thread()._set_native_id()  # type: ignore[attr-defined]
            self._after_fork()
            del before
            self._run_target()
            exitcode = 0
        except SystemExit as ending:
            exitcode = _exit_code(ending)
        except BaseException as error:
            self._report(error)
        finally:
            threading._shutdown()  # type: ignore[attr-defined]
            util = _util or loaded('util')
            if util is not None and util._logger is not None:
                util.info('process exiting with exitcode %d', exitcode)
            _flush_std_streams()
        return exitcode

    def _bootstrap_by(self, hook: 'Callable[[BaseProcess, int | None], int]', parent_sentinel: 'int | None') -> int:
        """As :meth:`_bootstrap`, where a tool has put `hook` in the place of the standard
        library's.

        The hook calls what it has replaced, which calls `run`. So this object's `run` is, for that
        one call, what differs from the standard library.
        """
        replaced = self.__dict__.get('run')

        def run() -> None:
            if replaced is None:
                del self.run
            else:
                self.run = replaced  # type: ignore[method-assign]
            if self._start_method is not None:
                force_start_method(self._start_method)
            _standard._parent_process = _ParentProcess(self._parent_name, self._parent_pid, parent_sentinel)
            try:
                self._run_target()
            except SystemExit:
                raise
            except BaseException as error:
                self._report(error)
                raise SystemExit(1) from None

        self.run = run  # type: ignore[method-assign]
        return hook(self, parent_sentinel)

    def _run_target(self) -> None:
        if self._shown is None:
            _titles.show_process(self)
        else:
            show, name = self._shown
            if show is not None:
                show(name)
        if self._hears_interrupts and _hear_interrupts is not None:
            _hear_interrupts()
        util = _util or loaded('util')
        if util is not None and util._logger is not None:
            util.info('child process calling self.run()')
        returned = self.run()
        if returned is not None:
            _leave_outcome('returned', returned)
        elif _link is not None:
            _link.report(0, b'N.')

    def _report(self, error: BaseException) -> None:
        import traceback

        sys.stderr.write(f'Process {self.name}:\n')
        traceback.print_exception(error)
        _leave_outcome('raised', error)

    @staticmethod
    def _after_fork() -> None:
        # A module that is not loaded has nothing registered with it.
        util = _util or loaded('util')
        if util is not None:
            util._finalizer_registry.clear()
            if util._afterfork_registry:
                util._run_after_forkers()


class Worker:
    """A worker of a pool, as it sees itself: its `slot` is its number in the pool, from 0 on, and
    that of the worker that it replaces.
    """

    __slots__ = ('slot',)

    def __init__(self, slot: int) -> None:
        self.slot = slot

    def __repr__(self) -> str:
        return f'Worker(slot={self.slot})'


def current_worker() -> 'Worker | None':
    """Returns the :class:`Worker` that this process is in its pool; `None` if it is none.

    ::

        def device_of(_):
            return f'cuda:{current_worker().slot}'
    """
    if _worker is None or _worker[0] != os.getpid():
        return None
    return Worker(_worker[1])


def _run_as(process_obj: BaseProcess) -> None:
    """In a child: has this process object be the current one."""
    _standard._current_process = process_obj


def _become_worker(slot: int) -> None:
    """Notes that this process is the worker of this slot."""
    global _worker
    _worker = os.getpid(), slot


class _ParentProcess(_ParentProcessBase):
    """The parent as its child sees it: by a pidfd.

    A child is killed with its parent. One that looks here whether the parent lives is given half a
    second after it, so that it can see the death and act on it.
    """

    def is_alive(self) -> bool:
        self._watch()
        return super().is_alive()

    def join(self, timeout: 'float | None' = None) -> None:
        """Waits up to `timeout` seconds until the parent has ended."""
        self._watch()
        super().join(timeout)

    @property
    def sentinel(self) -> int:
        """A pidfd: readable once the parent has ended."""
        self._watch()
        return self._sentinel

    def _watch(self) -> None:
        global _link_is_loose
        if _link is not None and not _link_is_loose:
            _link.tie_loosely()
            _link_is_loose = True


def _tie(link: 'Link', hear_interrupts: 'Callable[[], object] | None' = None) -> 'set[Any]':
    """In a child: hangs its life on its parent's, and returns its parent's children, which are none
    of its own. If it does not hear Ctrl-C yet, `hear_interrupts` has it do so.
    """
    global _link, _link_is_loose, _hear_interrupts
    link.tie()
    _link, _link_is_loose, _hear_interrupts = link, False, hear_interrupts
    others: set[Any] = _standard._children
    _standard._children = set()
    return others


def _forget_parents_ties() -> None:
    """In a process that anybody has forked from this one: its parent's children are none of its
    own, and what it returns is not its parent's outcome.
    """
    global _link, _others
    _link = None
    # Kept: if they went here, their finalizers would run in the wrong process.
    _others = _standard._children
    if _others:
        _standard._children = {other for other in _others if not isinstance(other, BaseProcess)}


def _hand_down(util: 'ModuleType', outcome: 'ModuleType') -> None:
    """In a process that forks others: says what they would import otherwise, the shared `util` and
    what leaves outcomes.
    """
    global _util, _outcome
    _util, _outcome = util, outcome


def _end_helpers() -> None:
    """In a child that leaves: ends and reaps the processes that it has started for itself. Nobody
    may reap them after it: the first process of a container is seldom made for it.
    """
    server = sys.modules.get('procession.forkserver')
    if server is not None:
        server._forkserver._stop()
    tracker = sys.modules.get('procession.resource_tracker')
    if tracker is not None:
        tracker._resource_tracker.end_if_unused()


def _leave_outcome(how: str, value: object) -> None:
    if _link is None:
        return
    if _outcome is None:
        from . import _outcome as outcome
    else:
        outcome = _outcome
    outcome.leave(_link, how, value)


def _exit_code(ending: SystemExit) -> int:
    if ending.code is None:
        return 0
    if isinstance(ending.code, int):
        return ending.code
    sys.stderr.write(f'{ending.code}\n')
    return 1


def _close_stdin() -> None:
    """Lets standard input be empty: it is the parent's."""
    if sys.stdin is None or sys.stdin is _empty_stdin:
        return
    try:
        sys.stdin.close()
        sys.stdin = _empty_stdin or _open_empty()
    except (OSError, ValueError):
        # It cannot be closed, or there is no null device: it stays as it is.
        return


def _prepare_stdin() -> None:
    """In a parent that forks: opens what its children have for standard input."""
    global _empty_stdin
    if _empty_stdin is None:
        try:
            _empty_stdin = _open_empty()
        except OSError:
            # Without a null device they keep their parent's.
            return


def _open_empty() -> 'TextIO':
    from ._engine import HeldStreams

    with HeldStreams():
        fd = os.open(os.devnull, os.O_RDONLY)
    return open(fd, encoding='utf-8', closefd=False)


def _flush_std_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError):
            # There is none, or it is closed.
            continue


if not TYPE_CHECKING:
    # Types know which names there are.
    def __getattr__(name):
        # As the standard library's module has it now: much of it is bound anew in a child.
        return getattr(_standard, name)
