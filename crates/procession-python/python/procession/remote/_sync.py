"""Queues, locks and the like for processes on several machines: objects of a manager, reached over
TCP with authentication, and with TLS if the program has given a certificate. The manager is a
process beside the program's.
"""

from __future__ import annotations

import queue
import signal
import sys
from typing import TYPE_CHECKING, Any

from .. import _attendance, _manager_locks
from .._base_context import concrete_contexts
from ..managers import BaseProxy, Server, SyncManager
from ..process import current_process

if TYPE_CHECKING:
    from ._tls import Identity

__all__ = ['start_manager']


class _Server(Server):
    """Knows which processes its clients are, and so of which it must release the locks."""

    public = [*Server.public, 'attend']

    def attend(self, conn: Any, identity: str) -> None:
        """Waits until the client has ended that says so first."""
        if (admit := getattr(conn, 'admit', None)) is not None:
            admit()
        _attendance.serve_attendance(conn, identity)
        # Nobody waits for an answer any more.
        sys.exit(0)

    def accept_connection(self, c: Any, name: str) -> None:
        """Serves a thread of the client."""
        name, _, identity = name.partition(_attendance.SEPARATOR)
        _manager_locks.note_client(identity)
        super().accept_connection(c, name)

    def serve_client(self, conn: Any) -> None:
        """Serves one thread of a client, which has proved who it is."""
        if (admit := getattr(conn, 'admit', None)) is not None:
            admit()
        super().serve_client(conn)


class _RemoteManager(SyncManager):
    """A manager that has queues with the methods of `multiprocessing`'s."""

    _Server = _Server


class _QueueProxy(BaseProxy):
    """A queue, wherever it is used."""

    if TYPE_CHECKING:
        # Typeshed says that it returns nothing.
        def _callmethod(self, methodname: str, args: tuple[Any, ...] = (), kwds: dict[str, Any] = {}) -> Any: ...

    _exposed_ = ('empty', 'full', 'get', 'get_nowait', 'join', 'put', 'put_nowait', 'qsize', 'task_done')

    def empty(self) -> bool:
        """Returns whether no item is there now."""
        return bool(self._callmethod('empty'))

    def full(self) -> bool:
        """Returns whether there is no room now."""
        return bool(self._callmethod('full'))

    def qsize(self) -> int:
        """Returns how many items are there now."""
        size: int = self._callmethod('qsize')
        return size

    def put(self, obj: object, block: bool = True, timeout: float | None = None) -> None:
        """Puts an item, and waits for room if `block` says so; raises `queue.Full`."""
        self._callmethod('put', (obj, block, timeout))

    def put_nowait(self, obj: object) -> None:
        """As `put` without a wait."""
        self.put(obj, False)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Returns the next item, and waits for one if `block` says so; raises `queue.Empty`."""
        return self._callmethod('get', (block, timeout))

    def get_nowait(self) -> Any:
        """As `get` without a wait."""
        return self.get(False)

    def task_done(self) -> None:
        """Says that an item is done with."""
        self._callmethod('task_done')

    def join(self) -> None:
        """Waits until all items are done with."""
        self._callmethod('join')

    def close(self) -> None:
        """Does nothing: an item that was put is in the manager already."""

    def join_thread(self) -> None:
        """Does nothing: there is no thread."""

    def cancel_join_thread(self) -> None:
        """Does nothing: there is no thread."""


_RemoteManager.register('RemoteQueue', queue.Queue, _QueueProxy)


def start_manager(host: str, identity: Identity | None) -> SyncManager:
    """Returns a manager that listens at an address of this machine, `host`, and on no other."""
    terms = {
        'authkey': current_process().authkey,
        'ctx': concrete_contexts['spawn'],
        'serializer': _attendance.PREFIX + 'tcp' if identity is None else identity.serializer,
    }
    manager = _RemoteManager(address=(host, 0), **terms)
    manager.start(_begin, (None if identity is None else (identity.serializer, *identity.files),))
    return manager


def _begin(secured: tuple[str, str, str] | None) -> None:
    """In the manager's process, before it listens."""
    # A Ctrl-C is for the program.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if secured is not None:
        from ._tls import serve_with

        serve_with(*secured)
