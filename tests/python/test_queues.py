"""Queues through the public API: the promises of the standard library."""

import multiprocessing.queues
import selectors
import signal
import sys
import threading
import time
from queue import Empty, Full

import procession as mp
import pytest
from procession import queues
from tasks import echo, put_many


def test_an_item_is_there_when_put_returns():
    queue = mp.Queue()
    for item in range(1000):
        queue.put(item)
        assert not queue.empty() and queue.qsize() == 1
        assert queue.get_nowait() == item
    assert queue.empty()


def test_bounds_and_timeouts():
    queue = mp.Queue(2)
    queue.put(1)
    queue.put(2, True, 5)
    assert queue.full() and queue.qsize() == 2
    for put in (lambda: queue.put_nowait(3), lambda: queue.put(3, False), lambda: queue.put(3, True, -1)):
        with pytest.raises(Full):
            put()
    with pytest.raises(Full):
        queue.put(3, timeout=0.1)
    assert [queue.get(), queue.get(timeout=5)] == [1, 2] and not queue.full()
    for get in (queue.get_nowait, lambda: queue.get(False), lambda: queue.get(True, -1)):
        with pytest.raises(Empty):
            get()
    with pytest.raises(Empty):
        queue.get(timeout=0.1)
    with pytest.raises(TypeError):
        queue.get(timeout='soon')
    with pytest.raises(ValueError, match='NaN'):
        queue.put(1, timeout=float('nan'))


def test_a_put_waits_for_room(ctx):
    queue = ctx.Queue(1)
    process = ctx.Process(target=put_many, args=(queue, 0, 50))
    process.start()
    assert [queue.get() for _ in range(50)] == [(0, number) for number in range(50)]
    process.join()


def test_every_item_reaches_one_of_many(ctx):
    queue, answers, count = ctx.Queue(), ctx.Queue(), 2000
    writers = [ctx.Process(target=put_many, args=(queue, who, count)) for who in range(3)]
    readers = [ctx.Process(target=echo, args=(queue, answers)) for _ in range(3)]
    for process in writers + readers:
        process.start()
    for process in writers:
        process.join()
    for _ in readers:
        queue.put('end')
    got = [answers.get() for _ in range(3 * count)]
    for process in readers:
        process.join()
    assert sorted(got) == [(who, number) for who in range(3) for number in range(count)]


def test_threads_share_a_queue():
    queue, answers = mp.Queue(5), mp.Queue()
    threads = [threading.Thread(target=echo, args=(queue, answers)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2000):
        queue.put([number])
    for _ in threads:
        queue.put('end')
    for thread in threads:
        thread.join()
    assert sorted(answers.get() for _ in range(2000)) == [[number] for number in range(2000)]


def test_joinable(ctx):
    queue = ctx.JoinableQueue()
    workers = [ctx.Process(target=_work, args=(queue,), daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    for number in range(50):
        queue.put(number)
    queue.join()
    assert queue.empty()
    for _ in workers:
        queue.put(None)
    for worker in workers:
        worker.join()
    with pytest.raises(ValueError, match=r'task_done\(\) called too many times'):
        queue.task_done()


def _work(queue):
    for _ in iter(queue.get, None):
        time.sleep(0.001)
        queue.task_done()
    queue.task_done()


def test_readers_are_waited_for(ctx):
    from multiprocessing.connection import wait

    queue, answers = ctx.Queue(), ctx.SimpleQueue()
    process = ctx.Process(target=echo, args=(queue, answers))
    process.start()
    for number in range(20):
        assert wait([answers._reader], 0) == []
        queue.put(number)
        assert wait([answers._reader, process.sentinel], 10) == [answers._reader]
        assert answers.get() == number
    queue.put('end')
    process.join()
    with selectors.DefaultSelector() as selector:
        selector.register(queue._reader, selectors.EVENT_READ)
        assert selector.select(0.05) == []
        queue.put(1)
        assert len(selector.select(10)) == 1
        assert queue._reader.poll() and queue._reader.recv() == 1
        assert selector.select(0.05) == [] and not queue._reader.poll(0.05)


def test_a_queue_is_one_of_the_standard_librarys():
    standard = multiprocessing.queues
    assert isinstance(mp.Queue(), standard.Queue) and isinstance(mp.SimpleQueue(), standard.SimpleQueue)
    assert isinstance(mp.JoinableQueue(), standard.JoinableQueue) and isinstance(mp.JoinableQueue(), queues.Queue)
    assert repr(queues.Queue[int]) == 'procession.queues.Queue[int]'


class Alarm(Exception):
    pass


@pytest.mark.parametrize('wait', [lambda: mp.Queue().get(), lambda: _full().put(2), lambda: _unfinished().join()])
def test_a_signal_handler_ends_a_wait(wait):
    def handler(*_):
        raise Alarm

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Alarm):
            wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _full():
    queue = mp.Queue(1)
    queue.put(1)
    return queue


def _unfinished():
    queue = mp.JoinableQueue()
    queue.put(1)
    return queue


def test_other_threads_run_as_one_waits():
    queue = mp.Queue()
    thread = threading.Thread(target=queue.get)
    thread.start()
    # It would never be put if the thread that waits kept the interpreter.
    queue.put(1)
    thread.join()


def test_modules_are_not_loaded_before_they_are_used():
    import subprocess

    names = ('multiprocessing.queues', 'procession.queues')
    code = f'import sys, procession; sys.exit(any(name in sys.modules for name in {names}))'
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
