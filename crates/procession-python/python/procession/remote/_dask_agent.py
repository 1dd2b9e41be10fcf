"""Agents as actors of Dask. Used in the processes of Dask's workers: the methods are called in the
event loop and run in threads of the agent's own, since Dask has one thread for all actors of a
worker.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from distributed import get_worker  # type: ignore[import-not-found, import-untyped, unused-ignore]

from ._agent import CONCURRENCY, Agent, Told

if TYPE_CHECKING:
    from ._outlet import Heard
    from ._program import Taken
    from ._put import Key, Part

__all__ = ['DaskAgent', 'bring_value']

_T = TypeVar('_T')

# Seconds between two looks whether the program still has the agent.
_LOOK_INTERVAL = 0.5
_agents: dict[str, DaskAgent] = {}


def bring_value(number: str, key: Key, parts: Sequence[Part]) -> None:
    """As a task of Dask, which has brought the parts here: keeps a value for an agent."""
    agent = _agents.get(number)
    if agent is not None:
        agent._arrived[key] = parts


class DaskAgent:
    """An agent whose calls may wait while others run."""

    def __init__(self, number: str) -> None:
        self._number, self._agent = number, Agent()
        self._arrived: dict[Key, Sequence[Part]] = {}
        self._threads = concurrent.futures.ThreadPoolExecutor(CONCURRENCY, 'procession-agent')
        self._worker, self._is_ended = get_worker(), False
        self._key = f'procession-agent-{number}'
        _agents[number] = self
        threading.Thread(target=self._end_with_program, name='procession-agent-watch', daemon=True).start()

    async def begin(self, number: int, terms: bytes) -> Told:
        """See `Agent.begin`."""
        return await self._run(self._agent.begin, number, terms)

    async def run(self, number: int, task: bytes) -> Told:
        """See `Agent.run`."""
        return await self._run(self._agent.run, number, task)

    async def give(self, number: int, key: Key, _: None) -> Told:
        """See `Agent.give`."""
        return await self._run(self._agent.give, number, key, self._arrived.pop(key, ()))

    async def leave(self, number: int) -> Told:
        """See `Agent.leave`."""
        return await self._run(self._agent.leave, number)

    async def wait(self, number: int) -> Told:
        """See `Agent.wait`."""
        return await self._run(self._agent.wait, number)

    async def put(self, number: int, messages: list[bytes]) -> None:
        """See `Agent.put`."""
        await self._run(self._agent.put, number, messages)

    async def take(self, number: int) -> Taken:
        """See `Agent.take`."""
        return await self._run(self._agent.take, number)

    async def hear(self, number: int) -> Heard:
        """See `Agent.hear`."""
        return await self._run(self._agent.hear, number)

    async def signal_child(self, number: int, signum: int) -> None:
        """See `Agent.signal_child`."""
        self._agent.signal_child(number, signum)

    async def forget(self, key: Key) -> None:
        """See `Agent.forget`."""
        self._agent.forget(key)

    async def end(self) -> None:
        """See `Agent.end`."""
        await self._run(self._end)

    async def _run(self, function: Callable[..., _T], *args: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    def _end(self) -> None:
        self._is_ended = True
        _agents.pop(self._number, None)
        self._agent.end()

    def _end_with_program(self) -> None:
        # Dask has the actor from before its first line until the program lets go of it, or is gone.
        # A wait for it to come would miss a program that dies before the first look.
        while not self._is_ended and self._key in self._worker.state.actors:
            time.sleep(_LOOK_INTERVAL)
        if not self._is_ended:
            self._end()
