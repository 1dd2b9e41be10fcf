"""How those wait who do not wait in the engine: event loops. Used in the parent, in the thread that waits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

__all__ = ['running_caller', 'running_library']


def running_library() -> str | None:
    """Returns which library's event loop runs in this thread: 'asyncio', 'trio', or `None`."""
    # What is not imported does not run.
    if (trio := sys.modules.get('trio')) is not None and _is_in_trio(trio):
        return 'trio'
    if (asyncio := sys.modules.get('asyncio')) is not None and asyncio._get_running_loop() is not None:
        return 'asyncio'
    return None


def running_caller() -> Callable[[Callable[[], Any]], Any] | None:
    """Returns what has a function called soon in this thread's event loop, from any thread; `None` if none runs."""
    library = running_library()
    if library == 'trio':
        caller: Callable[[Callable[[], Any]], Any] = sys.modules['trio'].lowlevel.current_trio_token().run_sync_soon
        return caller
    if library == 'asyncio':
        soon: Callable[[Callable[[], Any]], Any] = sys.modules['asyncio'].get_running_loop().call_soon_threadsafe
        return soon
    return None


def _is_in_trio(trio: Any) -> bool:
    lowlevel = getattr(trio, 'lowlevel', None)
    return lowlevel is not None and bool(lowlevel.in_trio_run())
