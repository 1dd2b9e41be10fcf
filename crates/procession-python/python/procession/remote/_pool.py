"""Pools whose workers are on other machines. Used in the driver.

A `RemotePool` is a local pool whose workers are proxies: chunks, order, callbacks, lazy maps,
errors, retries, time limits and replacements are the local pool's own. See `_proxy.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .. import _errors
from .._errors import NotRemote
from .._processes import SpawnProcess
from .._start_method import default_context
from .._workers import Starting, _Fd
from ..pool import TERMINATE, Pool
from . import _proxy
from ._carrier import Carrier
from ._hearer import Pipes
from ._messages import Channel
from ._values import RemoteValues, child_terms

if TYPE_CHECKING:
    from .. import _engine
    from .._insights import Insights

__all__ = ['ProxyProcess', 'RemotePool']


# Chunks of a map for each worker, if the caller says nothing: as in the standard library.
_CHUNKS = 4


class ProxyProcess(SpawnProcess):
    """A proxy: a fresh interpreter, which has nothing of the program and none of its threads."""

    _imports_main = False


class _RemoteStarting(Starting):
    """Starts the proxies of a pool, each with a carrier to its slot's agent."""

    def __init__(self, pool: RemotePool, processes: int, daemon: bool, max_memory: int | None) -> None:
        super().__init__(pool, processes, daemon, max_memory)
        self._crew = pool._crew
        self._child_calls = pool._values_for_children.pickled(self._call)
        self._child_places, self._places = self._places, None
        # Not the program's function, which may lead to the pool.
        self._output = None if pool._surroundings is None else pool._surroundings.name

    def _start(self, control: int, slot: int, broker: int, setting: _engine.Setting | None = None) -> Any:
        ours, theirs = Channel.pair()
        pipes = None if setting is None else Pipes(setting, self._output)
        with theirs:
            self._call = (_proxy.enter, tuple(map(_Fd, theirs.fds())), _proxy.leave)
            try:
                child = super()._start(control, slot, broker, pipes)
            except BaseException:
                ours.close()
                if pipes is not None:
                    pipes.close()
                raise
        process = self._workers[-1]
        place = None if self._child_places is None else self._child_places[slot]
        terms = child_terms(process.name, slot, self._child_calls, place, pipes)
        Carrier(ours, self._crew[slot], terms, process.pid, pipes).start()
        return child


class RemotePool(Pool):
    """A pool of workers on the machines of a cluster.

    It takes what :class:`procession.pool.Pool` takes, except for `cpus`, `memory_limit` and
    `max_memory_per_child`. `processes` is by default the number of the cluster's processors.

    :raises ValueError: the cluster has fewer processors than `processes`.
    :raises NotRemote: an option has no meaning on other machines.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        **terms: Any,
    ) -> None:
        if context is None:
            context = default_context().get_context()
        for name in ('cpus', 'memory_limit', 'max_memory_per_child'):
            if terms.get(name) is not None:
                raise NotRemote(
                    f'{name} is for workers on this machine only: give the limit to the cluster ({context._cluster.LIMITS})'
                )
        if processes is None:
            processes = context._cluster.capacity()
        if processes < 1:
            raise ValueError('Number of processes must be at least 1')
        self._values_for_children = RemoteValues()
        self._crew = crew = context._cluster.hire(processes)
        try:
            super().__init__(processes, initializer, initargs, maxtasksperchild, context, **terms)
        except BaseException:
            crew.release()
            raise
        self._engine.when_gone(crew.release)
        context._cluster.add_pool(self)

    def resize(self, processes: int) -> None:
        """As the local pool's; the cluster must have so many processors."""
        self._check_running()
        self._crew.reach(processes)
        super().resize(processes)

    def insights(self) -> Insights:
        """As the local pool's. The times are those of the round trips: `working` is all of a task
        that another machine has.
        """
        from .._insights import insights_of

        places = {process._slot: _errors.place_of(process.pid) for process in self._workers if process.is_alive()}
        return insights_of(self._engine, {slot: place[0] for slot, place in places.items() if place is not None})

    def _map(self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None, *terms: Any) -> Any:
        if chunksize is None:
            # Each chunk costs a round trip to another machine, so there are few, and none is small.
            items = iterable if isinstance(iterable, (list, range)) else list(iterable)
            iterable, chunksize = items, max(1, -(-len(items) // (_CHUNKS * self._processes)))
        local: Any = super()
        return local._map(func, iterable, chunksize, *terms)

    def _has_tasks(self) -> bool:
        return bool(self._state != TERMINATE and self._engine.outstanding() > 0)

    def _make_starting(self, processes: int, daemon: bool, max_memory: int | None) -> Starting:
        return _RemoteStarting(self, processes, daemon, max_memory)

    def _make_values(self) -> RemoteValues:
        return self._values_for_children

    @staticmethod
    def Process(ctx: object, *args: Any, **kwds: Any) -> Any:
        """Returns a process that stands for a worker on another machine."""
        return ProxyProcess(*args, **kwds)
