"""The use that a pool's workers made of their time, as `Pool.insights` returns it. Used in the
parent.

The engine measures and collects, in each worker and in the parent. Here it gets its names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Times:
    """Seconds by what they were spent on. A worker's life is the sum, `total`.

    `start_up` is from the start of the process until it was ready for tasks, with the initializer;
    `waiting` is for tasks; `working` is in the user's function; `pickling` is to decode arguments
    and to encode results.
    """

    start_up: float
    waiting: float
    working: float
    pickling: float

    @property
    def total(self) -> float:
        """The sum of the seconds."""
        return self.start_up + self.waiting + self.working + self.pickling

    @property
    def shares(self) -> dict[str, float]:
        """The share of each in the sum, from 0 to 1, by its name; all 0 if that is 0."""
        total = self.total
        return {name: seconds / total if total else 0.0 for name, seconds in vars(self).items()}


@dataclass(frozen=True)
class WorkerInsights:
    """The use that a slot's worker made of its time, with that of those which it replaced.

    `started` is how many workers have been started in the slot, `tasks` how many tasks have ended
    there, by a value or an exception. `host` is the name of the machine of the worker that is there
    now; `None` if it is this one, or there is no worker.
    """

    slot: int
    started: int
    tasks: int
    times: Times
    host: str | None = None


@dataclass(frozen=True)
class SlowTask:
    """One of the slowest tasks that ended by themselves.

    `call` is the function's name with its arguments, shortened to 200 characters; `index` is which
    task of its job it was, as in `stats`, or `None` if the job was cancelled or failed before the
    task ended; `slot` is its worker's.
    """

    seconds: float
    job: int
    index: int | None
    slot: int
    call: str


@dataclass(frozen=True)
class Insights:
    """The use that a pool's workers made of their time. As text it is a table.

    `workers` has an entry for each slot that has, or had, a worker; `total` is the sum of their
    times; `slowest` has the slowest tasks, five at most, the slowest first.
    """

    workers: tuple[WorkerInsights, ...]
    total: Times
    slowest: tuple[SlowTask, ...]
    _table: str = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self._table


def insights_of(engine: Any, hosts: Mapping[int, str] = MappingProxyType({})) -> Insights:
    """Returns the insights of a pool. `hosts` are the machines of its workers by their slots, if
    they are not on this one.

    :raises ValueError: if it does not measure.
    """
    measured = engine.insights()
    if measured is None:
        raise ValueError('this pool does not measure how its workers spend their time: make it with Pool(insights=True)')
    workers, total, slowest, table = measured
    if hosts:
        of_hosts: dict[str, list[int]] = {}
        for slot, host in hosts.items():
            of_hosts.setdefault(host, []).append(slot)
        lines = (f'  {host}: worker {", ".join(map(str, sorted(slots)))}\n' for host, slots in sorted(of_hosts.items()))
        table = f'{table.rstrip()}\n\non other machines; working is there, and the way there and back\n{"".join(lines)}'
    return Insights(
        tuple(WorkerInsights(slot, started, tasks, Times(*times), hosts.get(slot)) for slot, started, tasks, times in workers),
        Times(*total),
        tuple(SlowTask(*slow) for slow in slowest),
        table,
    )
