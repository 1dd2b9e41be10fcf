"""Callables that stand for the user's function and call it. Made in the parent, called in the
workers.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Wrapped:
    """Stands for `func`, with its names: titles and messages are those of the user's function."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func
        self.__qualname__ = name_of(func)
        self.__module__ = getattr(func, '__module__', None) or type(func).__module__


def name_of(function: Any) -> str:
    """Returns the name of a function; a partial's is that of what it calls, an object's that of its
    class.
    """
    while (name := getattr(function, '__qualname__', None)) is None and (inner := getattr(function, 'func', None)) is not None:
        function = inner
    return type(function).__qualname__ if name is None else str(name)
