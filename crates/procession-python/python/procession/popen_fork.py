"""Processes by `fork`, and what their parent does with a process of any start method. Used in the
parent, by any thread.

The child is forked by `os.fork`, by Python's rules: the hooks of `os.register_at_fork` run, and
from 3.12 on Python warns when there are other threads than the engine's.
"""

import _signal
import atexit
import os
import posix
import signal
import sys
import time

from . import _outcome, _titles, process, util
from ._engine import (
    Child,
    Link,
    disown_children,
    flush_stdio,
    hold_entries,
    is_single_threaded,
    pidfd_of_self,
    release_entries,
)
from ._standard import loaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, ClassVar, NoReturn

    from ._engine import Setting
    from .process import BaseProcess

__all__ = ['Popen']

# As numbers: `signal` would make a name of each, which takes as long as a third of a fork.
_ALL_SIGNALS = _signal.valid_signals()
# Seconds that the exit of the program waits for a function that gets lines or records.
_EXIT_PATIENCE = 3.0

process._hand_down(util, _outcome)

# Any process that is forked from this one, by whomever, lets go of the links that this one's
# children hang on, and of those children.
os.register_at_fork(after_in_child=disown_children)
os.register_at_fork(after_in_child=process._forget_parents_ties)
if sys.version_info < (3, 12):
    # A child would wait for ever for a lock that one of the engine's threads had.
    os.register_at_fork(before=hold_entries, after_in_parent=release_entries)


class Popen:
    """A started process.

    `sentinel` is a pidfd, readable when the process has ended, whoever still holds its pipes;
    signals go through it. Its exit code is kept once anybody has asked, and is 255 if some other
    wait in this program took it.
    """

    if TYPE_CHECKING:
        method: ClassVar[str]
        pid: int
        sentinel: int
        returncode: int | None
        finalizer: None
        # `None` before the start and after `close`.
        _child: Child
        _setting: Setting | None

    method = 'fork'

    def __init__(self, process_obj: 'BaseProcess') -> None:
        process._flush_std_streams()
        _share_tracker()
        self.returncode = None
        self.finalizer = None
        self._child = None  # type: ignore[assignment]
        # The surroundings of the child, until all that it has printed and logged is delivered.
        self._setting = None if process_obj._surroundings is None else process_obj._surroundings.make()
        try:
            self._launch(process_obj)
            if self._setting is not None:
                self._setting.follow(self._child)
            # Here and not in the caller: whatever a handler raises from now on, this process knows
            # its child.
            process_obj._popen, process_obj._sentinel = self, self.sentinel
            process._standard._children.add(process_obj)
        except BaseException:
            if process_obj._parent_pid != os.getpid():
                # The child leaves, by an exit that a tool has put in the place of `os._exit`.
                raise
            # As a rule, a handler raised this. Nobody else would know of the child.
            process_obj._popen = None
            process._standard._children.discard(process_obj)
            if self._child is not None:
                self._child.signal(signal.SIGKILL)
                self._child.wait()
            raise

    def duplicate_for_child(self, fd: int) -> int:
        """Returns the number by which the child knows the file descriptor `fd`."""
        return fd

    def poll(self, flag: int = os.WNOHANG) -> 'int | None':
        """Returns the exit code if the process has ended; with a `flag` of 0, waits for it."""
        if flag != os.WNOHANG:
            return self.wait()
        if self.returncode is None:
            self.returncode = self._child.poll()
        return self.returncode

    def wait(self, timeout: 'float | None' = None) -> 'int | None':
        """Waits up to `timeout` seconds, and returns the exit code or `None`."""
        if self._setting is not None:
            return self._wait_for_output(timeout)
        if self.returncode is None:
            self.returncode = self._child.wait(timeout)
        return self.returncode

    def interrupt(self) -> None:
        """Sends SIGINT."""
        self._send_signal(signal.SIGINT)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self._send_signal(signal.SIGKILL)

    def outcome(self) -> 'tuple[int, bytes] | None':
        """Returns what the target left, as the engine's tag and bytes, or `None`: of a process that
        has ended.
        """
        return self._child.outcome()

    def result(self, name: str) -> 'Any':
        """Returns what the target of the process has returned; raises what it has raised. The
        process's name is `name`.
        """
        return _outcome.received(self, name)

    def close(self) -> None:
        """Lets go of the process and its sentinel."""
        self._child = self._setting = None  # type: ignore[assignment]

    def _wait_for_output(self, timeout: 'float | None') -> 'int | None':
        """Waits for the end of the process, and until all is delivered that it has printed and
        logged.
        """
        end = None if timeout is None else time.monotonic() + timeout
        if self.returncode is None:
            self.returncode = self._child.wait(timeout)
        if self.returncode is not None:
            setting, left = self._setting, None if end is None else max(end - time.monotonic(), 0)
            if util.is_exiting():
                # A function of the program's that never returns must not keep it.
                left = _EXIT_PATIENCE if left is None else min(left, _EXIT_PATIENCE)
            if setting is not None and setting.finish(left):
                self._setting = None
        return self.returncode

    def _send_signal(self, sig: int) -> None:
        if self.returncode is None:
            try:
                self._child.signal(sig)
            except OSError:
                if self.wait(timeout=0.1) is None:
                    raise

    def _leads_group(self) -> bool:
        return self._setting is not None and self._setting.leads_group

    def _tell(self) -> None:
        self.pid = self._child.pid
        self.sentinel = self._child.sentinel

    def _launch(self, process_obj: 'BaseProcess') -> None:
        process._prepare_stdin()
        _titles.look()
        _titles.prepare_to_show(process_obj)
        if self._setting is not None:
            # The child's streams are not to get the contents of C's buffers.
            flush_stdio()
        ours, theirs = Link.pair()
        parent_sentinel = pidfd_of_self()
        # No handler runs before the child is held, which would be lost otherwise, and none of its
        # parent's in the child.
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _ALL_SIGNALS)
        try:
            pid = _fork()
            if pid == 0:
                _run(process_obj, theirs, parent_sentinel, process_obj._signal_mask or mask, self._setting)
            self._child = Child.forked(pid, ours, process_obj.name, process_obj.daemon, self._leads_group())
            self._tell()
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        theirs.close()


