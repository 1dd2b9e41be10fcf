from multiprocessing import shared_memory as _standard

from multiprocessing.shared_memory import ShareableList as ShareableList

__all__ = ['SharedMemory', 'ShareableList']

class SharedMemory(_standard.SharedMemory):
    # On every version of Python, other than in the standard library, which has `track` from 3.13
    # on.
    def __init__(self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True) -> None: ...
    # Never None before `close`; the standard library's declaration says otherwise of all times.
    @property
    def buf(self) -> memoryview: ...
    def unlink(self) -> None: ...
