"""Clusters that Ray manages. Used in the driver; the agents are Ray actors, one for each slot, that
have one processor each, are spread over the machines, and are started anew by Ray when they die.
"""

from __future__ import annotations

import functools
import socket
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._agent import CONCURRENCY, Agent
from ._cluster import AgentLost, Keeper

if TYPE_CHECKING:
    from ._agent import Told
    from ._outlet import Heard
    from ._program import Taken
    from ._put import Key, Part

try:
    import ray  # type: ignore[import-not-found, import-untyped, unused-ignore]
    from ray import exceptions
except ImportError as error:
    raise ImportError(
        "the context 'ray' needs Ray, which is not installed: pip install 'procession[ray]'", name=error.name, path=error.path
    ) from error

__all__ = ['Cluster']

# Seconds in which a cluster must answer.
_CONNECT_TIMEOUT = 10.0
# Seconds in which processors are given back that others have let go.
_SETTLING = 5.0
# Seconds in which Ray must have started the agents.
_START_TIMEOUT = 120.0


class Cluster(Keeper):
    """A Ray cluster: that at `address`, by default the one that Ray finds or starts itself.

    `resources` are what each worker needs, as Ray counts it (`{'GPU': 1}`); `runtime_env` is Ray's,
    for the packages and files of the workers.
    """

    LIMITS = "Ray's resources, or a control group of its machines"
    PLACES = 'the Ray cluster'

    def __init__(
        self,
        address: str | None = None,
        *,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._address = address
        self._options: dict[str, Any] = {'num_cpus': 1}
        resources = dict(resources or {})
        for name, option in (('CPU', 'num_cpus'), ('GPU', 'num_gpus'), ('memory', 'memory')):
            if name in resources:
                self._options[option] = resources.pop(name)
        if resources:
            self._options['resources'] = resources
        if runtime_env is not None:
            self._options['runtime_env'] = runtime_env

    def capacity(self) -> int:
        """Returns how many workers have room in the whole cluster."""
        self._connect()
        return int(ray.cluster_resources().get('CPU', 0) // (self._options['num_cpus'] or 1))

    def address(self) -> str:
        """Returns the address of this machine, by which the others reach it."""
        self._connect()
        address: str = ray.util.get_node_ip_address()
        return address

    def free(self) -> int:
        """Returns how many more workers have room now."""
        self._connect()
        return int(ray.available_resources().get('CPU', 0) // (self._options['num_cpus'] or 1))

    def keep(self, parts: Sequence[Part]) -> Any:
        """Puts the parts of a value into Ray's object store; returns its reference."""
        self._connect()
        self.let_go()
        return ray.put(parts)

    def leave(self) -> None:
        """Lets go of the cluster; one that this program has started ends."""
        ray.shutdown()

    def _connect(self) -> None:
        if not ray.is_initialized():
            if self._address is not None:
                _check_answer(self._address)
            ray.init(self._address)

    def _hire(self, count: int) -> Sequence[_RayAgent]:
        deadline = time.monotonic() + _SETTLING
        while self.free() < count and time.monotonic() < deadline:
            time.sleep(0.05)
        if (there := self.free()) < count:
            raise ValueError(
                f'{count} workers were asked for, and {there} of the {self.capacity()} processors of the Ray cluster are free now'
            )
        actor = ray.remote(Agent).options(
            **self._options, max_restarts=-1, max_task_retries=0, max_concurrency=CONCURRENCY, scheduling_strategy='SPREAD'
        )
        actors = [actor.remote() for _ in range(count)]
        started, missing = ray.wait([each.forget.remote(None) for each in actors], num_returns=count, timeout=_START_TIMEOUT)
        if missing:
            for each in actors:
                ray.kill(each)
            raise ValueError(
                f'{count} workers were asked for, and {len(started)} of them have begun on the Ray cluster within {_START_TIMEOUT:g} seconds: '
                '`ray status` tells what takes its processors'
            )
        agents = [_RayAgent(each) for each in actors]
        self.add_agents(agents)
        return agents


class _RayAgent:
    """The driver's side of an agent."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._run = actor.run

    def begin(self, number: int, terms: bytes) -> Told:
        """See `Agent.begin`."""
        return self._result(self._actor.begin.remote(number, terms))

    def run(self, number: int, task: bytes) -> Told:
        """See `Agent.run`."""
        return self._result(self._run.remote(number, task))

    def start_run(self, number: int, task: bytes) -> Callable[[], Told]:
        """See `BridgeAgent.start_run`."""
        return functools.partial(self._result, self._run.remote(number, task))

    def give(self, number: int, key: Key, reference: Any) -> Told:
        """See `Agent.give`: Ray brings the value to the agent's machine."""
        return self._result(self._actor.give.remote(number, key, reference))

    def forget(self, key: Key) -> None:
        """See `Agent.forget`; does not wait for it."""
        if ray.is_initialized():
            self._actor.forget.remote(key)

    def leave(self, number: int) -> Told:
        """See `Agent.leave`."""
        return self._result(self._actor.leave.remote(number))

    def wait(self, number: int) -> Told:
        """See `Agent.wait`."""
        return self._result(self._actor.wait.remote(number))

    def put(self, number: int, messages: list[bytes]) -> None:
        """See `Agent.put`."""
        _result_of(self._actor.put.remote(number, messages))

    def take(self, number: int) -> Taken:
        """See `Agent.take`."""
        taken: Taken = _result_of(self._actor.take.remote(number))
        return taken

    def hear(self, number: int) -> Heard:
        """See `Agent.hear`."""
        heard: Heard = _result_of(self._actor.hear.remote(number))
        return heard

    def signal_child(self, number: int, signum: int) -> None:
        """See `Agent.signal_child`; does not wait for it."""
        if ray.is_initialized():
            self._actor.signal_child.remote(number, signum)

    def end(self) -> None:
        """Ends the actor, and the kernel its child with it."""
        if ray.is_initialized():
            ray.kill(self._actor)

    @staticmethod
    def _result(reference: Any) -> Told:
        told: Told = _result_of(reference)
        return told


def _check_answer(address: str) -> None:
    """Raises `ConnectionError` if nobody is at an address, for which Ray would look for minutes."""
    place = urllib.parse.urlsplit(address if '//' in address else f'//{address}')
    if place.hostname is None or place.port is None:
        # A name that Ray knows, as 'auto'.
        return
    try:
        socket.create_connection((place.hostname, place.port), _CONNECT_TIMEOUT).close()
    except OSError as error:
        raise ConnectionError(f'no Ray cluster answers at {address}: {error}') from error


def _result_of(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except (exceptions.RayActorError, exceptions.ObjectLostError, exceptions.WorkerCrashedError) as error:
        raise AgentLost(str(error)) from error
