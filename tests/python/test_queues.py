"""Queues through the public face: what the standard library promises, and where it fails when processes die."""

import gc
import os
import pickle
import selectors
import signal
import sys
import threading
import time
import weakref
from queue import Empty, Full

import pytest

import multiprocessing.queues
import procession as mp
from procession import queues


class Thing:
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return type(other) is Thing and other.value == self.value


class Number(int):
    pass


class Text(str):
    pass


class Breaks:
    """Pickles, and does not unpickle."""

    def __reduce__(self):
        return _fail, ('on purpose',)


def _fail(why):
    raise LookupError(why)


class Refuses:
    def __reduce__(self):
        raise LookupError('on purpose')


ITEMS = [
    None, True, False, 0, -1, 2**63 - 1, -2**63, 2**63, 2**200, 0.5, float('-inf'), '', 'abc', 'äöü€\U0001f600',
    '\ud800', b'', b'abc', b'x' * 70_000, b'y' * 3_000_000, 'z' * 100_000, bytearray(b'abc'), bytearray(200_000),
    (1, 'a'), [1, [2]], {'a': Thing(3)},
    Number(3), Text('abc'), Thing, len, range(3), list(range(50_000)),
]


def _echo(requests, answers):
    for item in iter(requests.get, 'end'):
        answers.put(item)


@pytest.mark.parametrize('kind', ['Queue', 'JoinableQueue', 'SimpleQueue'])
def test_items_come_back_as_they_were(ctx, kind):
    requests, answers = getattr(ctx, kind)(), getattr(ctx, kind)()
    process = ctx.Process(target=_echo, args=(requests, answers))
    process.start()
    for item in ITEMS:
        requests.put(item)
        back = answers.get()
        assert back == item and type(back) is type(item)
    requests.put('end')
    process.join()
    assert process.exitcode == 0 and answers.empty()


def test_an_item_is_there_when_put_returns():
    queue = mp.Queue()
    for item in range(1000):
        queue.put(item)
        assert not queue.empty() and queue.qsize() == 1
        assert queue.get_nowait() == item
    assert queue.empty()


def test_what_is_put_is_pickled_at_once():
    queue, item = mp.Queue(), [1]
    queue.put(item)
    item.append(2)
    assert queue.get() == [1]
    alive = weakref.ref(thing := Thing(1))
    queue.put(thing)
    del thing
    gc.collect()
    assert alive() is None, 'the pickler has kept it'


def test_bounds_and_timeouts():
    queue = mp.Queue(2)
    queue.put(1)
    queue.put(2, True, 5)
    assert queue.full() and queue.qsize() == 2
    for put in (lambda: queue.put_nowait(3), lambda: queue.put(3, False), lambda: queue.put(3, True, -1)):
        with pytest.raises(Full):
            put()
    begun = time.monotonic()
    with pytest.raises(Full):
        queue.put(3, timeout=0.1)
    assert 0.1 <= time.monotonic() - begun < 5
    assert [queue.get(), queue.get(timeout=5)] == [1, 2] and not queue.full()
    for get in (queue.get_nowait, lambda: queue.get(False), lambda: queue.get(True, -1)):
        with pytest.raises(Empty):
            get()
    begun = time.monotonic()
    with pytest.raises(Empty):
        queue.get(timeout=0.1)
    assert 0.1 <= time.monotonic() - begun < 5
    with pytest.raises(TypeError):
        queue.get(timeout='soon')
    with pytest.raises(OverflowError):
        queue.put(1, timeout=float('inf'))


def test_a_put_waits_for_room(ctx):
    queue = ctx.Queue(1)
    process = ctx.Process(target=_put_many, args=(queue, 0, 50))
    process.start()
    assert [queue.get() for _ in range(50)] == [(0, number) for number in range(50)]
    process.join()


def _put_many(queue, who, count):
    for number in range(count):
        queue.put((who, number))


def test_a_producer_ends_before_anybody_reads(ctx):
    queue, count = ctx.Queue(), 20_000
    process = ctx.Process(target=_put_many, args=(queue, 0, count))
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


