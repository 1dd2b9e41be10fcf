"""The memory of locks and their like. Ten thousands of them, made and dropped, take no more memory
than a few. Memory that another process may still have is never another object's.
"""

import os

import procession
import pytest
from waits import LONG

# This many of the smallest take 2.5 MB if no memory is used again.
MANY = 40_000
# Bytes that may be left of them.
FEW = 512 << 10


def shared_memory():
    """Returns how many bytes of shared memory this process has touched."""
    with open('/proc/self/status') as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith('RssShmem:'))


def acquire(kind):
    with kind():
        pass


KINDS = {
    'Lock': lambda: acquire(procession.Lock),
    'RLock': lambda: acquire(procession.RLock),
    'Semaphore': lambda: acquire(procession.Semaphore),
    'BoundedSemaphore': lambda: acquire(procession.BoundedSemaphore),
    'Event': lambda: procession.Event().set(),
    'Condition': lambda: acquire(procession.Condition),
    'Barrier': lambda: procession.Barrier(1).wait(),
}


@pytest.mark.parametrize('kind', KINDS)
def test_many_objects_leave_no_memory(kind):
    make_and_drop = KINDS[kind]
    long_lived = procession.Lock()
    with long_lived:
        make_and_drop()
        for with_fork in (False, True):
            before = shared_memory()
            for number in range(MANY):
                if with_fork and number == MANY // 2:
                    pid = os.fork()
                    if pid == 0:
                        os._exit(0)
                    os.waitpid(pid, 0)
                make_and_drop()
            assert shared_memory() < before + FEW


def hold(lock, locked, over):
    with lock:
        locked.set()
        over.wait()


def test_lock_that_a_child_has_is_no_other_lock(ctx):
    lock, locked, over = ctx.Lock(), ctx.Event(), ctx.Event()
    child = ctx.Process(target=hold, args=(lock, locked, over))
    child.start()
    assert locked.wait(LONG)
    del lock
    others = [ctx.Lock() for _ in range(1000)]
    assert all(other.acquire(block=False) for other in others)
    over.set()
    child.join()
    assert child.exitcode == 0
    assert not any(other.acquire(block=False) for other in others), 'the child released its own'
