"""The common parts of locks, semaphores, conditions, events and barriers: reprs, signals in waits,
travel.
"""

import copy
import multiprocessing
import os
import pickle
import signal
import threading

import procession
import pytest
from processes import METHODS, joined, started
from waits import FOR_EVER, LONG


def test_reprs():
    thread = threading.Thread(target=lambda: (lock.acquire(), seen.append(repr(lock))), name='other')
    lock, seen = procession.Lock(), []
    assert repr(lock) == '<Lock(owner=None)>'
    thread.start()
    thread.join()
    assert seen == ['<Lock(owner=MainProcess|other)>'] and repr(lock) == '<Lock(owner=SomeOtherThread)>'
    lock.release()
    with lock:
        assert repr(lock) == '<Lock(owner=MainProcess)>'
    assert repr(procession.Semaphore(3)) == '<Semaphore(value=3)>'
    assert repr(procession.BoundedSemaphore(3)) == '<BoundedSemaphore(value=3, maxvalue=3)>'
    assert repr(procession.Condition()) == '<Condition(<RLock(None, 0)>, 0)>'
    event = procession.Event()
    event.set()
    assert repr(event).startswith('<Event at ') and repr(event).endswith(' set>')
    assert 'waiters=0/3' in repr(procession.Barrier(3))


def ends_by_a_signal(call):
    """Fails unless an exception of a signal's handler ends `call`."""

    class Alarm(Exception):
        pass

    def ring(*_):
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(Alarm):
            call()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_signals_handler_runs_at_once_and_ends_a_wait():
    lock, condition = procession.Lock(), procession.Condition()
    lock.acquire()
    ends_by_a_signal(lock.acquire)
    ends_by_a_signal(lambda: lock.acquire(timeout=FOR_EVER))
    ends_by_a_signal(procession.Semaphore(0).acquire)
    ends_by_a_signal(procession.Event().wait)
    barrier = procession.Barrier(2)
    ends_by_a_signal(barrier.wait)
    assert barrier.broken
    with condition:
        ends_by_a_signal(condition.wait)
        assert condition._lock._semlock._count() == 1
    lock.release()
    assert lock.acquire(False)


# Travelling


def use_all(objects, again, reply):
    lock, rlock, semaphore, bounded, condition, event, barrier = objects
    assert again is lock and isinstance(rlock, procession.synchronize.RLock)
    with rlock, condition:
        semaphore.release()
        assert bounded.acquire(False) and not bounded.acquire(False)
    event.set()
    barrier.wait(LONG)
    reply.value = 1


def pass_on(ctx, *args):
    joined(started(ctx, use_all, *args))


def all_kinds(ctx):
    condition = ctx.Condition(ctx.Lock())
    return ctx.Lock(), ctx.RLock(), ctx.Semaphore(0), ctx.BoundedSemaphore(1), condition, ctx.Event(), ctx.Barrier(2)


@pytest.mark.parametrize('child', METHODS)
@pytest.mark.parametrize('package', [procession, multiprocessing])
def test_all_travel_to_children_of_any_context_and_to_theirs(ctx, package, child):
    objects, reply = all_kinds(ctx), package.get_context(child).Value('i', 0)
    child = package.get_context(child)
    process = started(child, pass_on, child, objects, objects[0], reply)
    objects[-1].wait(LONG)
    joined(process)
    assert reply.value == 1 and objects[5].is_set() and objects[2].get_value() == 1 and objects[3].get_value() == 0


def test_they_are_pickled_for_children_only(ctx):
    for obj in all_kinds(ctx):
        for dump in pickle.dumps, copy.copy:
            with pytest.raises(RuntimeError, match=f'{type(obj).__name__} objects should only be shared'):
                dump(obj)


def add_to(value, array, times):
    for index in range(times):
        with value:
            value.value += 1
        array[index % len(array)] += 1.5


def test_shared_values_and_queues_of_the_standard_library_go_with_them(ctx):
    value, array = ctx.Value('i', 0), ctx.Array('d', 4, lock=ctx.Lock())
    adders = [started(ctx, add_to, value, array, 100) for _ in range(2)]
    joined(*adders)
    assert value.value == 200
    with array.get_lock():
        assert array.get_obj()[0] >= 1.5


def test_many_locks_are_few_file_descriptors():
    before = len(os.listdir('/proc/self/fd'))
    locks = [procession.Lock() for _ in range(2000)]
    assert len(os.listdir('/proc/self/fd')) - before <= 1
    assert all(lock.acquire(False) for lock in locks)
