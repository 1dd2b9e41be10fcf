"""The child of an agent, as the agent sees it. Used on other machines, by the threads of the
agent.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import _remote
from .._processes import SpawnProcess
from .._workers import _Fd
from . import _child
from ._messages import ANSWER, BEGUN, FAILED, LEAVE, TASK, VALUE, WANTED, Channel

if TYPE_CHECKING:
    from ._agent import Told
    from ._kept import Kept
    from ._outlet import Outlet
    from ._put import Key

__all__ = ['ChildProcess']

# Seconds in which a pool's child must end that has closed its socket.
_PATIENCE = 5.0


class ChildProcess:
    """A child of an agent. It is told what the driver says of it, `terms`. What it prints and logs
    goes to the outlet, if there is one.
    """

    def __init__(self, number: int, terms: dict[str, Any], outlet: Outlet | None) -> None:
        self.number, self._outlet = number, outlet
        # True for the child of a `Process`, which may do with its socket what it wants.
        self._is_single = terms['slot'] is None
        self._has_begun = False
        self._channel, theirs = Channel.pair()
        target = _child.serve_process if self._is_single else _child.serve_tasks
        self._process: Any = _Process(
            target=_serve, args=(target, *map(_Fd, theirs.fds()), terms), name=terms['name'], daemon=True
        )
        if outlet is not None:
            self._process._surroundings = outlet.surroundings(*terms['surroundings'])
        with theirs:
            self._process.start()
        if outlet is not None:
            outlet.place = socket.gethostname(), self._pid()
            threading.Thread(target=self._close_outlet, args=(outlet,), name='procession-outlet', daemon=True).start()
        self._poll = select.poll()
        self._poll.register(self._channel, select.POLLIN)
        self._poll.register(self._process.sentinel, select.POLLIN)

    def awaited(self, kept: dict[Key, Kept]) -> Told:
        """Waits for what the child says, and returns what `Agent` tells. `kept` are the values that
        it can be given at once.
        """
        while True:
            # Processes that a task has started may have the socket too, and outlive the child.
            ready = {fd for fd, _ in self._poll.poll()}
            message = self._channel.receive() if self._channel.fileno() in ready else None
            if message is None:
                return self._ended()
            kind, body = message
            if kind == ANSWER:
                return body
            if kind == WANTED:
                key = pickle.loads(body)
                if key not in kept:
                    return 'wanted', key
                self.give(kept[key])
            elif kind == BEGUN:
                self._has_begun = True
                return 'begun', (socket.gethostname(), self._pid())
            elif kind == FAILED:
                return 'failed', body

    def run(self, task: bytes, kept: dict[Key, Kept]) -> Told:
        """Has the child run a task."""
        try:
            self._channel.send(TASK, task)
        except ConnectionError:
            return self._ended()
        return self.awaited(kept)

    def give(self, value: Kept) -> None:
        """Gives the child a value that it waits for."""
        told, fds, passed = value.described()
        try:
            self._channel.send(VALUE, told, fds)
        except ConnectionError:
            # It has ended, which the next wait finds.
            pass
        for fd in passed:
            os.close(fd)

    def leave(self) -> Told:
        """Has the child leave in order, however long its finalizer takes."""
        try:
            self._channel.send(LEAVE)
        except ConnectionError:
            pass
        self._process.join()
        return self._ended()

    def send_signal(self, signum: int) -> None:
        """Sends the child a signal; does nothing if it has ended."""
        popen = self._process._popen
        if popen is not None:
            popen._send_signal(signum)

    def end(self) -> None:
        """Kills the child and waits for its end."""
        if self._outlet is not None:
            # The driver may be gone, too.
            self._outlet.let_go_on()
        self.send_signal(signal.SIGKILL)
        self._process.join()
        self._channel.close()

    def _pid(self) -> int:
        pid: int = self._process.pid
        return pid

    def _close_outlet(self, outlet: Outlet) -> None:
        # It waits for the rest of what the child has printed and logged.
        self._process.join()
        outlet.close()

    def _ended(self) -> Told:
        self._process.join(None if self._is_single else _PATIENCE)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        code = self._process.exitcode
        if not self._has_begun:
            text = f'a process on {socket.gethostname()} ended with exit code {code} before it could run anything'
            return 'failed', _remote.pack(RuntimeError(text), None)
        return 'ended', code, self._process._popen.outcome() if self._is_single else None


class _Process(SpawnProcess):
    """The process of a child: it imports nothing of the agent's main module."""

    _imports_main = False
    _surroundings: Any = None


def _serve(target: Callable[[Channel, dict[str, Any]], Any], fd: _Fd, bulk: _Fd, terms: dict[str, Any]) -> Any:
    return target(Channel.of_fds(fd.fd, bulk.fd), terms)
