# The standard library's source: threads with the API of processes.
from multiprocessing.dummy import *
from multiprocessing.dummy import DummyProcess as DummyProcess, Namespace as Namespace, Value as Value, shutdown as shutdown

__all__ = [
    'Barrier',
    'BoundedSemaphore',
    'Condition',
    'Event',
    'JoinableQueue',
    'Lock',
    'Manager',
    'Pipe',
    'Pool',
    'Process',
    'Queue',
    'RLock',
    'Semaphore',
    'active_children',
    'current_process',
    'freeze_support',
]
