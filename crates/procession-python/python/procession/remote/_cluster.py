"""The common part of all clusters: agents are hired and let go, and values are kept for them. Used
in the driver.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from . import _put
from ._put import Key, Part

if TYPE_CHECKING:
    from ._agent import Told
    from ._outlet import Heard
    from ._pool import RemotePool
    from ._program import Taken

__all__ = ['AgentLost', 'BridgeAgent', 'Crew', 'DriverAgent', 'Keeper']


class AgentLost(Exception):
    """An agent, or its machine, is gone; the cluster may replace it."""


class DriverAgent(Protocol):
    """The driver's side of an agent: its methods are those of `_agent.Agent`, brought there by the
    cluster's library. They raise `AgentLost`.
    """

    def begin(self, number: int, terms: bytes) -> Told:
        """See `Agent.begin`."""

    def run(self, number: int, task: bytes) -> Told:
        """See `Agent.run`."""

    def give(self, number: int, key: Key, reference: Any, /) -> Told:
        """See `Agent.give`; `reference` is what the library knows the value by."""

    def leave(self, number: int) -> Told:
        """See `Agent.leave`."""

    def wait(self, number: int) -> Told:
        """See `Agent.wait`."""

    def hear(self, number: int) -> Heard:
        """See `Agent.hear`."""

    def signal_child(self, number: int, signum: int) -> None:
        """See `Agent.signal_child`; does not wait for it."""

    def forget(self, key: Key) -> None:
        """See `Agent.forget`; does not wait for it."""

    def end(self) -> None:
        """Ends the child, and the agent if it is the pool's own."""


class BridgeAgent(DriverAgent, Protocol):
    """That of an agent which may run the executable of a Rust program."""

    def start_run(self, number: int, task: bytes) -> Callable[[], Told]:
        """See `Agent.run`: sends the task, and returns the wait for the answer."""

    def put(self, number: int, messages: list[bytes]) -> None:
        """See `Agent.put`."""

    def take(self, number: int) -> Taken:
        """See `Agent.take`."""


class Keeper:
    """A cluster, with the values that its library keeps for the program, and the agents and pools
    that may use them. A subclass has `capacity`, `keep` and `_hire`, and says where its workers are
    (`PLACES`).
    """

    LIMITS: str
    PLACES: str

    def __init__(self) -> None:
        self._pools: weakref.WeakSet[RemotePool] = weakref.WeakSet()
        self._agents: weakref.WeakSet[Any] = weakref.WeakSet()
        # Values whose handles are gone, while there are tasks that may have one.
        self._lingering: list[Key] = []

    def capacity(self) -> int:
        """Returns how many workers have room in the whole cluster."""
        raise NotImplementedError

    def address(self) -> str:
        """Returns the address of this machine, by which the others reach it."""
        raise NotImplementedError

    def keep(self, parts: Sequence[Part]) -> Any:
        """Keeps the parts of a value; returns what the library knows them by."""
        raise NotImplementedError

    def leave(self) -> None:
        """Lets go of the cluster, at the end of the program."""
        raise NotImplementedError

    def hire(self, count: int) -> Crew:
        """Returns a `Crew` of so many agents.

        :raises ValueError: the cluster has fewer processors.
        """
        if count > (there := self.capacity()):
            raise ValueError(
                f'{count} workers were asked for, and {self.PLACES} has {there} for them: '
                f'ask for {there} or fewer, or for none to have all'
            )
        return Crew(self._hire, self._release, count)

    def add_pool(self, pool: RemotePool) -> None:
        """Notes a pool, whose tasks may have handles."""
        self._pools.add(pool)

    def add_agents(self, agents: Iterable[DriverAgent]) -> None:
        """Notes agents, which may be given values."""
        self._agents.update(agents)

    def forget(self, key: Key) -> None:
        """Lets go of the value of a handle that is gone; also in the collector."""
        self._lingering.append(key)
        self.let_go()

    def let_go(self) -> None:
        """Lets go of values that no task can want any more."""
        if any(pool._has_tasks() for pool in list(self._pools)):
            return
        lingering, self._lingering = self._lingering, []
        for key in lingering:
            _put.drop_reference(key)
            for agent in list(self._agents):
                agent.forget(key)

    def _hire(self, count: int) -> Sequence[DriverAgent]:
        raise NotImplementedError

    def _release(self, agents: Iterable[Any]) -> None:
        for agent in agents:
            agent.end()


class Crew:
    """The agents of a pool, by slot. `hire(count)` gets further ones of the cluster's library, and
    `release(agents)` lets them go.
    """

    def __init__(
        self, hire: Callable[[int], Sequence[DriverAgent]], release: Callable[[Iterable[DriverAgent]], None], count: int
    ) -> None:
        self._hire, self._release = hire, release
        self._lock = threading.Lock()
        self._agents = list(hire(count))

    def __getitem__(self, slot: int) -> DriverAgent:
        return self._agents[slot]

    def reach(self, count: int) -> None:
        """Hires as many as are missing for so many."""
        with self._lock:
            missing = count - len(self._agents)
            if missing > 0:
                self._agents += self._hire(missing)

    def release(self) -> None:
        """Lets all of them go, once."""
        with self._lock:
            agents, self._agents = self._agents, []
        self._release(agents)
