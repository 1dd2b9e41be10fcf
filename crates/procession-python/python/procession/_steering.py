"""The keywords about workers and tasks that pools and executors take alike. Used in the parent.

`Pool.__init__` has the list of what may be said of workers. An executor and the backend for joblib
pass on what they are given.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from . import _output
from ._places import places_of


class Terms(NamedTuple):
    """The terms of tasks, as `options` takes them."""

    timeout: float | None = None
    retries: int = 0
    retry_on: type[Exception] | tuple[type[Exception], ...] | None = None
    backoff: float = 0.0


def steered(
    func: Callable[..., Any],
    carries_context: bool,
    retries: int,
    retry_on: type[Exception] | tuple[type[Exception], ...] | None,
    backoff: float,
) -> Callable[..., Any]:
    """Returns what calls `func` again after exceptions, and with the context variables of this
    thread, as far as that is asked for.
    """
    if retry_on is not None:
        from ._retry import retrying

        func = retrying(func, retries, retry_on, backoff)
    if carries_context:
        from ._context_variables import carrying

        func = carrying(func)
    return func


def check_terms(memory_limit: Any = None, finalizer: Any = None) -> None:
    """Checks what is asked of each worker.

    :raises TypeError: the finalizer cannot be called.
    :raises ValueError: the limit is no number of bytes.
    """
    if finalizer is not None and not callable(finalizer):
        raise TypeError('finalizer must be a callable')
    is_number = isinstance(memory_limit, int) and not isinstance(memory_limit, bool)
    if memory_limit is not None and (not is_number or memory_limit <= 0):
        raise ValueError(f'memory_limit must be a positive number of bytes, not {memory_limit!r}')


class Start:
    """The start of a worker: its initializer, its number of tasks, and a pool's other keywords."""

    def __init__(
        self,
        max_workers: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        max_tasks: int | None,
        terms: dict[str, Any],
        known: set[str],
    ) -> None:
        self.initializer = None if initializer is None else _initialize
        self.initargs = () if initializer is None else (initializer, initargs)
        self.max_tasks = max_tasks
        self.terms = terms
        # They are made here, and not by the pool, which may begin with fewer workers.
        self.places: Any = None
        if not terms:
            return
        if unknown := sorted(terms.keys() - known):
            raise TypeError(f'an executor has no option {unknown[0]!r} for its workers; there are {", ".join(sorted(known))}')
        self.places, self.terms = places_of(max_workers, **terms)
        check_terms(self.terms.get('memory_limit'), self.terms.get('finalizer'))
        # It raises for what it does not know.
        _output.Surroundings(terms.get('output'), terms.get('logs', False), terms.get('process_group', False))


def _initialize(initializer: Callable[..., object], initargs: tuple[Any, ...]) -> None:
    """In a worker, first of all."""
    try:
        initializer(*initargs)
    except BaseException:
        import logging

        logging.getLogger('concurrent.futures').critical('Exception in initializer:', exc_info=True)
        sys.exit(1)
