"""Progress of maps: a bar of tqdm or rich where one is installed, else a line on a terminal. Used
in the parent; a thread of its own looks at how many results there are.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

# Seconds between two looks.
_INTERVAL = 0.1


def shown(progress: bool | str, count: Callable[[], int | None], total: int | None) -> _Shown | None:
    """Begins to show progress and returns it; `None` where there is nothing to show it on.

    `progress` is `True` or a description. `count()` returns how many are done; `None`, or what is
    not told, ends it.
    """
    if progress is not True and not isinstance(progress, str):
        raise TypeError(f'progress is a bool or a description, not {progress!r}')
    bar = _bar(total, '' if progress is True else progress)
    return None if bar is None else _Shown(bar, count)


class _Shown:
    def __init__(self, bar: _Tqdm | _Rich | _Line, count: Callable[[], int | None]) -> None:
        self._bar, self._count = bar, count
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._show, name='procession progress', daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Shows the last count, and ends the bar."""
        self._over.set()
        self._thread.join()

    def _show(self) -> None:
        try:
            is_over = False
            while not is_over:
                is_over = self._over.wait(_INTERVAL)
                if (done := self._count()) is None:
                    return
                self._bar.show(done)
        finally:
            self._bar.close()


def _bar(total: int | None, description: str) -> _Tqdm | _Rich | _Line | None:
    try:
        tqdm: Any = importlib.import_module('tqdm.auto')
    except ImportError:
        pass
    else:
        return _Tqdm(tqdm.tqdm(total=total, desc=description or None))
    try:
        progress: Any = importlib.import_module('rich.progress')
        console: Any = importlib.import_module('rich.console')
    except ImportError:
        pass
    else:
        # On stderr, as tqdm does: stdout is the program's.
        return _Rich(progress.Progress(console=console.Console(stderr=True)), total, description)
    if sys.stderr is not None and sys.stderr.isatty():
        return _Line(sys.stderr, total, description)
    return None


class _Tqdm:
    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def show(self, done: int) -> None:
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class _Rich:
    def __init__(self, bar: Any, total: int | None, description: str) -> None:
        self._bar = bar
        self._task = bar.add_task(description, total=total)
        bar.start()

    def show(self, done: int) -> None:
        self._bar.update(self._task, completed=done)

    def close(self) -> None:
        self._bar.stop()


class _Line:
    def __init__(self, file: TextIO, total: int | None, description: str) -> None:
        self._file, self._total = file, total
        self._head = f'{description}: ' if description else ''
        self._begun = time.monotonic()

    def show(self, done: int) -> None:
        seconds = time.monotonic() - self._begun
        share = '' if self._total is None else f'/{self._total}, {100 * done // max(self._total, 1)} %'
        self._file.write(f'\r{self._head}{done}{share}, {seconds:.0f} s')
        self._file.flush()

    def close(self) -> None:
        self._file.write('\n')
        self._file.flush()
