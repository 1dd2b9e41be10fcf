# The standard library's source, with arenas that have no name.
from mmap import mmap
from multiprocessing import heap as _standard
from typing import Any

from multiprocessing.heap import BufferWrapper as BufferWrapper, Heap as Heap

__all__ = ['BufferWrapper']

class Arena(_standard.Arena):
    size: int
    fd: int
    buffer: mmap
    def __init__(self, size: int, fd: int = -1) -> None: ...

def reduce_arena(arena: Arena) -> Any: ...
def rebuild_arena(size: int, handle: Any) -> Arena: ...
