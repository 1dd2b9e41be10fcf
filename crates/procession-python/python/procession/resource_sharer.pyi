# The standard library's own module, shared with it.
from multiprocessing import resource_sharer as _standard
from multiprocessing.resource_sharer import *
from multiprocessing.resource_sharer import DupFd as DupFd, stop as stop

__all__: list[str] = []
__all__ += _standard.__all__
