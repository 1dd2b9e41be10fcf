"""Context variables, and OpenTelemetry's context, that go with tasks. Captured in the parent by the
thread that submits, set in the workers around the call.

A `ContextVar` does not pickle. It goes by name, as the global of a module, so one that is no such
global stays behind, and so does one whose value does not pickle.
"""

from __future__ import annotations

import contextvars
import importlib
import pickle
import sys

from . import _spawning
from ._wrapped import Wrapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

# Of each variable the module and the name in it.
_places: dict[contextvars.ContextVar[Any], tuple[str, str]] = {}
# Of each variable that is no global of a module how many modules there were when it was looked for.
_missed: dict[contextvars.ContextVar[Any], int] = {}


def carrying(func: Callable[..., Any]) -> Callable[..., Any]:
    """Returns what calls `func` with the context variables as they are now in this thread."""
    return _Carrying(func, [*_captured()], _telemetry())


class _Carrying(Wrapped):
    def __init__(
        self, func: Callable[..., Any], variables: list[tuple[str, str, bytes]], telemetry: dict[str, str] | None
    ) -> None:
        super().__init__(func)
        self._variables, self._telemetry = variables, telemetry

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return contextvars.Context().run(self._call, args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for module, name, value in self._variables:
            getattr(importlib.import_module(module), name).set(pickle.loads(value))
        if self._telemetry is not None:
            context: Any = importlib.import_module('opentelemetry.context')
            propagate: Any = importlib.import_module('opentelemetry.propagate')
            context.attach(propagate.extract(self._telemetry))
        return self.func(*args, **kwargs)


def _captured() -> Iterator[tuple[str, str, bytes]]:
    for variable, value in contextvars.copy_context().items():
        if (place := _place_of(variable)) is None:
            continue
        try:
            pickled = bytes(_spawning.reducer.ForkingPickler.dumps(value))
        except Exception:
            # As the head of this file says.
            continue
        yield *place, pickled


def _place_of(variable: contextvars.ContextVar[Any]) -> tuple[str, str] | None:
    place = _places.get(variable)
    if place is not None and getattr(sys.modules.get(place[0]), place[1], None) is variable:
        return place
    # A search goes through all modules, so one that was in vain waits for another module.
    if _missed.get(variable) == len(sys.modules):
        return None
    place = _found(variable)
    if place is None:
        _missed[variable] = len(sys.modules)
    else:
        _places[variable] = place
    return place


def _found(variable: contextvars.ContextVar[Any]) -> tuple[str, str] | None:
    for name, module in list(sys.modules.items()):
        for attribute, value in list(getattr(module, '__dict__', {}).items()):
            if value is variable:
                return name, attribute
    return None


def _telemetry() -> dict[str, str] | None:
    """Returns OpenTelemetry's context as the text map that its propagators make of it."""
    if 'opentelemetry.context' not in sys.modules:
        # The program has no spans.
        return None
    propagate: Any = importlib.import_module('opentelemetry.propagate')
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier
