"""Locks and semaphores between processes, under each start method."""

import errno
import multiprocessing
import pickle
import threading

import procession
import pytest
from holders import holder_of, take
from processes import joined, killed, started
from procession.synchronize import OwnerDiedError
from waits import LONG, SHORT, until

# Locks


def add(lock, counter, times):
    for _ in range(times):
        with lock:
            counter.value += 1


@pytest.mark.parametrize('kind', ['Lock', 'RLock', 'Semaphore', 'BoundedSemaphore', 'Condition'])
def test_one_at_a_time(ctx, kind):
    lock, counter = getattr(ctx, kind)(), ctx.RawValue('i', 0)
    adders = [started(ctx, add, lock, counter, 500) for _ in range(3)]
    add(lock, counter, 500)
    joined(*adders)
    assert counter.value == 2000


@pytest.mark.parametrize('kind', ['Lock', 'RLock'])
def test_the_next_is_told_of_an_owners_death_and_the_lock_is_free(ctx, kind):
    lock = getattr(ctx, kind)()
    holder = holder_of(ctx, lock)
    assert not lock.acquire(False) and not lock.acquire(timeout=SHORT) and lock.locked()
    assert 'SomeOtherProcess' in repr(lock)
    caught = []

    def wait():
        try:
            lock.acquire()
        except OwnerDiedError as error:
            caught.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    killed(holder)
    waiter.join(LONG)
    assert [error.pid for error in caught] == [holder.pid] and str(holder.pid) in str(caught[0])
    assert not lock.locked() and lock.acquire(timeout=LONG)
    lock.release()


def test_an_attempt_without_waiting_is_told_of_a_death_too(ctx):
    lock = ctx.Lock()
    killed(holder_of(ctx, lock))
    with pytest.raises(OwnerDiedError):
        lock.acquire(False)
    with lock:
        pass
    error = pickle.loads(pickle.dumps(OwnerDiedError('told', 5)))
    assert (error.pid, str(error)) == (5, 'told')


def release(lock):
    lock.release()


def test_any_process_or_thread_releases_a_lock(ctx):
    lock = ctx.Lock()
    lock.acquire()
    joined(started(ctx, release, lock))
    assert lock.acquire(timeout=LONG)
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    assert lock.acquire(False)


def is_refused(lock):
    try:
        lock.release()
    except AssertionError as error:
        assert str(error) == 'attempt to release recursive lock not owned by thread'
        assert not lock.acquire(False)
        return
    raise SystemExit(3)


def test_only_its_owner_releases_an_rlock(ctx):
    lock = ctx.RLock()
    assert lock.acquire() and lock.acquire(False) and lock.acquire(timeout=0)
    assert repr(lock) == '<RLock(MainProcess, 3)>' and lock._semlock._count() == 3
    joined(started(ctx, is_refused, lock))
    thread = threading.Thread(target=is_refused, args=(lock,))
    thread.start()
    thread.join()
    for _ in range(3):
        assert lock._semlock._is_mine()
        lock.release()
    assert repr(lock) == '<RLock(None, 0)>'
    with pytest.raises(AssertionError, match='not owned by thread'):
        lock.release()


def test_one_release_too_many_raises_as_in_the_standard_library(ctx):
    for lock in ctx.Lock(), ctx.BoundedSemaphore(2):
        with pytest.raises(ValueError, match='semaphore or lock released too many times'):
            lock.release()
    lock = ctx.Lock()
    with pytest.raises(ValueError):
        with lock:
            lock.release()
    assert lock.acquire(False)


def test_arguments_are_taken_as_the_standard_librarys():
    lock = procession.Lock()
    assert lock.acquire(1, 5) and not lock.acquire(0, 5) and not lock.acquire(True, -1)
    assert not lock.acquire(block=[], timeout=None)
    for wrong in 'soon', []:
        with pytest.raises(TypeError):
            lock.acquire(timeout=wrong)
    with pytest.raises(TypeError, match='ctx'):
        procession.synchronize.Lock()
    for kind in 'Semaphore', 'BoundedSemaphore':
        for package in multiprocessing, procession:
            with pytest.raises(OSError, match='Invalid argument'):
                getattr(package, kind)(-1)


def test_a_class_derived_from_it_may_have_arguments_of_its_own():
    class Named(procession.synchronize.Lock):
        def __init__(self, name, *, ctx):
            super().__init__(ctx=ctx)
            self.name_of_mine = name

    class Unmade(procession.synchronize.Lock):
        def __init__(self):
            pass

    with Named('mine', ctx=procession.get_context()) as entered:
        assert entered is True
    with pytest.raises(RuntimeError, match='never made'):
        Unmade().acquire()
    assert repr(Unmade()) == '<Unmade(owner=unknown)>'


# Semaphores


def test_permits_are_counted(ctx):
    semaphore = ctx.Semaphore(2)
    assert semaphore.get_value() == 2 and semaphore._semlock.maxvalue == 2**31 - 1
    other = started(ctx, take, semaphore, 3)
    until(lambda: semaphore.get_value() == 0)
    semaphore.release()
    joined(other)
    assert semaphore.locked() and not semaphore.acquire(timeout=SHORT)
    bounded = ctx.BoundedSemaphore(1)
    assert bounded.acquire() and not bounded.acquire(False)
    bounded.release()
    assert bounded.get_value() == 1


def test_a_semaphore_of_fewer_than_no_permits_is_refused_as_by_the_c_library(ctx):
    with pytest.raises(OSError, match='Invalid argument') as refused:
        ctx.Semaphore(-1)
    assert refused.value.errno == errno.EINVAL
