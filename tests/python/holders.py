"""Holders of locks and permits: another process, or the calling one."""

import time

from processes import started
from waits import LONG


def hold(lock, held):
    lock.acquire()
    held.set()
    time.sleep(LONG)


def holder_of(ctx, lock):
    held = ctx.Event()
    process = started(ctx, hold, lock, held)
    assert held.wait(LONG)
    return process


def take(semaphore, count):
    for _ in range(count):
        assert semaphore.acquire(timeout=LONG)
