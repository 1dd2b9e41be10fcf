"""Executors: `concurrent.futures` on this package's pools. Used in the parent.

`ProcessPoolExecutor` takes the place of the standard library's, and its futures are
`concurrent.futures.Future`s::

    from procession.futures import ProcessPoolExecutor, as_completed

    with ProcessPoolExecutor() as executor:
        futures = [executor.submit(function, argument) for argument in arguments]
        for future in as_completed(futures):
            print(future.result())

`get_reusable_executor` gives one that is kept warm between calls, as loky's does.
"""

from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    TimeoutError,
    as_completed,
    wait,
)
from concurrent.futures.process import BrokenProcessPool

from ._executor import ProcessPoolExecutor
from ._future import BrokenPoolError, Future, WorkerLost
from ._reusable_executor import get_reusable_executor

__all__ = [
    'ALL_COMPLETED',
    'FIRST_COMPLETED',
    'FIRST_EXCEPTION',
    'BrokenPoolError',
    'BrokenProcessPool',
    'CancelledError',
    'Future',
    'ProcessPoolExecutor',
    'TimeoutError',
    'WorkerLost',
    'as_completed',
    'get_reusable_executor',
    'wait',
]
