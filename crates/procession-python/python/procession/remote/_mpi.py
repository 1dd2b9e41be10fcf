"""The ranks of an MPI job. Used in the driver, which is rank 0; the agents are on the other ranks
(`_mpi_rank.py`), one on each.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ._cluster import AgentLost, Keeper

if TYPE_CHECKING:
    from ._agent import Told
    from ._outlet import Heard
    from ._put import Key, Part

try:
    from ._mpi_post import Post
except ImportError as error:
    raise ImportError(
        "the context 'mpi' needs mpi4py and an MPI library: pip install 'procession[mpi]', and an MPI such as openmpi",
        name=error.name,
        path=error.path,
    ) from error

__all__ = ['Cluster']


class Cluster(Keeper):
    """The ranks of this MPI job, but for this one. The job is started by ``mpiexec -n N python -m
    procession.mpi script.py``.
    """

    LIMITS = 'mpiexec, or the scheduler that starts the job'
    PLACES = 'the MPI job, beside rank 0,'

    def __init__(self) -> None:
        super().__init__()
        self._post = Post.of_driver()
        self._lock = threading.Lock()
        self._idle = list(range(1, self._post.size))

    def capacity(self) -> int:
        """Returns how many workers have room in the whole job."""
        return self._post.size - 1

    def address(self) -> str:
        """Returns the address of this machine, by which the others reach it."""
        return self._post.address

    def keep(self, parts: Sequence[Part]) -> list[bytes]:
        """Keeps the parts of a value: MPI has no place for them."""
        self.let_go()
        return [bytes(part) for part in parts]

    def _hire(self, count: int) -> Sequence[_MpiAgent]:
        with self._lock:
            if len(self._idle) < count:
                there = len(self._idle)
                raise ValueError(
                    f'{count} workers were asked for, and {there} of the {self.capacity()} ranks of the MPI job are free now'
                )
            ranks, self._idle = self._idle[:count], self._idle[count:]
        agents = [_MpiAgent(self._post, rank) for rank in ranks]
        self.add_agents(agents)
        return agents

    def _release(self, agents: Iterable[_MpiAgent]) -> None:
        super()._release(agents)
        with self._lock:
            self._idle += [agent.rank for agent in agents]


class _MpiAgent:
    """The driver's side of an agent."""

    def __init__(self, post: Post, rank: int) -> None:
        self._post, self.rank = post, rank
        self._given: set[Key] = set()

    def begin(self, number: int, terms: bytes) -> Told:
        """See `Agent.begin`."""
        return self._told_by('begin', number, terms)

    def run(self, number: int, task: bytes) -> Told:
        """See `Agent.run`."""
        return self._told_by('run', number, task)

    def give(self, number: int, key: Key, reference: Any) -> Told:
        """See `Agent.give`."""
        parts = None if key in self._given else reference
        self._given.add(key)
        return self._told_by('give', number, key, parts)

    def forget(self, key: Key) -> None:
        """See `Agent.forget`; does not wait for it."""
        self._given.discard(key)
        self._post.send(self.rank, ('forget', key))

    def leave(self, number: int) -> Told:
        """See `Agent.leave`."""
        return self._told_by('leave', number)

    def wait(self, number: int) -> Told:
        """See `Agent.wait`."""
        return self._told_by('wait', number)

    def hear(self, number: int) -> Heard:
        """See `Agent.hear`."""
        heard: Heard = self._call('hear', number)
        return heard

    def signal_child(self, number: int, signum: int) -> None:
        """See `Agent.signal_child`; does not wait for it."""
        self._post.send(self.rank, ('signal_child', number, signum))

    def end(self) -> None:
        """Ends the child; the rank serves on."""
        self._post.send(self.rank, ('end',))

    def _told_by(self, *call: Any) -> Told:
        told: Told = self._call(*call)
        return told

    def _call(self, *call: Any) -> Any:
        answer = self._post.ask(self.rank, call)
        if isinstance(answer, Exception):
            raise AgentLost(str(answer)) from answer
        return answer
