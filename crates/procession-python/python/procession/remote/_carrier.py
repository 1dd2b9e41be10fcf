"""Carriers: each brings what one proxy says to the agent of its slot, and what the agent answers
back. Used in the driver, the process of the program; each carrier is a thread.
"""

from __future__ import annotations

import itertools
import pickle
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .. import _errors, _remote
from . import _put
from ._cluster import AgentLost, DriverAgent
from ._hearer import Hearer, Pipes
from ._messages import ANSWER, BEGIN, BEGUN, ENDED, FAILED, LEAVE, TASK, Channel
from ._watcher import watcher

if TYPE_CHECKING:
    from ._agent import Told

__all__ = ['Carrier', 'MirrorCarrier']

_numbers = itertools.count(1)
# Seconds in which a lost agent must be replaced by its cluster.
_REPLACEMENT_TIMEOUT = 120.0
# Seconds in which a child must end that could not begin.
_FAILED_TIMEOUT = 5.0
_LOST = -signal.SIGKILL, None

_Answer = tuple[int, bytes]


class Carrier(threading.Thread):
    """Serves one proxy, at the other end of `channel`, until that is closed.

    `terms` are what the child is told, as bytes; `pid` is the proxy's; what the child prints and
    logs goes to `pipes`, if there are any.
    """

    def __init__(self, channel: Channel, agent: DriverAgent, terms: bytes, pid: int, pipes: Pipes | None) -> None:
        super().__init__(name=f'procession-carrier-{pid}', daemon=True)
        self._channel, self._agent, self._terms, self._pid = channel, agent, terms, pid
        self._number = next(_numbers)
        self._hearer = None if pipes is None else Hearer(agent, self._number, pid, pipes)

    def run(self) -> None:
        """Serves the proxy."""
        watcher.watch(self._channel, self._agent, self._number)
        if self._hearer is not None:
            self._hearer.start()
        try:
            while (message := self._channel.receive()) is not None:
                kind, body = self._answer(*message)
                if self._hearer is not None and kind in (ENDED, FAILED):
                    # The pool takes the end of the proxy for the end of what the child prints.
                    self._hearer.stop()
                    self._hearer.join(None if kind == ENDED else _FAILED_TIMEOUT)
                self._channel.send(kind, body)
                if kind == ENDED:
                    break
        except ConnectionError:
            # The proxy was killed meanwhile; the watcher sees to the child.
            return
        finally:
            watcher.let_go(self._channel)
            if self._hearer is not None:
                self._hearer.stop()

    def _answer(self, kind: int, body: bytes) -> _Answer:
        try:
            if kind == TASK:
                return self._told(self._agent.run(self._number, body))
            if kind == BEGIN:
                return self._told(self._begin())
            assert kind == LEAVE, kind
            return self._told(self._agent.leave(self._number))
        except AgentLost:
            return ENDED, pickle.dumps(_LOST)

    def _told(self, told: Told) -> _Answer:
        """Returns what the proxy is told of what the agent has told."""
        while not isinstance(told, bytes):
            how, *rest = told
            if how == 'wanted':
                (key,) = rest
                told = self._agent.give(self._number, key, _put.reference_of(key))
            elif how == 'begun':
                _errors.note_place(self._pid, *rest[0])
                if self._hearer is not None:
                    self._hearer.note_begin()
                return BEGUN, '{1} {0}'.format(*rest[0]).encode()
            elif how == 'failed':
                return FAILED, rest[0]
            else:
                return ENDED, pickle.dumps(tuple(rest))
        return ANSWER, told

    def _begin(self) -> Told:
        deadline = time.monotonic() + _REPLACEMENT_TIMEOUT
        while True:
            try:
                return self._agent.begin(self._number, self._terms)
            except AgentLost as lost:
                # Its cluster is about to replace it. Nothing has begun.
                if time.monotonic() > deadline:
                    text = f'the cluster has not replaced a lost agent within {_REPLACEMENT_TIMEOUT:g} seconds: {lost}'
                    return 'failed', _remote.pack(RuntimeError(text), None)
                time.sleep(0.1)
            except Exception as error:
                # The error is the cluster library's.
                return 'failed', _remote.pack(error, error.__traceback__)


class MirrorCarrier(Carrier):
    """Serves the proxy of a `Process`, whose child has one call to run and may be sent signals.
    `release` is called at the end.
    """

    def __init__(
        self, channel: Channel, agent: DriverAgent, terms: bytes, pid: int, pipes: Pipes | None, release: Callable[[], None]
    ) -> None:
        super().__init__(channel, agent, terms, pid, pipes)
        self._release = release

    def run(self) -> None:
        """Serves the proxy."""
        try:
            super().run()
        finally:
            self._release()

    def _answer(self, kind: int, body: bytes) -> _Answer:
        kind, body = super()._answer(kind, body)
        if kind != BEGUN:
            return kind, body
        self._channel.send(kind, body)
        watcher.hear(self._channel)
        try:
            return self._told(self._agent.wait(self._number))
        except AgentLost:
            return ENDED, pickle.dumps(_LOST)
