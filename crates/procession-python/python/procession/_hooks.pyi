from collections.abc import Callable
from types import FunctionType
from typing import Any

def is_original(function: Callable[..., Any], neighbour: FunctionType) -> bool: ...
