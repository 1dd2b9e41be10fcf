from typing import Any

from ._engine import Link
from .process import BaseProcess

__all__ = ['leave', 'received']

def leave(link: Link, how: str, value: object) -> None: ...
def received(process: BaseProcess) -> Any: ...
