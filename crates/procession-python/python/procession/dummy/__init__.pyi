# The standard library's source: threads with the API of processes.
from multiprocessing import dummy as _standard
from multiprocessing.dummy import *
from multiprocessing.dummy import DummyProcess as DummyProcess, Namespace as Namespace, Value as Value, shutdown as shutdown

__all__: list[str] = []
__all__ += _standard.__all__
