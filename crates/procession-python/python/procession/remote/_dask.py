"""Clusters that Dask's `distributed` manages. Used in the driver; the agents are actors, one for
each thread of the cluster's workers. Dask does not replace the actor of a worker that has died: the
carrier that finds it lost asks for another here.
"""

from __future__ import annotations

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

if TYPE_CHECKING:
    from ._put import Key, Part

try:
    import dask.config  # type: ignore[import-not-found, import-untyped, unused-ignore]
    import distributed  # type: ignore[import-not-found, import-untyped, unused-ignore]

    from ._dask_actor import END_TIMEOUT, LOST, DaskActor
    from ._dask_agent import DaskAgent, bring_value
except ImportError as error:
    raise ImportError(
        "the context 'dask' needs distributed, which is not installed: pip install 'procession[dask]'",
        name=error.name,
        path=error.path,
    ) from error

__all__ = ['Cluster']

# Seconds in which a worker must answer whether it is there.
_CONNECT_TIMEOUT = 30
# Seconds in which a thread of a worker becomes free, and between two looks for one.
_SETTLING, _RETRY_INTERVAL = 5.0, 0.1
_numbers = itertools.count(1)


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
        deadline = time.monotonic() + END_TIMEOUT
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
        except (*LOST, TimeoutError, distributed.KilledWorker) as error:
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

    def _hire(self, count: int) -> Sequence[DaskActor]:
        agents: list[DaskActor] = []
        deadline = time.monotonic() + _SETTLING
        try:
            while len(agents) < count:
                try:
                    agents.append(DaskActor(self))
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
