"""Queues whose readers and writers end or are killed, and queues that are closed."""

import gc
import os
import signal
import time
from queue import Empty

import procession as mp
import pytest
from tasks import echo, put_many


def test_a_producer_ends_before_anybody_reads(ctx):
    queue, count = ctx.Queue(), 20_000
    process = ctx.Process(target=put_many, args=(queue, 0, count))
    process.start()
    process.join()
    assert process.exitcode == 0 and queue.qsize() == count
    assert [queue.get_nowait() for _ in range(count)] == [(0, number) for number in range(count)]


def _put_and_die(queue, item):
    queue.put(item)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_producer_leaves_what_it_has_put(ctx):
    queue = ctx.Queue()
    process = ctx.Process(target=_put_and_die, args=(queue, 'last words'))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and queue.get_nowait() == 'last words'


def test_an_item_is_polled_no_later_than_its_producers_end(ctx):
    from multiprocessing.connection import wait

    queue = ctx.SimpleQueue()
    for number in range(30):
        process = ctx.Process(target=queue.put, args=(number,))
        process.start()
        while process.sentinel not in (ready := wait([queue._reader, process.sentinel], 30)):
            assert ready == [queue._reader]
        assert queue._reader in ready and queue.get() == number
        process.join()


def _watch(queue, watched):
    queue._reader.fileno()
    watched.set()
    time.sleep(600)


def test_a_reader_that_is_stopped_as_it_polls_holds_no_put_up(ctx):
    queue, watched = ctx.Queue(), ctx.Event()
    process = ctx.Process(target=_watch, args=(queue, watched), daemon=True)
    process.start()
    assert watched.wait(30)
    os.kill(process.pid, signal.SIGSTOP)
    for number in range(1000):
        queue.put(number)
    assert queue.qsize() == 1000
    process.kill()
    process.join()


def _put_for_ever(queue):
    while True:
        queue.put(b'x' * 5000)


def _get_for_ever(queue):
    while True:
        queue.get()


@pytest.mark.parametrize('maxsize', [0, 3])
def test_killed_readers_and_writers_hold_up_nobody(maxsize):
    ctx = mp.get_context('fork')
    queue = ctx.Queue(maxsize)
    for round in range(40):
        writer = ctx.Process(target=_put_for_ever, args=(queue,))
        reader = ctx.Process(target=_get_for_ever, args=(queue,))
        writer.start()
        reader.start()
        time.sleep(0.002 * (round % 10))
        for process in (writer, reader) if round % 2 else (reader, writer):
            process.kill()
        writer.join()
        reader.join()
        while True:
            try:
                assert queue.get_nowait() == b'x' * 5000
            except Empty:
                break
        queue.put(round)
        assert queue.get(timeout=10) == round


def _get_into(queue, answers):
    answers.put(queue.get())


def test_a_reader_killed_as_it_waits_takes_nothing_with_it(ctx):
    queue, answers = ctx.Queue(), ctx.Queue()
    first, second = (ctx.Process(target=_get_into, args=(queue, answers)) for _ in range(2))
    first.start()
    second.start()
    time.sleep(0.2)
    first.kill()
    first.join()
    queue.put('for the living')
    assert answers.get(timeout=10) == 'for the living'
    second.join()


def _take_and_die(queue):
    queue.get()
    os.kill(os.getpid(), signal.SIGKILL)


def test_join_does_not_wait_for_the_dead(ctx):
    queue = ctx.JoinableQueue()
    queue.put(1)
    process = ctx.Process(target=_take_and_die, args=(queue,))
    process.start()
    process.join()
    queue.join()


def test_close():
    for queue in (mp.Queue(), mp.JoinableQueue()):
        with pytest.raises(AssertionError):
            queue.join_thread()
        queue.put(1)
        queue.close()
        queue.close()
        queue.join_thread()
        queue.cancel_join_thread()
        with pytest.raises(ValueError, match='is closed'):
            queue.put(2)
        with pytest.raises(ValueError, match='is closed'):
            queue.get()
        with pytest.raises(OSError, match='is closed'):
            queue.empty()
    queue = mp.SimpleQueue()
    queue.close()
    queue.close()
    assert queue._reader.closed and queue._writer.closed
    for call in (queue.empty, queue.get, lambda: queue.put(1)):
        with pytest.raises(OSError, match='is closed'):
            call()


def test_nothing_is_left_open():
    before = len(os.listdir('/proc/self/fd'))
    for _ in range(20):
        queue = mp.Queue()
        queue.put(1)
        queue.close()
        queue = mp.SimpleQueue()
        queue.close()
    del queue
    gc.collect()
    assert len(os.listdir('/proc/self/fd')) <= before


def test_a_queue_of_the_parent_works_in_the_child_of_a_fork_that_closed_it():
    ctx = mp.get_context('fork')
    queue, answers = ctx.Queue(), ctx.Queue()
    queue.close()
    process = ctx.Process(target=echo, args=(queue, answers))
    process.start()
    queue._closed = False
    queue.put('a')
    queue.put('end')
    assert answers.get() == 'a'
    process.join()
