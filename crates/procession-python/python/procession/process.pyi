from collections.abc import Callable, Iterable, Mapping
from multiprocessing import process as _standard
from typing import Any

from multiprocessing.process import (
    active_children as active_children,
    current_process as current_process,
    parent_process as parent_process,
)

__all__ = ['BaseProcess', 'current_process', 'active_children', 'parent_process']

class BaseProcess(_standard.BaseProcess):
    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] = {},
        *,
        daemon: bool | None = None,
    ) -> None: ...
    def start(self) -> None: ...
    # What it returns is the process's result.
    def run(self) -> Any: ...
    def interrupt(self) -> None: ...
    def result(self, timeout: float | None = None) -> Any: ...
