"""Barriers between processes, under each start method."""

import threading
import time

import pytest
from processes import joined, killed, started
from waits import LONG, SHORT, until


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
    # Processes that exited normally are not waited for.
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
