"""Tasks that are run again after an exception. Made in the parent, called in the workers."""

from __future__ import annotations

import itertools
import time

from ._wrapped import Wrapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Seconds that a task waits at most before it is run again.
_MAX_PAUSE = 300.0


def retrying(func: Callable[..., Any], retries: int, retry_on: Any, backoff: float) -> Callable[..., Any]:
    """Returns what calls `func` again after exceptions of the classes `retry_on`, up to `retries`
    times, and waits `backoff` seconds before the first of these, twice as long before the next.
    """
    classes = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    if not all(isinstance(one, type) and issubclass(one, Exception) for one in classes):
        raise TypeError(f'retry_on is an exception class or a tuple of them, not {retry_on!r}')
    if retries < 1:
        raise ValueError('retry_on says after which exceptions to run a task again, and retries says how often: give both')
    if not 0 <= backoff < float('inf'):
        raise ValueError(f'backoff is a number of seconds, 0 or more, not {backoff!r}')
    return _Retrying(func, retries, classes, backoff)


class _Retrying(Wrapped):
    def __init__(self, func: Callable[..., Any], retries: int, classes: tuple[type[Exception], ...], backoff: float) -> None:
        super().__init__(func)
        self._retries, self._classes, self._backoff = retries, classes, backoff

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for attempt in itertools.count():
            try:
                return self.func(*args, **kwargs)
            except self._classes as error:
                if attempt == self._retries:
                    error.add_note(f'it was tried {attempt + 1} times')
                    raise
            time.sleep(min(self._backoff * 2 ** min(attempt, 64), _MAX_PAUSE))
