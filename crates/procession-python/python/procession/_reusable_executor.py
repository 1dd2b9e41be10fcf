"""The executor that is kept warm between calls, as loky has it. Used in the parent, from any
thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from multiprocessing.context import BaseContext
from typing import Any, Literal

from . import _engine
from ._executor import ProcessPoolExecutor

__all__ = ['get_reusable_executor']

_lock = threading.Lock()
# The one of this process, with the terms by which it was made.
_kept: tuple[int, tuple[Any, ...], ProcessPoolExecutor] | None = None


def get_reusable_executor(
    max_workers: int | None = None,
    context: BaseContext | str | None = None,
    timeout: float | None = 10,
    kill_workers: bool = False,
    reuse: bool | Literal['auto'] = 'auto',
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    **workers: Any,
) -> ProcessPoolExecutor:
    """Returns the process's own executor, which this call makes if there is none that it can use.

    Its workers end once it has had no task for `timeout` seconds, and others begin with the next
    task. It is the same as before unless it was shut down or broken, or was made with another
    `context` (a context or the name of a start method), `timeout` or `initializer`: then that one
    is shut down, and another is made. A different `max_workers` resizes it. `reuse=False` makes
    another in any case, and `reuse=True` takes the one that there is, whatever its terms. With
    `kill_workers` the executor that is replaced ends its workers at once.

    Further keywords are those of `ProcessPoolExecutor` about workers, as `env` and `output`. They
    are terms as the others are; with any of them `max_workers` is one, too.

    :raises TypeError: a keyword is unknown.

    How it differs from loky's: the executor survives the loss of a worker, so that it need not be
    asked for again.

    >>> from procession.futures import get_reusable_executor
    >>> get_reusable_executor().submit(pow, 2, 8).result()
    256
    """
    global _kept
    if isinstance(context, str):
        from ._start_method import default_context

        context = default_context().get_context(context)
    if max_workers is None:
        max_workers = _engine.available_parallelism()
    if max_workers <= 0:
        raise ValueError('max_workers must be greater than 0')
    terms = (context, timeout, initializer, initargs, workers, max_workers if workers else None)
    with _lock:
        kept = _kept if _kept is not None and _kept[0] == os.getpid() else None
        if kept is not None:
            executor = kept[2]
            is_usable = not executor._broken and not executor._shutdown_thread
            if is_usable and (reuse is True or reuse == 'auto' and kept[1] == terms):
                if executor._max_workers != max_workers:
                    executor._workers.resize(max_workers)
                return executor
            if kill_workers:
                executor.kill_workers()
            executor.shutdown(wait=is_usable)
        executor = ProcessPoolExecutor(max_workers, context, initializer, initargs, idle_timeout=timeout, **workers)
        _kept = os.getpid(), terms, executor
        return executor
