"""Clusters that Dask's `distributed` manages. Used in the driver; the agents are actors, one for
each thread of the cluster's workers. Dask does not replace the actor of a worker that has died: the
carrier that finds it lost asks for another here.
"""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import os
import socket
import threading
import time
import urllib.parse
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ._cluster import AgentLost, Keeper
from ._dask_agent import DaskAgent, bring_value

if TYPE_CHECKING:
    from ._agent import Told
    from ._outlet import Heard
    from ._program import Taken
    from ._put import Key, Part

try:
    import dask.config  # type: ignore[import-not-found, import-untyped, unused-ignore]
    import distributed  # type: ignore[import-not-found, import-untyped, unused-ignore]
    from distributed.comm import CommClosedError  # type: ignore[import-not-found, import-untyped, unused-ignore]
except ImportError as error:
    raise ImportError(
        "the context 'dask' needs distributed, which is not installed: pip install 'procession[dask]'",
        name=error.name,
        path=error.path,
    ) from error

__all__ = ['Cluster']

# The errors of a call whose worker is gone.
_LOST = (CommClosedError, OSError, distributed.client.FutureCancelledError, concurrent.futures.CancelledError)
# Seconds in which a worker must answer whether it is there.
_CONNECT_TIMEOUT = 30
# Seconds in which an agent must have ended.
_END_TIMEOUT = 6.0
# Seconds in which a thread of a worker becomes free, and between two looks for one.
_SETTLING, _RETRY_INTERVAL = 5.0, 0.1


class Cluster(Keeper):
    """A Dask cluster: that of a `Client`, or at a scheduler's address; by default that of the
    default client, or the one that Dask's configuration names.
    """

    LIMITS = "--memory-limit of Dask's workers"
    PLACES = 'the Dask cluster'

    def __init__(self, address_or_client: Any = None) -> None:
        super().__init__()
        self._given: Any = address_or_client
        self._client: Any = None
        self._begun = threading.Lock()
        # Agents by the address of their worker.
        self._used: dict[str, int] = {}
        # Threads in which agents end.
        self._ending: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._has_warned = False

    def capacity(self) -> int:
        """Returns how many workers have room in the whole cluster."""
        return sum(self._threads().values())

    def address(self) -> str:
        """Returns the address of this machine, by which the others reach it."""
        host = urllib.parse.urlsplit(self._connected().scheduler.address).hostname or 'localhost'
        with socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # No packet is sent.
            probe.connect((host, 9))
            address: str = probe.getsockname()[0]
            return address

    def keep(self, parts: Sequence[Part]) -> Any:
        """Scatters the parts of a value; returns the future of them."""
        self.let_go()
        head, *buffers = parts
        parts = [head, *(bytes(buffer) for buffer in buffers)]
        return self._connected().scatter([parts], hash=False)[0]

    def leave(self) -> None:
        """Lets go of the cluster, once its agents have ended."""
        deadline = time.monotonic() + _END_TIMEOUT
        for thread in list(self._ending):
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._client is not None:
            self._client.close()

    def place_agent(self, avoided: str | None = None) -> tuple[Any, Any, str, str]:
        """Returns an actor on the worker that has the most room, its worker's address and its
        number. Raises `AgentLost` if no worker has room.
        """
        with self._begun:
            room = {address: threads - self._used.get(address, 0) for address, threads in self._threads().items()}
            address: str | None = max(
                room, key=lambda address: (room[address] > 0, address != avoided, room[address]), default=None
            )
            if address is None or room[address] <= 0:
                raise AgentLost('no worker of the Dask cluster has room')
            self._used[address] = self._used.get(address, 0) + 1
        number = f'{os.getpid()}-{id(self):x}-{next(_numbers)}'
        try:
            future = self._connected().submit(
                DaskAgent, number, actor=True, workers=[address], key=f'procession-agent-{number}', allow_other_workers=False
            )
            future.result(_CONNECT_TIMEOUT)
            with self._client.as_current():
                # The result is of the default client, which may be another.
                return future, distributed.Actor(DaskAgent, address, future.key), address, number
        except (*_LOST, TimeoutError, distributed.KilledWorker) as error:
            self.give_back(address)
            raise AgentLost(str(error)) from error

    def give_back(self, address: str) -> None:
        """Notes that an agent is gone from a worker."""
        with self._begun:
            self._used[address] = max(0, self._used.get(address, 0) - 1)

    def end_later(self, act: Callable[[], None]) -> None:
        """Ends an agent in a thread of its own."""
        if self.is_connected():
            thread = threading.Thread(target=act, name='procession-agent-end', daemon=True)
            self._ending.add(thread)
            thread.start()

    def release(self, future: Any) -> None:
        """Has Dask let go of an actor."""
        if self.is_connected():
            future.release()

    def is_connected(self) -> bool:
        """Returns whether the client of the cluster can be used."""
        return self._client is not None and self._client.status == 'running'

    def bring(self, address: str, number: str, key: Key, reference: Any) -> None:
        """Has Dask bring a value to a worker."""
        self._connected().submit(bring_value, number, key, reference, workers=[address], pure=False).result()

    def _hire(self, count: int) -> Sequence[_DaskAgent]:
        agents: list[_DaskAgent] = []
        deadline = time.monotonic() + _SETTLING
        try:
            while len(agents) < count:
                try:
                    agents.append(_DaskAgent(self))
                except AgentLost:
                    # A worker that has died is about to be started anew.
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(_RETRY_INTERVAL)
        except AgentLost as error:
            self._release(agents)
            there = len(agents)
            raise ValueError(
                f'{count} workers were asked for, and {there} of the {self.capacity()} threads of the Dask cluster are free now'
            ) from error
        self.add_agents(agents)
        return agents

    def _connected(self) -> Any:
        if self._client is None:
            given = self._given
            if given is None:
                # As Dask's own programs find it.
                given = _default_client() or dask.config.get('scheduler-address', None)
            if given is None:
                raise ValueError(
                    "no Dask cluster is known: get_context('dask', address) takes a scheduler's address or a Client, and "
                    'DASK_SCHEDULER_ADDRESS may name one'
                )
            is_client = isinstance(given, distributed.Client)
            self._client = given if is_client else distributed.Client(given, direct_to_workers=True, set_as_default=False)
        return self._client

    def _threads(self) -> dict[str, int]:
        threads: dict[str, int] = self._connected().nthreads()
        if not self._has_warned and any(count > 1 for count in threads.values()):
            self._has_warned = True
            warnings.warn(
                'a worker of the Dask cluster has several threads, whose agents all end if it is killed: start workers with --nthreads 1',
                RuntimeWarning,
                stacklevel=4,
            )
        return threads


def _default_client() -> Any:
    try:
        return distributed.default_client()
    except ValueError:
        return None


def _tells_of_loss(error: Exception) -> bool:
    """Returns whether an error of a call says that the actor is gone, or its worker. Dask has no
    class for it where it is the scheduler who says so.
    """
    return isinstance(error, _LOST) or 'Actor' in str(error)


_numbers = itertools.count(1)


class _DaskAgent:
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
            except (*_LOST, distributed.KilledWorker) as error:
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
            actor.end().result(_END_TIMEOUT)
        except (*_LOST, ValueError, RuntimeError) as error:
            # It is gone or does not end in time, or the program has closed its client.
            if self._cluster.is_connected() and not _tells_of_loss(error):
                raise
        with self._changed:
            self._changed.wait_for(lambda: self._calls == 0, _END_TIMEOUT)
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
        except (*_LOST, ValueError, RuntimeError) as error:
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
        except (*_LOST, ValueError, RuntimeError) as error:
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
