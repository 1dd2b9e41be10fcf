"""The driver's side of agents that are actors of Dask: their calls, their loss and their end. Used
in the driver.
"""

from __future__ import annotations

import concurrent.futures
import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import distributed  # type: ignore[import-not-found, import-untyped, unused-ignore]
from distributed.comm import CommClosedError  # type: ignore[import-not-found, import-untyped, unused-ignore]

from ._cluster import AgentLost

if TYPE_CHECKING:
    from ._agent import Told
    from ._dask import Cluster
    from ._outlet import Heard
    from ._program import Taken
    from ._put import Key

__all__ = ['END_TIMEOUT', 'LOST', 'DaskActor']

#: The errors of a call whose worker is gone.
LOST = (CommClosedError, OSError, distributed.client.FutureCancelledError, concurrent.futures.CancelledError)
#: Seconds in which an agent must have ended.
END_TIMEOUT = 6.0


class DaskActor:
    """The driver's side of an agent, which is placed anew when its worker is gone."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._changed = threading.Condition()
        self._is_ended = False
        # Calls of the actor whose results are awaited.
        self._calls = 0
        self._given: set[Key] = set()
        self._future: Any
        self._actor: Any
        self._future, self._actor, self._address, self._number = cluster.place_agent()

    def begin(self, number: int, terms: bytes) -> Told:
        """See `Agent.begin`."""
        with self._changed:
            if self._actor is None:
                if self._is_ended:
                    raise AgentLost('the pool has ended')
                self._future, self._actor, self._address, self._number = self._cluster.place_agent()
                self._given = set()
        return self._told_by('begin', number, terms)

    def run(self, number: int, task: bytes) -> Told:
        """See `Agent.run`."""
        return self._told_by('run', number, task)

    def start_run(self, number: int, task: bytes) -> Callable[[], Told]:
        """See `BridgeAgent.start_run`."""
        return self._start('run', number, task)

    def give(self, number: int, key: Key, reference: Any) -> Told:
        """See `Agent.give`: Dask brings the value to the agent's worker."""
        if key not in self._given:
            try:
                self._cluster.bring(self._address, self._number, key, reference)
            except (*LOST, distributed.KilledWorker) as error:
                raise AgentLost(str(error)) from error
            self._given.add(key)
        return self._told_by('give', number, key, None)

    def forget(self, key: Key) -> None:
        """See `Agent.forget`; does not wait for it."""
        self._tell('forget', key)

    def leave(self, number: int) -> Told:
        """See `Agent.leave`."""
        return self._told_by('leave', number)

    def wait(self, number: int) -> Told:
        """See `Agent.wait`."""
        return self._told_by('wait', number)

    def put(self, number: int, messages: list[bytes]) -> None:
        """See `Agent.put`."""
        self._call('put', number, messages)

    def take(self, number: int) -> Taken:
        """See `Agent.take`."""
        taken: Taken = self._call('take', number)
        return taken

    def hear(self, number: int) -> Heard:
        """See `Agent.hear`."""
        heard: Heard = self._call('hear', number)
        return heard

    def signal_child(self, number: int, signum: int) -> None:
        """See `Agent.signal_child`; does not wait for it."""
        self._tell('signal_child', number, signum)

    def end(self) -> None:
        """Ends the agent and its child."""
        self._is_ended = True
        actor = self._actor
        future = self._taken_back(actor)
        if future is not None:
            self._cluster.end_later(functools.partial(self._end_actor, actor, future))

    def _end_actor(self, actor: Any, future: Any) -> None:
        """Ends an actor, and releases it after its last call: Dask's worker would print a
        `KeyError` of a call whose actor is not there any more.
        """
        try:
            actor.end().result(END_TIMEOUT)
        except (*LOST, ValueError, RuntimeError) as error:
            # It is gone or does not end in time, or the program has closed its client.
            if self._cluster.is_connected() and not _tells_of_loss(error):
                raise
        with self._changed:
            self._changed.wait_for(lambda: self._calls == 0, END_TIMEOUT)
        self._cluster.release(future)

    def _told_by(self, method: str, *args: Any) -> Told:
        told: Told = self._call(method, *args)
        return told

    def _call(self, method: str, *args: Any) -> Any:
        return self._start(method, *args)()

    def _start(self, method: str, *args: Any) -> Callable[[], Any]:
        """Starts a call; returns the wait for its result, which has to be called."""
        with self._changed:
            actor = self._actor
            if actor is None:
                raise AgentLost('its worker is gone')
            self._calls += 1
        try:
            future = self._checked(actor, lambda: getattr(actor, method)(*args))
        except BaseException:
            self._note_end_of_call()
            raise
        return functools.partial(self._awaited, actor, future)

    def _awaited(self, actor: Any, future: Any) -> Any:
        try:
            return self._checked(actor, future.result)
        finally:
            self._note_end_of_call()

    def _note_end_of_call(self) -> None:
        with self._changed:
            self._calls -= 1
            self._changed.notify_all()

    def _checked(self, actor: Any, act: Callable[[], Any]) -> Any:
        """Returns what an act returns; raises `AgentLost` if it says that the actor is gone."""
        try:
            return act()
        except (*LOST, ValueError, RuntimeError) as error:
            if not _tells_of_loss(error):
                raise
            self._let_go(actor)
            raise AgentLost(str(error)) from error

    def _tell(self, method: str, *args: Any) -> None:
        actor = self._actor
        if actor is None or not self._cluster.is_connected():
            return
        try:
            getattr(actor, method)(*args)
        except (*LOST, ValueError, RuntimeError) as error:
            if not _tells_of_loss(error):
                raise
            # The child is gone with its agent, or is about to.
            return

    def _let_go(self, actor: Any) -> None:
        future = self._taken_back(actor)
        if future is not None:
            self._cluster.release(future)

    def _taken_back(self, actor: Any) -> Any:
        """Returns the future of an actor, which is not called any more from now on; `None` if it
        was returned before.
        """
        with self._changed:
            if actor is None or self._actor is not actor:
                return None
            future, self._future, self._actor = self._future, None, None
        self._cluster.give_back(self._address)
        return future


def _tells_of_loss(error: Exception) -> bool:
    """Returns whether an error of a call says that the actor is gone, or its worker. Dask has no
    class for it where it is the scheduler who says so.
    """
    return isinstance(error, LOST) or 'Actor' in str(error)
