"""Agents: one for each slot, on whichever machine the cluster's scheduler has placed it. An agent
runs the program's functions in a child of its own, a process of this package's on its machine, so
that a crash there costs one task and neither the agent nor what the cluster thinks of it.

The class is used on other machines, by the threads that the cluster's library has for calls;
`signal_child` while another call runs.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import _remote
from .._engine import __version__
from ._child_process import ChildProcess
from ._kept import Kept
from ._outlet import Heard, Outlet
from ._program import AgentProcess, Taken

if TYPE_CHECKING:
    from ._put import Key, Part

__all__ = ['CONCURRENCY', 'Agent', 'Told']

#: Calls of one agent at a time: a task, a child's signal, the start of the next child, and a call
#: of `hear` for each of two children.
CONCURRENCY = 6
# Seconds that a call of `hear` waits.
_HEAR_TIMEOUT = 5.0

#: The answer of an agent: see `Agent`.
Told = bytes | tuple[Any, ...]


class Agent:
    """Has one child at a time. A child is named by a number that the driver chooses, so that what
    was meant for one does not reach the next.

    The next act of the child is told as a tuple: `('begun', (host, pid))`, `('failed', exception)`,
    `('ended', exit code, outcome)`, or `('wanted', key)`: then `give` goes on. The answer of a task
    is told as bytes.
    """

    def __init__(self) -> None:
        # The program's own: here processes are this machine's.
        os.environ.pop('PROCESSION_CONTEXT', None)
        self._child: ChildProcess | AgentProcess | None = None
        self._last = 0
        self._lock = threading.Lock()
        # Children that are to end before they have begun.
        self._unwanted: set[int] = set()
        # By the number of a child: the prints and records that the driver has not heard.
        self._outlets: dict[int, Outlet] = {}
        # Values that the program has put, by key, and the keys of those that it has let go of.
        self._kept: dict[Key, Kept] = {}
        self._forgotten: set[Key] = set()

    def begin(self, number: int, pickled: bytes) -> Told:
        """Starts the child `number`, and tells whether it has begun."""
        terms: dict[str, Any] = pickle.loads(pickled)
        if terms['version'] != __version__:
            text = (
                f'procession is {terms["version"]} in the program and {__version__} on {socket.gethostname()}: install the same'
            )
            return 'failed', _remote.pack(RuntimeError(text), None)
        self._end_child()
        self._sweep()
        with self._lock:
            # Of the last child before, the rest may be on its way.
            self._outlets = {other: outlet for other, outlet in self._outlets.items() if other >= self._last}
        outlet = None if terms['surroundings'] is None else self._outlet_of(number)
        try:
            child = AgentProcess(number, terms) if terms.get('program') else ChildProcess(number, terms, outlet)
        except Exception as error:
            if outlet is not None:
                outlet.close()
            return 'failed', _remote.pack(error, error.__traceback__)
        with self._lock:
            self._child, self._last = child, number
            is_unwanted = number in self._unwanted
            self._unwanted = {other for other in self._unwanted if other > number}
        if is_unwanted:
            child.send_signal(signal.SIGKILL)
        return child.awaited(self._kept)

    def run(self, number: int, task: bytes) -> Told:
        """Has the child run a task, and tells the answer."""
        if self._forgotten:
            self._sweep()
        child = self._child
        if child is None or child.number != number:
            return _GONE
        return child.run(task, self._kept)

    def give(self, number: int, key: Key, parts: Sequence[Part]) -> Told:
        """Keeps a value that the child waits for, and tells what the child does next."""
        if key not in self._kept:
            self._kept[key] = Kept(parts)
        child = self._child
        if child is None or child.number != number:
            return _GONE
        child.give(self._kept[key])
        return child.awaited(self._kept)

    def leave(self, number: int) -> Told:
        """Has the child leave in order, and tells its end."""
        child = self._child
        if not isinstance(child, ChildProcess) or child.number != number:
            return _GONE
        return child.leave()

    def wait(self, number: int) -> Told:
        """Waits until the child of a `Process` has ended, and tells its end."""
        child = self._child
        if not isinstance(child, ChildProcess) or child.number != number:
            return _GONE
        return child.awaited(self._kept)

    def put(self, number: int, messages: list[bytes]) -> None:
        """Sends messages to the agent process of a Rust program."""
        child = self._child
        if isinstance(child, AgentProcess) and child.number == number:
            child.put(messages)

    def take(self, number: int) -> Taken:
        """Waits for messages of the agent process of a Rust program, or for its end."""
        child = self._child
        if not isinstance(child, AgentProcess) or child.number != number:
            return 0, [], 'the agent process has ended'
        return child.take()

    def hear(self, number: int) -> Heard:
        """Waits a few seconds for what the child prints and logs, and returns that. It may be
        called before the child begins, and after it has ended.
        """
        with self._lock:
            outlet = self._outlets.get(number)
            if outlet is None:
                if number <= self._last:
                    return None, [], True
                outlet = self._outlets[number] = Outlet()
        return outlet.take(_HEAR_TIMEOUT)

    def signal_child(self, number: int, signum: int) -> None:
        """Sends the child a signal, if it is still the one of this number."""
        with self._lock:
            child = self._child
            if child is None or child.number != number:
                if signum == signal.SIGKILL and number > self._last:
                    self._unwanted.add(number)
                return
        child.send_signal(signum)

    def forget(self, key: Key) -> None:
        """Lets go of a value, once the child does not use it any more."""
        self._forgotten.add(key)

    def end(self) -> None:
        """Ends the child, if there is one."""
        self._end_child()

    def _outlet_of(self, number: int) -> Outlet:
        with self._lock:
            return self._outlets.setdefault(number, Outlet())

    def _end_child(self) -> None:
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.end()

    def _sweep(self) -> None:
        for key in list(self._forgotten):
            kept = self._kept.get(key)
            if kept is not None:
                if kept.is_used():
                    continue
                del self._kept[key]
                kept.close()
            self._forgotten.discard(key)

    def __del__(self) -> None:
        # One whose beginning has failed has none.
        if '_lock' in self.__dict__:
            self._end_child()


_GONE: Told = 'ended', -signal.SIGKILL, None
