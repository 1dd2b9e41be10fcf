# The standard library's source.
from multiprocessing.dummy.connection import *
from multiprocessing.dummy.connection import Connection as Connection

__all__ = [
    'Client',
    'Listener',
    'Pipe',
]
