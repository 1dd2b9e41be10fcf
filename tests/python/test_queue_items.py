"""Items of queues: they come back as they were, and how they are pickled."""

import gc
import pickle
import weakref

import procession as mp
import pytest
from procession import queues
from tasks import echo


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
    """An item that pickles, and does not unpickle."""

    def __reduce__(self):
        return _fail, ('on purpose',)


def _fail(why):
    raise LookupError(why)


class Refuses:
    def __reduce__(self):
        raise LookupError('on purpose')


ITEMS = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**63,
    2**200,
    0.5,
    float('-inf'),
    '',
    'abc',
    'äöü€\U0001f600',
    '\ud800',
    b'',
    b'abc',
    b'x' * 70_000,
    b'y' * 3_000_000,
    'z' * 100_000,
    bytearray(b'abc'),
    bytearray(200_000),
    (1, 'a'),
    [1, [2]],
    {'a': Thing(3)},
    Number(3),
    Text('abc'),
    Thing,
    len,
    range(3),
    list(range(50_000)),
]


@pytest.mark.parametrize('kind', ['Queue', 'JoinableQueue', 'SimpleQueue'])
def test_items_come_back_as_they_were(ctx, kind):
    requests, answers = getattr(ctx, kind)(), getattr(ctx, kind)()
    process = ctx.Process(target=echo, args=(requests, answers))
    process.start()
    for item in ITEMS:
        requests.put(item)
        back = answers.get()
        assert back == item and type(back) is type(item)
    requests.put('end')
    process.join()
    assert process.exitcode == 0 and answers.empty()


def test_put_pickles_at_once():
    queue, item = mp.Queue(), [1]
    queue.put(item)
    item.append(2)
    assert queue.get() == [1]
    alive = weakref.ref(thing := Thing(1))
    queue.put(thing)
    del thing
    gc.collect()
    assert alive() is None, 'the pickler has kept it'


def test_item_that_does_not_pickle_raises_in_the_caller():
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


def test_item_that_does_not_unpickle_raises_and_is_gone():
    queue = mp.Queue()
    queue.put(Breaks())
    queue.put('next')
    with pytest.raises(LookupError, match='on purpose'):
        queue.get()
    assert queue.get() == 'next'


class Puts:
    """An item that puts another as it is pickled."""

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


def test_ends_carry_pickles():
    queue = mp.Queue()
    for item in ITEMS:
        queue.put(item)
        assert pickle.loads(queue._reader.recv_bytes()) == item
    queue._writer.send_bytes(pickle.dumps({'a': 1}))
    queue._writer.send_bytes(bytearray(b'xx' + pickle.dumps('part') + b'x'), 2, len(pickle.dumps('part')))
    assert queue.get() == {'a': 1} and queue._reader.recv() == 'part'
