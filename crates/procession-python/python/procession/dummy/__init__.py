"""See `multiprocessing.dummy`, which serves here on procession's contexts."""

from procession._standard import adopt

adopt(__name__)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.dummy import (
        Barrier as Barrier,
        BoundedSemaphore as BoundedSemaphore,
        Condition as Condition,
        DummyProcess as DummyProcess,
        Event as Event,
        JoinableQueue as JoinableQueue,
        Lock as Lock,
        Manager as Manager,
        Namespace as Namespace,
        Pipe as Pipe,
        Pool as Pool,
        Process as Process,
        Queue as Queue,
        RLock as RLock,
        Semaphore as Semaphore,
        Value as Value,
        active_children as active_children,
        current_process as current_process,
        freeze_support as freeze_support,
        shutdown as shutdown,
    )

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