def _fork() -> int:
    # Since 3.14 a forked child closes what leads to its parent's trackers, unless the thread that
    # forks says that the child is one of the program's, which its parent waits for.
    trackers: tuple[Any, Any] = loaded('resource_tracker'), sys.modules.get('procession.resource_tracker')
    intents = [tracker._fork_intent for tracker in trackers if hasattr(tracker, '_fork_intent')]
    for intent in intents:
        intent.preserve_fd = True
    try:
        return _fork_quietly()
    finally:
        for intent in intents:
            intent.preserve_fd = False


def _fork_quietly() -> int:
    if sys.version_info < (3, 12) or not is_single_threaded():
        return os.fork()
    import warnings

    # Python counts the engine's threads too, which hold nothing that a child needs.
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)
        return os.fork()


def _share_tracker() -> None:
    """Shares this process's tracker with a child, if shared memory with names may be made. A
    tracker of the child's own would unlink at the child's end what the child has made for others.
    """
    if 'procession.shared_memory' in sys.modules:
        sys.modules['procession.resource_tracker']._resource_tracker.share()


def _leave_event_loop() -> None:
    """In the child of a program that runs an event loop: the loop's handlers would only wake the
    loop, which does not run here.
    """
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        # A runner's is a partial of a method.
        module = getattr(getattr(handler, 'func', handler), '__module__', None) or ''
        if module.partition('.')[0] == 'asyncio':
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _run(
    process_obj: 'BaseProcess', link: Link, parent_sentinel: int, mask: 'Iterable[int]', setting: 'Setting | None'
) -> 'NoReturn':
    """In the child: everything, to its end. All signals are blocked; `mask` are those that are to
    be.
    """
    code, is_own = 1, False
    try:
        # Its parent's callbacks are not its own.
        atexit._clear()
        is_own = True
        # Before any signal is heard, which may end this process: its exit must not be that of its
        # parent's children. Kept, as hooks may look at them.
        _others = process._tie(link)
        if setting is not None:
            from . import _output

            _output.enter_forked(setting, link)
        _signal.set_wakeup_fd(-1)
        # From Python 3.12 on, asyncio takes its wakeup fd away itself, and leaves its handlers.
        if 'asyncio' in sys.modules:
            _leave_event_loop()
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        atexit.register(util._exit_function)
        code = process_obj._bootstrap(parent_sentinel=parent_sentinel)
    finally:
        try:
            if is_own:
                atexit._run_exitfuncs()
                process._end_helpers()
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            try:
                os._exit(code)
            finally:
                # A profiler may have put `sys.exit` in its place, and do its work where that
                # arrives. A worker is started by the engine, which must not see it as an error.
                if process_obj._is_worker:
                    posix._exit(code)
