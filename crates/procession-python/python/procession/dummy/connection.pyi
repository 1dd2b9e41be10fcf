# The standard library's source.
from multiprocessing.dummy import connection as _standard
from multiprocessing.dummy.connection import *
from multiprocessing.dummy.connection import Connection as Connection

__all__: list[str] = []
__all__ += _standard.__all__
