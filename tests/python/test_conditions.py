"""Conditions and events between processes, under each start method."""

import multiprocessing
import threading
import time

import procession
import pytest
from holders import holder_of, take
from processes import joined, killed, started
from procession.synchronize import OwnerDiedError
from waits import LONG, SHORT, until

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
    for count, left in (1, 3), (2, 1):
        with condition:
            condition.notify(count)
        take(woken, count)
        assert waiting(condition) == left and woken.get_value() == 0
    with condition:
        condition.notify_all()
    joined(*waiters)
    assert waiting(condition) == 0 and condition._wait_semaphore.get_value() == 0


def test_a_waiter_that_is_killed_takes_no_notification(ctx):
    condition, woken = ctx.Condition(), ctx.Semaphore(0)
    waiters = []
    for number in range(3):
        waiters.append(started(ctx, wait_once, condition, woken))
        until(lambda number=number: waiting(condition) == number + 1)
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
        assert not condition.wait(SHORT)
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
        # Nobody notifies, and the waiter looks by itself.
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
