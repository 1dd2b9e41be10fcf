# The standard library's own module, shared with it.
from multiprocessing.resource_sharer import *
from multiprocessing.resource_sharer import DupFd as DupFd, stop as stop

__all__ = [
    'DupFd',
    'stop',
]
