"""The line to one agent of a Rust program: starts it, and brings messages both ways. Used in the
bridge program.

| thread | what it does |
|---|---|
| main of the bridge program | starts the call of each task, which brings its first answers home |
| first | waits for these calls |
| second | brings other messages there |
| third | starts the agent, and brings home what no task's call has brought |
"""

from __future__ import annotations

import functools
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
from ._program import answers_of

if TYPE_CHECKING:
    from ._agent import Told

__all__ = ['REPLACEMENT_TIMEOUT', 'Line']

#: Seconds in which a lost agent must be replaced by its cluster.
REPLACEMENT_TIMEOUT = 120.0
_RETRY_INTERVAL = 0.1
# Seconds in which the call of a task must end whose agent has ended.
_LAST_CALL_TIMEOUT = 10.0
# The call of a longer task is started by the thread that waits for it.
_SMALL = 64 * 1024
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
        # The calls of tasks: the number of the agent, and the wait for the answer.
        self._tasks: SimpleQueue[tuple[int, Callable[[], Told]] | None] = SimpleQueue()
        self._running = 0
        # By the number of an agent: why the call of a task has failed.
        self._faults: dict[int, str] = {}
        self._telling = threading.Lock()
        # The place of the messages that are to be told next, and those that have come before them.
        self._place = 1
        self._early: dict[int, list[bytes]] = {}
        for act in (self._bring_answers, self._bring_there, self._bring_home):
            threading.Thread(target=act, name=f'procession-line-{subject}', daemon=True).start()

    def want(self) -> None:
        """Has the agent started, if it is not up."""
        with self._changed:
            self._is_wanted = True
            self._changed.notify_all()

    def run(self, task: bytes) -> None:
        """Sends a task to the agent that is up, which answers it; drops it if there is none. Its
        call is under way before another thread waits for it, unless it is large.
        """
        with self._changed:
            number = self._number
            if number is None:
                return
            self._running += 1
        wait: Callable[[], Told] = functools.partial(self._agent.run, number, task)
        if len(task) <= _SMALL:
            try:
                wait = self._agent.start_run(number, task)
            except AgentLost:
                # The wait finds it, in its own thread.
                pass
        self._tasks.put((number, wait))

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

    def _bring_answers(self) -> None:
        while (task := self._tasks.get()) is not None:
            number, wait = task
            try:
                told = wait()
                if isinstance(told, bytes):
                    self._deliver(number, *answers_of(told))
            except Exception as error:
                self._give_up(number, error)
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _deliver(self, number: int, place: int, messages: list[bytes]) -> None:
        """Tells the program messages of the agent, once it has been told those before them."""
        with self._telling:
            if number != self._number:
                return
            self._early[place] = messages
            while messages := self._early.pop(self._place, []):
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
                self._changed.wait_for(lambda: self._running == 0, _LAST_CALL_TIMEOUT)
                why = self._faults.pop(number, why)
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
            except Exception as error:
                self._give_up(number, error)
                return ''
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
            except Exception as error:
                self._give_up(number, error)

    def _give_up(self, number: int, error: Exception) -> None:
        """Notes that a call has failed, by an error of the cluster's library or of the actor's. The
        actor may be there, and what the call was to bring is lost: so the agent has to end.
        """
        lost = 'the actor of the agent is lost' if isinstance(error, AgentLost) else 'a call of the actor has failed'
        with self._changed:
            self._faults.setdefault(number, f'{lost}: {error}')
        self._agent.signal_child(number, signal.SIGKILL)

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
