"""Locks, semaphores, conditions, events and barriers between processes, under each start method."""

import copy
import faulthandler
import multiprocessing
import os
import pickle
import signal
import threading
import time

import procession
import pytest
from procession.synchronize import OwnerDiedError

METHODS = ['fork', 'spawn', 'forkserver']
# Seconds after which something will never come.
LONG = 30
# Seconds that something is given to happen which must not.
SHORT = 0.1


@pytest.fixture(params=METHODS)
def ctx(request):
    return procession.get_context(request.param)


@pytest.fixture(autouse=True)
def watchdog():
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def started(ctx, target, *args):
    process = ctx.Process(target=target, args=args)
    process.start()
    return process


def killed(process):
    process.kill()
    process.join(LONG)
    assert process.exitcode == -signal.SIGKILL


def joined(*processes):
    for process in processes:
        process.join(LONG)
        assert process.exitcode == 0


def until(condition):
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


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


def hold(lock, held):
    lock.acquire()
    held.set()
    time.sleep(LONG)


def holder_of(ctx, lock):
    held = ctx.Event()
    process = started(ctx, hold, lock, held)
    assert held.wait(LONG)
    return process


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


def test_what_is_released_too_often_says_so_as_the_standard_library_does(ctx):
    for lock in ctx.Lock(), ctx.BoundedSemaphore(2):
        with pytest.raises(ValueError, match='semaphore or lock released too many times'):
            lock.release()
    lock = ctx.Lock()
    with pytest.raises(ValueError):
        with lock:
            lock.release()
    assert lock.acquire(False)


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


def raised_after(seconds, call):
    """The seconds until an exception of a signal's handler ends `call`."""

    class Alarm(Exception):
        pass

    def ring(*_):
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    begun = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with pytest.raises(Alarm):
            call()
        return time.monotonic() - begun
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_signals_handler_runs_at_once_and_ends_a_wait():
    lock, condition = procession.Lock(), procession.Condition()
    lock.acquire()
    assert raised_after(0.2, lock.acquire) < 2
    assert raised_after(0.2, lambda: lock.acquire(timeout=LONG)) < 2
    assert raised_after(0.2, procession.Semaphore(0).acquire) < 2
    assert raised_after(0.2, procession.Event().wait) < 2
    barrier = procession.Barrier(2)
    assert raised_after(0.2, barrier.wait) < 2 and barrier.broken
    with condition:
        assert raised_after(0.2, condition.wait) < 2
        assert condition._lock._semlock._count() == 1
    lock.release()
    assert lock.acquire(False)


# Semaphores


def take(semaphore, count):
    for _ in range(count):
        assert semaphore.acquire(timeout=LONG)


def test_permits_are_counted(ctx):
    semaphore = ctx.Semaphore(2)
    assert semaphore.get_value() == 2 and semaphore._semlock.maxvalue == 2**31 - 1
    taker = started(ctx, take, semaphore, 3)
    until(lambda: semaphore.get_value() == 0)
    semaphore.release()
    joined(taker)
    assert semaphore.locked() and not semaphore.acquire(timeout=SHORT)
    bounded = ctx.BoundedSemaphore(1)
    assert bounded.acquire() and not bounded.acquire(False)
    bounded.release()
    assert bounded.get_value() == 1


# Conditions


def wait_once(condition, woken):
    with condition:
        assert condition.wait(LONG)
    woken.release()


def waiting(condition):
    with condition:
        return condition._sleeping_count.get_value() - condition._woken_count.get_value()


@pytest.mark.parametrize('kind', ['Lock', 'RLock'])
def test_as_many_are_notified_as_are_asked_for(ctx, kind):
    condition, woken = ctx.Condition(getattr(ctx, kind)()), ctx.Semaphore(0)
    waiters = [started(ctx, wait_once, condition, woken) for _ in range(4)]
    until(lambda: waiting(condition) == 4)
    for count in 1, 2:
        with condition:
            condition.notify(count)
        take(woken, count)
        time.sleep(SHORT)
        assert woken.get_value() == 0
    with condition:
        condition.notify_all()
    joined(*waiters)
    assert waiting(condition) == 0 and condition._wait_semaphore.get_value() == 0


def test_a_waiter_that_is_killed_takes_no_notification(ctx):
    condition, woken = ctx.Condition(), ctx.Semaphore(0)
    waiters = []
    for number in range(3):
        waiters.append(started(ctx, wait_once, condition, woken))
        until(lambda: waiting(condition) == number + 1)
    killed(waiters[0])
    with condition:
        condition.notify()
    take(woken, 1)
    joined(waiters[1])
    with condition:
        condition.notify_all()
    joined(waiters[2])


def test_a_wait_gives_the_lock_back_as_often_as_it_was_had():
    condition = procession.Condition()
    for call in condition.wait, condition.notify, condition.notify_all:
        with pytest.raises(AssertionError, match='acquire|owned'):
            call()
    with condition, condition:
        begun = time.monotonic()
        assert not condition.wait(SHORT) and time.monotonic() - begun >= SHORT
        assert condition._lock._semlock._count() == 2
    assert not condition._lock.locked()