def test_every_item_reaches_one_of_many(ctx):
    queue, answers, count = ctx.Queue(), ctx.Queue(), 2000
    writers = [ctx.Process(target=_put_many, args=(queue, who, count)) for who in range(3)]
    readers = [ctx.Process(target=_echo, args=(queue, answers)) for _ in range(3)]
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
    threads = [threading.Thread(target=_echo, args=(queue, answers)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2000):
        queue.put([number])
    for _ in threads:
        queue.put('end')
    for thread in threads:
        thread.join()
    assert sorted(answers.get() for _ in range(2000)) == [[number] for number in range(2000)]


def test_what_does_not_pickle_raises_in_the_caller():
    for queue in (mp.Queue(1), mp.JoinableQueue(1), mp.SimpleQueue()):
        with pytest.raises((pickle.PicklingError, AttributeError), match='lambda'):
            queue.put(lambda: 0)
        with pytest.raises(LookupError, match='on purpose'):
            queue.put([1, Refuses()])
        queue.put('next')
        assert queue.get() == 'next'
    queue = mp.JoinableQueue()
    with pytest.raises(LookupError):
        queue.put(Refuses())
    queue.join()


class Hooked(queues.Queue):
    heard = None

    def _on_queue_feeder_error(self, error, item):
        self.heard = error, item


def test_a_hook_gets_what_does_not_pickle():
    queue, item = Hooked(ctx=mp.get_context()), Refuses()
    queue.put(item)
    assert isinstance(queue.heard[0], LookupError) and queue.heard[1] is item and queue.empty()


def test_what_does_not_unpickle_raises_and_is_gone():
    queue = mp.Queue()
    queue.put(Breaks())
    queue.put('next')
    with pytest.raises(LookupError, match='on purpose'):
        queue.get()
    assert queue.get() == 'next'


class Puts:
    """Puts something else as it is pickled."""

    def __init__(self, queue):
        self.queue = queue

    def __reduce__(self):
        self.queue.put({'inner': Thing(1)})
        return Thing, ('outer',)


def test_pickling_may_use_queues_itself():
    queue = mp.Queue()
    queue.put([Puts(queue), Puts(queue)])
    assert [queue.get(), queue.get()] == [{'inner': Thing(1)}] * 2
    assert queue.get() == [Thing('outer')] * 2


def test_reducers_registered_later_count():
    from multiprocessing.reduction import ForkingPickler

    class Local:
        pass

    queue = mp.Queue()
    with pytest.raises((pickle.PicklingError, AttributeError)):
        queue.put(Local())
    ForkingPickler.register(Local, lambda local: (Thing, ('local',)))
    try:
        queue.put(Local())
        assert queue.get() == Thing('local')
    finally:
        del ForkingPickler._extra_reducers[Local]


def test_joinable(ctx):
    queue = ctx.JoinableQueue()
    workers = [ctx.Process(target=_work, args=(queue,), daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    for number in range(50):
        queue.put(number)
    queue.join()
    assert queue.empty()
    for worker in workers:
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


class Buffers:
    """Large buffers that travel beside the pickle, as an array's do."""

    def __init__(self, *buffers):
        self.buffers = buffers

    def __reduce_ex__(self, protocol):
        return Buffers, tuple(pickle.PickleBuffer(buffer) for buffer in self.buffers)


@pytest.mark.parametrize('size', [0, 1000, 100_000, 5_000_000])
def test_buffers_come_back_as_they_were(size):
    queue, sent = mp.Queue(), [b'a' * size, bytearray(b'b' * size), memoryview(bytearray(b'c' * size))]
    for _ in range(3):
        queue.put([Buffers(*sent), 'x' * size])
    assert pickle.loads(queue._reader.recv_bytes())[0].buffers == tuple(sent)
    for _ in range(2):
        got, text = queue.get()
        assert text == 'x' * size and got.buffers == tuple(sent)
        assert [type(buffer) for buffer in got.buffers] == [bytes, bytearray, bytearray]


def test_only_spawning_shares_a_queue():
    for queue in (mp.Queue(), mp.JoinableQueue(), mp.SimpleQueue()):
        with pytest.raises(RuntimeError, match='inheritance'):
            pickle.dumps(queue)


def test_readers_are_waited_for(ctx):
    from multiprocessing.connection import wait

    queue, answers = ctx.Queue(), ctx.SimpleQueue()
    process = ctx.Process(target=_echo, args=(queue, answers))
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


def test_ends_carry_pickles():
    queue = mp.Queue()
    for item in ITEMS:
        queue.put(item)
        assert pickle.loads(queue._reader.recv_bytes()) == item
    queue._writer.send_bytes(pickle.dumps({'a': 1}))
    queue._writer.send_bytes(bytearray(b'xx' + pickle.dumps('part') + b'x'), 2, len(pickle.dumps('part')))
    assert queue.get() == {'a': 1} and queue._reader.recv() == 'part'


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
        begun = time.monotonic()
        with pytest.raises(Alarm):
            wait()
        assert time.monotonic() - begun < 5
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
    begun = time.monotonic()
    sum(range(1_000_000))
    queue.put(1)
    thread.join()
    assert time.monotonic() - begun < 30


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
    process = ctx.Process(target=_echo, args=(queue, answers))
    process.start()
    queue._closed = False
    queue.put('a')
    queue.put('end')
    assert answers.get() == 'a'
    process.join()


def test_modules_are_not_loaded_before_they_are_used():
    import subprocess

    names = ('multiprocessing.queues', 'procession.queues')
    code = f'import sys, procession; sys.exit(any(name in sys.modules for name in {names}))'
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
