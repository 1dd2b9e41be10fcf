"""The tracker of named things: a small process that unlinks what a program leaves behind. Called in
any process of the program.

It is the standard library's, told in another way:

* who only attaches to shared memory registers nothing. Programs that know the standard library's
  fault unregister what they have attached to; here that is heard and does nothing;
* if the tracker is killed, the next is told of all that this process has registered, not only of
  what comes after.
"""

from __future__ import annotations

import os
import select

from procession._engine import Child, HeldStreams
from procession._standard import adopt

adopt(__name__)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.resource_tracker import ResourceTracker as _Adopted, main as main
    from typing import Any

    __all__ = ['ensure_running', 'register', 'unregister']
    # Our module, which imports this one.
    spawn: Any = None
else:
    _Adopted = ResourceTracker  # noqa: F821 (adopted)

# Names that were attached to and that somebody may still unregister.
_MOST_ATTACHED = 4096
# Milliseconds that a tracker may take to end.
_END_TIMEOUT = 1000


class ResourceTracker(_Adopted):
    """This process's side of its program's tracker."""

    _fd: int | None
    _pid: int | None
    _lock: Any

    def __init__(self) -> None:
        super().__init__()
        self._names: set[tuple[str, str]] = set()
        self._attached: dict[str, bool] = {}

    # Names of ours are strings.
    def register(self, name: str, rtype: str) -> None:  # type: ignore[override]
        """Has the tracker unlink `name` of the kind `rtype` after the program's end."""
        super().register(name, rtype)
        self._names.add((name, rtype))

    def unregister(self, name: str, rtype: str) -> None:  # type: ignore[override]
        """Says that `name` is gone, or somebody else's to unlink."""
        if (name, rtype) not in self._names and rtype == 'shared_memory' and self._attached.pop(name, False):
            return
        self._names.discard((name, rtype))
        super().unregister(name, rtype)

    def attached(self, name: str) -> None:
        """Notes that this process uses shared memory which is not its own."""
        if len(self._attached) >= _MOST_ATTACHED:
            del self._attached[next(iter(self._attached))]
        self._attached[name] = True

    def forget(self, name: str, rtype: str) -> None:
        """Says that this process has unlinked `name`, which it or another of the program may have
        registered.
        """
        self._attached.pop(name, None)
        if (name, rtype) in self._names:
            self.unregister(name, rtype)
        elif self._fd is not None:
            # In case that nobody has: the tracker complains of what it does not know.
            super().register(name, rtype)
            super().unregister(name, rtype)

    def share(self) -> None:
        """Starts the tracker if this process knows of none, so that its children do."""
        if self._fd is None:
            self.ensure_running()

    def inherit(self, fd: int) -> None:
        """In a child: uses its parent's tracker, to which `fd` leads."""
        self._fd = fd

    def ensure_running(self) -> None:
        """Starts the tracker unless it runs."""
        if self._fd is None:
            spawn.check_not_repeated()
        before = self._pid
        # The tracker closes its standard input and output, and so must not find its pipe there.
        with HeldStreams():
            super().ensure_running()
        if self._pid != before:
            for name, rtype in list(self._names):
                if rtype != 'shared_memory' or os.path.lexists('/dev/shm/' + name.lstrip('/')):
                    super().register(name, rtype)

    def end_if_unused(self) -> None:
        """In a process that leaves: ends the tracker that it has started, and reaps it, unless it
        has names to unlink.
        """
        if self._fd is None or self._pid is None or self._names or not _is_own_child(self._pid):
            return
        # It reads its end of file once no other process has this.
        os.close(self._fd)
        self._fd = None
        tracker = Child.of_others(self._pid, 'tracker', False)
        poller = select.poll()
        poller.register(tracker.sentinel, select.POLLIN)
        poller.poll(_END_TIMEOUT)
        # One that others keep busy is left to whoever reaps orphans.
        os.waitpid(self._pid, os.WNOHANG)
        self._pid = None

    def _after_fork(self) -> None:
        # The names that its parent has registered are the parent's, and a thread that held the lock
        # is not here.
        self._names.clear()
        after_fork = getattr(super(), '_after_fork_in_child', None)
        if after_fork is not None:
            after_fork()
        else:
            self._lock = type(self._lock)()


def _is_own_child(pid: int) -> bool:
    try:
        ended, _ = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return False
    return ended == 0


_resource_tracker = ResourceTracker()
ensure_running = _resource_tracker.ensure_running
register = _resource_tracker.register
unregister = _resource_tracker.unregister
getfd = _resource_tracker.getfd

os.register_at_fork(after_in_child=_resource_tracker._after_fork)