def test_a_wait_says_that_the_locks_owner_died_and_has_the_lock(ctx):
    lock = ctx.Lock()
    condition = ctx.Condition(lock)

    def take_and_die():
        until(lambda: condition._waiters.waiting() == 1)
        holder = holder_of(ctx, lock)
        condition._waiters.notify(1)
        time.sleep(SHORT)
        killed(holder)

    thread = threading.Thread(target=take_and_die)
    with pytest.raises(OwnerDiedError):
        with condition:
            thread.start()
            try:
                condition.wait(LONG)
            finally:
                assert lock._semlock._is_mine()
    thread.join()
    assert not lock.locked()


def count_down(condition, value):
    with condition:
        assert condition.wait_for(lambda: value.value == 1, timeout=LONG)
        value.value = 2
        condition.notify_all()


def test_wait_for_waits_until_it_is_so(ctx):
    condition, value = ctx.Condition(), ctx.RawValue('i', 0)
    other = started(ctx, count_down, condition, value)
    with condition:
        assert condition.wait_for(lambda: False, timeout=SHORT) is False
        value.value = 1
        # Nobody notifies: it looks by itself.
        assert condition.wait_for(lambda: value.value == 2 and 'two', LONG) == 'two'
    joined(other)


def test_a_condition_goes_with_the_standard_librarys_lock():
    condition, woken = procession.Condition(multiprocessing.get_context('fork').RLock()), []

    def wait():
        with condition, condition:
            woken.append(condition.wait(LONG))

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: waiting(condition) == 1)
    with condition:
        condition.notify()
    thread.join(LONG)
    assert woken == [True]


# Events


def wait_for_event(event, woken):
    assert event.wait(LONG)
    woken.release()


def test_an_event_wakes_all_also_if_one_was_killed(ctx):
    event, woken = ctx.Event(), ctx.Semaphore(0)
    assert event.wait(0) is False and event.wait(SHORT) is False and not event.is_set()
    waiters = [started(ctx, wait_for_event, event, woken) for _ in range(3)]
    time.sleep(SHORT)
    killed(waiters.pop())
    event.set()
    joined(*waiters)
    assert woken.get_value() == 2 and event.wait() is True
    event.clear()
    assert not event.is_set()


# Barriers


def meet(barrier, times, indices):
    for _ in range(times):
        indices[barrier.wait(LONG)] += 1
    assert barrier.n_waiting == 0 and not barrier.broken


def test_a_barrier_opens_when_all_are_there(ctx):
    barrier, indices = ctx.Barrier(3), ctx.RawArray('i', 3)
    others = [started(ctx, meet, barrier, 20, indices) for _ in range(2)]
    meet(barrier, 20, indices)
    joined(*others)
    assert list(indices) == [20] * 3 and not barrier.broken and barrier.n_waiting == 0 and barrier.parties == 3
    # Those that ended in an orderly way are not missed.
    others = [started(ctx, meet, barrier, 1, indices) for _ in range(2)]
    meet(barrier, 1, indices)
    joined(*others)
    assert isinstance(barrier, threading.Barrier)


class Slow:
    """An action: it takes a while, and then shows."""

    def __init__(self, done, seconds):
        self.done, self.seconds = done, seconds

    def __call__(self):
        time.sleep(self.seconds)
        self.done.value += 1


def meet_after(barrier, done, timeout):
    barrier.wait(timeout)
    assert done.value == 1


def test_the_action_is_done_once_before_anybody_goes_on(ctx):
    done = ctx.RawValue('i', 0)
    barrier = ctx.Barrier(2, Slow(done, 0.5), timeout=LONG)
    other = started(ctx, meet_after, barrier, done, None)
    barrier.wait()
    assert done.value == 1
    joined(other)


def meet_broken(barrier):
    try:
        barrier.wait(LONG)
    except threading.BrokenBarrierError:
        return
    raise SystemExit(3)


def fail():
    raise LookupError('in the action')


def test_an_action_that_raises_breaks_the_barrier(ctx):
    barrier = ctx.Barrier(2, fail)
    other = started(ctx, meet_broken, barrier)
    until(lambda: barrier.n_waiting == 1)
    with pytest.raises(LookupError):
        barrier.wait()
    joined(other)
    assert barrier.broken and barrier.n_waiting == 0


@pytest.mark.parametrize('victim_acts', [False, True])
def test_a_party_that_is_killed_breaks_the_barrier(ctx, victim_acts):
    done = ctx.RawValue('i', 0)
    barrier = ctx.Barrier(2 if victim_acts else 3, Slow(done, LONG))
    other = started(ctx, meet_broken, barrier)
    until(lambda: barrier.n_waiting == 1)
    victim = started(ctx, meet_broken, barrier)
    until(lambda: barrier.n_waiting == 2)
    killed(victim)
    joined(other)
    assert barrier.broken and done.value == 0
    barrier.reset()
    assert not barrier.broken


def test_a_barrier_is_broken_by_abort_reset_and_time(ctx):
    barrier = ctx.Barrier(2)
    for end in barrier.abort, barrier.reset:
        other = started(ctx, meet_broken, barrier)
        until(lambda: barrier.n_waiting == 1)
        end()
        joined(other)
        assert barrier.broken is (end == barrier.abort)
        barrier.reset()
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(SHORT)
    assert barrier.broken
    for parties in 0, -1:
        with pytest.raises(ValueError):
            ctx.Barrier(parties)


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
