"""The place of each worker of a pool: environment, devices, processors, threads. In the
parent `Places` says it for each slot; in a worker `Place.enter` applies it, in its only thread.

A worker that is executed or made by the fork server enters its place before it imports anything of
the program, so that libraries which look at the environment once, as they are imported, see it. A
forked worker has what its parent has imported; `threadpoolctl`, if installed, limits the thread
pools of those libraries.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

# Each numbers the devices by itself. ROCR_VISIBLE_DEVICES is left out: HIP numbers anew the devices
# that it leaves, so that both together would hide all but the first.
_DEVICE_VARIABLES = ('CUDA_VISIBLE_DEVICES', 'HIP_VISIBLE_DEVICES', 'ZE_AFFINITY_MASK')
# Those that loky sets.
_THREAD_VARIABLES = (
    'OMP_NUM_THREADS',
    'OPENBLAS_NUM_THREADS',
    'MKL_NUM_THREADS',
    'BLIS_NUM_THREADS',
    'VECLIB_MAXIMUM_THREADS',
    'NUMBA_NUM_THREADS',
    'NUMEXPR_NUM_THREADS',
)

_Environment = Mapping[str, 'str | None']


class Place:
    """The place of one worker. It travels to the worker."""

    def __init__(
        self,
        environment: dict[str, str | None],
        cpus: list[int] | None,
        threads: int | None,
        rlimits: list[tuple[int, tuple[int, int]]],
    ) -> None:
        self._environment, self._cpus, self._threads, self._rlimits = environment, cpus, threads, rlimits

    def enter(self) -> None:
        """Worker: applies it to this process, before anything of the program is imported.

        :raises OSError: the processors are none of this process's any more.
        """
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if self._cpus is not None:
            os.sched_setaffinity(0, self._cpus)

    def limit_process(self) -> None:
        """Worker: takes the kernel's limits, before its initializer.

        :raises ValueError: one is above what this process may have.
        """
        if self._rlimits:
            import resource

            for kind, limits in self._rlimits:
                resource.setrlimit(kind, limits)

    def limit_loaded(self) -> None:
        """Worker: limits the thread pools of the libraries that are loaded by now."""
        limit = None if self._threads is None else _threadpool_limits()
        if limit is not None:
            limit(self._threads)


class Places:
    """The places of a pool's slots, by what its user has asked for."""

    def __init__(
        self,
        processes: int,
        env: _Environment | Callable[[int], _Environment] | None,
        devices: Sequence[Any] | None,
        cpus: str | Sequence[Any] | None,
        threads: int | str | None,
        rlimits: Mapping[str, int | tuple[int, int]] | None,
    ) -> None:
        self._env = env
        self._rlimits = _checked_rlimits(rlimits)
        self._devices = None if devices is None else _listed('devices', devices)
        self._allowed = sorted(os.sched_getaffinity(0))
        self._cpus = self._checked_cpus(cpus)
        self._threads = _checked_threads(threads)
        # "auto" and "spread" share out what there is to the workers of the beginning.
        self._first = processes
        self._places: list[Place] = []
        if threads is not None:
            # Imported before forks, so that each worker is spared it.
            _threadpool_limits()
        self.reach(processes)

    def reach(self, processes: int) -> None:
        """Makes the places of so many slots; what is made already stays.

        :raises ValueError: a list is shorter than that.
        """
        for name, given in (('devices', self._devices), ('cpus', self._cpus)):
            if isinstance(given, list) and len(given) < processes:
                raise ValueError(f'{name} has {len(given)} entries and the pool {processes} workers; give one for each worker')
        while len(self._places) < processes:
            self._places.append(self._place(len(self._places)))

    def __getitem__(self, slot: int) -> Place:
        return self._places[slot]

    def _place(self, slot: int) -> Place:
        cpus = self._cpus_of(slot)
        environment: dict[str, str | None] = {}
        threads = self._threads
        if threads == 'auto':
            threads = len(cpus) if cpus is not None else max(1, len(self._allowed) // self._first)
        if threads is not None:
            environment.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
        if self._devices is not None:
            environment.update(_device_environment(self._devices[slot]))
        given = self._env(slot) if callable(self._env) else self._env
        environment.update(_checked_environment(given))
        return Place(environment, cpus, threads, self._rlimits)  # type: ignore[arg-type]

    def _cpus_of(self, slot: int) -> list[int] | None:
        if self._cpus is None:
            return None
        if self._cpus == 'spread':
            # Disjoint shares while there are enough; otherwise one each, in turn.
            return self._allowed[slot % self._first :: self._first] or [self._allowed[slot % len(self._allowed)]]
        return self._cpus[slot]  # type: ignore[return-value]

    def _checked_cpus(self, cpus: str | Sequence[Any] | None) -> str | list[list[int]] | None:
        if cpus is None or cpus == 'spread':
            return cpus  # type: ignore[return-value]
        if isinstance(cpus, str):
            raise ValueError(f"cpus is 'spread' or a list with the processors of each worker, not {cpus!r}")
        shares = [[share] if isinstance(share, int) else list(share) for share in _listed('cpus', cpus)]
        for share in shares:
            unknown = [cpu for cpu in share if cpu not in self._allowed]
            if unknown or not share:
                raise ValueError(f'cpus names {unknown or "no processor"} for a worker; this process may use {self._allowed}')
        return shares


def places_of(
    processes: int,
    env: Any = None,
    devices: Any = None,
    cpus: Any = None,
    threads: Any = None,
    rlimits: Any = None,
    **others: Any,
) -> tuple[Places | None, dict[str, Any]]:
    """Returns the places that keywords of a pool ask for, if they do, and the other keywords."""
    if env is devices is cpus is threads is rlimits is None:
        return None, others
    return Places(processes, env, devices, cpus, threads, rlimits), others


def _listed(name: str, given: Any) -> list[Any]:
    if isinstance(given, (str, bytes)) or not hasattr(given, '__iter__'):
        raise TypeError(f'{name} must be a list with one entry for each worker, not {given!r}')
    return list(given)


def _checked_threads(threads: Any) -> Any:
    if threads is None or threads == 'auto':
        return threads
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads is a number of threads, 1 or more, or 'auto', not {threads!r}")
    return threads


def _checked_rlimits(rlimits: Any) -> list[tuple[int, tuple[int, int]]]:
    if rlimits is None:
        return []
    if not isinstance(rlimits, Mapping):
        raise TypeError(f"rlimits must be a dict such as {{'NOFILE': 64}}, not {rlimits!r}")
    # Of the standard library, and seldom needed.
    import resource

    checked = []
    for name, given in rlimits.items():
        kind = getattr(resource, f'RLIMIT_{name}', None) if isinstance(name, str) else None
        if kind is None:
            known = ', '.join(sorted(known[7:] for known in dir(resource) if known.startswith('RLIMIT_')))
            raise ValueError(f'rlimits has no limit {name!r}; there are {known}')
        _, hardest = resource.getrlimit(kind)
        soft, hard = limits = given if isinstance(given, tuple) and len(given) == 2 else (given, given)
        if not all(isinstance(limit, int) and limit >= -1 for limit in limits):
            raise TypeError(f'rlimits[{name!r}] is a number, or a soft and a hard one, not {given!r}')
        if _is_above(hard, hardest) or _is_above(soft, hard):
            raise ValueError(f'rlimits[{name!r}] is {given!r}, and this process may give {hardest} at most')
        checked.append((kind, limits))
    return checked


def _is_above(limit: int, other: int) -> bool:
    # -1 is no limit.
    return other != -1 and (limit == -1 or limit > other)


def _device_environment(device: Any) -> dict[str, str | None]:
    devices = [device] if isinstance(device, (int, str)) else list(device)
    if any(isinstance(one, bool) or not isinstance(one, (int, str)) for one in devices):
        raise TypeError(f'a device is a number or an identifier such as GPU-8932f937, or a list of them, not {device!r}')
    value = ','.join(map(str, devices))
    names = _DEVICE_VARIABLES if all(isinstance(one, int) for one in devices) else _DEVICE_VARIABLES[:2]
    return dict.fromkeys(names, value)


def _checked_environment(given: Any) -> dict[str, str | None]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f'env must be a dict, or a function that returns one for a slot, not {type(given).__name__}')
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, (str, type(None))):
            raise TypeError(f'env[{name!r}] must be a string, or None to take the variable away, not {value!r}')
        if not name or '=' in name or '\0' in name + (value or ''):
            raise ValueError(f'env[{name!r}] cannot be an environment variable')
    return dict(given)


def _threadpool_limits() -> Any:
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        # It is optional. The environment limits what is loaded from now on.
        return None
    return threadpool_limits
