"""The line to one agent of a Rust program: starts it, and brings messages both ways. Used in the
bridge program.

| thread | what it does |
|---|---|
| first | brings tasks there, each by a call that brings the first answers home |
| second | brings other messages there |
| third | starts the agent, and brings home what no task's call has brought |
"""

from __future__ import annotations

import itertools
import pickle
import signal
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from .. import _remote
from . import _put
from ._cluster import AgentLost, BridgeAgent
from ._frames import LOST, MESSAGE, NOT_STARTED

if TYPE_CHECKING:
    from ._agent import Told

__all__ = ['REPLACEMENT_TIMEOUT', 'Line']

#: Seconds in which a lost agent must be replaced by its cluster.
REPLACEMENT_TIMEOUT = 120.0
_RETRY_INTERVAL = 0.1
# Seconds in which the call of a task must end whose agent has ended.
_LAST_CALL_TIMEOUT = 10.0
# Children of actors are numbered by the driver of the cluster.
_numbers = itertools.count(1)


class Line:
    """Brings the messages of the agent that the program knows as `subject`. `tell` tells the
    program; `terms` are what the actor is told of it.
    """

    def __init__(self, subject: int, agent: BridgeAgent, terms: dict[str, Any], tell: Callable[[int, int, bytes], None]) -> None:
        self._subject, self._agent, self._tell = subject, agent, tell
        self._terms = pickle.dumps(terms)
        self._changed = threading.Condition()
        self._is_wanted = self._is_ended = False
        # The number of the agent that is up, and messages for it.
        self._number: int | None = None
        self._messages: list[bytes] = []
        # Tasks for it, each with its number.
        self._tasks: SimpleQueue[tuple[int, bytes] | None] = SimpleQueue()
        self._telling = threading.Lock()
        # The place of the messages that are to be told next, and those that have come before them.
        self._place = 1
        self._early: dict[int, list[bytes]] = {}
        self._is_running = False
        for act in (self._run_tasks, self._bring_there, self._bring_home):
            threading.Thread(target=act, name=f'procession-line-{subject}', daemon=True).start()

    def want(self) -> None:
        """Has the agent started, if it is not up."""
        with self._changed:
            self._is_wanted = True
            self._changed.notify_all()

    def run(self, task: bytes) -> None:
        """Sends a task to the agent that is up, which answers it; drops it if there is none."""
        number = self._number
        if number is not None:
            self._tasks.put((number, task))

    def send(self, message: bytes) -> None:
        """Sends another message to the agent that is up; drops it if there is none."""
        with self._changed:
            if self._number is not None:
                self._messages.append(message)
                self._changed.notify_all()

    def end(self) -> None:
        """Ends the agent, and its actor."""
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()
        self._tasks.put(None)
        self._agent.end()

    def _run_tasks(self) -> None:
        while (task := self._tasks.get()) is not None:
            number, message = task
            self._is_running = True
            try:
                told = self._agent.run(number, message)
            except AgentLost:
                # What it has answered may be lost, and the actor be there: without an agent all of
                # it is told as lost.
                self._agent.signal_child(number, signal.SIGKILL)
            else:
                if told[0] == 'answers':
                    self._deliver(number, *told[1:])
            finally:
                self._is_running = False
                with self._changed:
                    self._changed.notify_all()

    def _deliver(self, number: int, place: int, messages: list[bytes]) -> None:
        """Tells the program messages of the agent, once it has been told those before them."""
        with self._telling:
            if number != self._number:
                return
            self._early[place] = messages
            while (messages := self._early.pop(self._place, [])):
                for message in messages:
                    self._tell(MESSAGE, self._subject, message)
                self._place += 1

    def _bring_home(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_wanted or self._is_ended)
                self._is_wanted = False
                if self._is_ended:
                    return
            number = next(_numbers)
            try:
                self._start(number)
            except Exception as error:
                # The error is the cluster library's, too.
                self._tell(NOT_STARTED, self._subject, str(error).encode())
                continue
            why = self._bring_from(number)
            with self._changed:
                # The answers of a task's call are before the end.
                self._changed.wait_for(lambda: not self._is_running, _LAST_CALL_TIMEOUT)
                with self._telling:
                    is_heard, self._number = self._place > 1, None
                self._messages = []
                if self._is_ended:
                    return
            self._tell(LOST if is_heard else NOT_STARTED, self._subject, why.encode())

    def _bring_from(self, number: int) -> str:
        """Brings what the agent says until it is gone. Returns why it is gone."""
        while True:
            try:
                place, messages, end = self._agent.take(number)
            except AgentLost as lost:
                return f'the actor of the agent is lost: {lost}'
            if end is not None:
                return end
            self._deliver(number, place, messages)

    def _bring_there(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._messages or self._is_ended)
                if self._is_ended:
                    return
                messages, self._messages = self._messages, []
                number = self._number
            if number is None:
                continue
            try:
                self._agent.put(number, messages)
            except AgentLost:
                # The third thread says so.
                continue

    def _start(self, number: int) -> None:
        """Starts the agent, at an actor that may have to be replaced before."""
        deadline = time.monotonic() + REPLACEMENT_TIMEOUT
        while True:
            try:
                told = self._agent.begin(number, self._terms)
                while told[0] == 'wanted':
                    key: Any = told[1]
                    told = self._agent.give(number, key, _put.reference_of(key))
                break
            except AgentLost as lost:
                if self._is_ended or time.monotonic() > deadline:
                    raise TimeoutError(
                        f'the cluster has not replaced a lost agent within {REPLACEMENT_TIMEOUT:g} seconds: {lost}'
                    ) from lost
                time.sleep(_RETRY_INTERVAL)
        if told[0] != 'begun':
            raise _reason(told)
        with self._changed, self._telling:
            # Before the program can know that it is up.
            self._number = number
            self._place, self._early = 1, {}


def _reason(told: Told) -> BaseException:
    if told[0] == 'failed' and isinstance(told[1], bytes):
        return _remote.unpack(told[1])
    return RuntimeError('it has ended at once')
