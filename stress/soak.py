"""Makes each call of the Python package many times, and checks whether anything grows.

It looks at memory, file descriptors, mappings, threads, the interpreter's own blocks and children.
`cargo xtask soak` runs it. A third of the calls warms up, and the other two thirds are two
stretches. A figure that grows in both stretches is a leak.
"""

import argparse
import gc
import os
import sys
import time
import warnings

import procession
from procession import shared_memory

# The growth that a stretch may have for reasons of the machine: an allocator that takes another
# arena, a page of a stack.
MAX_BYTES = 1 << 20
MAX_BYTES_FOR_EACH = 24
MAX_BLOCKS = 400
MAX_BLOCKS_FOR_EACH = 0.05


class Kept:
    """The figures of this process now."""

    def __init__(self):
        procession.active_children()
        gc.collect()
        # A thread or a process that has just ended is counted for a moment.
        time.sleep(0.05)
        gc.collect()
        with open('/proc/self/statm') as file:
            self.bytes = int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
        self.fds = len(os.listdir('/proc/self/fd'))
        with open('/proc/self/maps') as file:
            self.mappings = sum(1 for _ in file)
        self.threads = len(os.listdir('/proc/self/task'))
        self.blocks = sys.getallocatedblocks()
        self.children = sum(
            len(open(f'/proc/self/task/{task}/children').read().split()) for task in os.listdir('/proc/self/task')
        )

    def growth(self, before, calls):
        """Returns the figures that have grown by more than they may over this many calls."""
        bounds = {
            'bytes': max(MAX_BYTES, MAX_BYTES_FOR_EACH * calls),
            'blocks': max(MAX_BLOCKS, MAX_BLOCKS_FOR_EACH * calls),
            'fds': 2,
            'mappings': 6,
            'threads': 1,
            'children': 0,
        }
        for name, bound in bounds.items():
            more = getattr(self, name) - getattr(before, name)
            if more > bound:
                yield f'{more} more {name}'


# Functions that run in children.


def same(value):
    return value


def fail(value):
    raise ValueError(value)


def give(connection, value):
    connection.send(value)


# The calls. Each takes a context and its pool; the number says for how many of the calls asked for
# it is made.


def apply(ctx, pool):
    assert pool.apply(same, (1,)) == 1


def apply_named(ctx, pool):
    assert pool.apply(same, (), {'value': [1, 'two']}) == [1, 'two']


def apply_that_fails(ctx, pool):
    try:
        pool.apply(fail, (1,))
    except ValueError:
        return
    raise AssertionError('it did not fail')


def result_that_fails_in_a_frame(ctx, pool):
    held = bytes(1 << 16)
    result = pool.apply_async(fail, (1,))
    try:
        result.get()
    except ValueError as error:
        assert held and error.args == (1,)


def apply_of_a_closure(ctx, pool):
    number = len('three')
    assert pool.apply(lambda: number) == 5


def apply_of_a_large_buffer(ctx, pool):
    assert len(pool.apply(same, (bytearray(1 << 18),))) == 1 << 18


def apply_with_callbacks(ctx, pool):
    seen = []
    pool.apply_async(same, (1,), callback=seen.append).get()
    pool.apply_async(fail, (1,), error_callback=seen.append).wait()


def apply_with_a_time_limit(ctx, pool):
    assert pool.apply(same, (1,), timeout=60, retries=1) == 1


def map_of_a_list(ctx, pool):
    assert pool.map(same, [1, 2, 3]) == [1, 2, 3]


def map_of_a_range(ctx, pool):
    assert len(pool.map(same, range(100))) == 100


def starmap(ctx, pool):
    assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]


def imap(ctx, pool):
    assert list(pool.imap(same, range(5))) == list(range(5))


def imap_half_consumed(ctx, pool):
    assert next(pool.imap_unordered(same, iter(range(5)))) in range(5)


def cancel(ctx, pool):
    pool.map_async(same, range(4)).cancel()


def stats(ctx, pool):
    pool.stats()


def process(ctx, pool):
    one = ctx.Process(target=same, args=(1,))
    one.start()
    assert one.result() == 1


def pool_of_one(ctx, pool):
    with ctx.Pool(1) as one:
        assert one.apply(same, (1,)) == 1


def unclosed_pool_in_a_cycle(ctx, pool):
    one = ctx.Pool(1)
    one.result = one.apply_async(fail, (1,))
    one.result.wait()


def queue(ctx, pool):
    one = ctx.Queue()
    one.put([1, 'two'])
    assert one.get() == [1, 'two']
    one.close()


def simple_and_joinable_queues(ctx, pool):
    simple, joinable = ctx.SimpleQueue(), ctx.JoinableQueue()
    simple.put(b'one')
    assert simple.get() == b'one' and simple.empty()
    joinable.put(1.5)
    assert joinable.get() == 1.5
    joinable.task_done()
    joinable.join()


def locks(ctx, pool):
    for lock in (ctx.Lock(), ctx.RLock(), ctx.Semaphore(2), ctx.BoundedSemaphore(2), ctx.Condition()):
        with lock:
            pass


def event_and_barrier(ctx, pool):
    event, barrier = ctx.Event(), ctx.Barrier(1)
    event.set()
    assert event.wait(1)
    barrier.wait()


def value_and_array(ctx, pool):
    value, array = ctx.Value('i', 3), ctx.Array('d', 8)
    value.value += 1
    array[1] = 2.5


def pipe(ctx, pool):
    ours, theirs = ctx.Pipe()
    ours.send({'one': 1})
    assert theirs.recv() == {'one': 1}


def queue_in_a_process(ctx, pool):
    one = ctx.SimpleQueue()
    child = ctx.Process(target=one.put, args=(1,))
    child.start()
    assert one.get() == 1
    child.join()


def pipe_in_a_task(ctx, pool):
    ours, theirs = ctx.Pipe()
    pool.apply(give, (theirs, 7))
    assert ours.recv() == 7


def named_memory(ctx, pool):
    block = shared_memory.SharedMemory(create=True, size=4096)
    other = shared_memory.SharedMemory(block.name)
    other.buf[0] = 1
    other.close()
    block.close()
    block.unlink()


#: How many of these are made for each that is asked for: they take longer.
SHARES = {
    process: 0.05,
    pool_of_one: 0.02,
    unclosed_pool_in_a_cycle: 0.01,
    queue_in_a_process: 0.05,
    cancel: 0.02,
    named_memory: 0.2,
    apply_of_a_large_buffer: 0.2,
}
CALLS = [
    apply,
    apply_named,
    apply_that_fails,
    result_that_fails_in_a_frame,
    apply_of_a_closure,
    apply_of_a_large_buffer,
    apply_with_callbacks,
    apply_with_a_time_limit,
    map_of_a_list,
    map_of_a_range,
    starmap,
    imap,
    imap_half_consumed,
    cancel,
    stats,
    process,
    pool_of_one,
    unclosed_pool_in_a_cycle,
    queue,
    simple_and_joinable_queues,
    locks,
    event_and_barrier,
    value_and_array,
    pipe,
    queue_in_a_process,
    pipe_in_a_task,
    named_memory,
]


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--calls', type=int, default=10_000, help='how often each is called; 10000')
    parser.add_argument('--method', action='append', choices=('fork', 'spawn', 'forkserver'), help='a start method; all')
    parser.add_argument('-k', metavar='PART', default='', help='only calls with this in their name')
    terms = parser.parse_args(arguments)
    warnings.simplefilter('ignore', ResourceWarning)
    grown = [line for method in terms.method or ('fork', 'spawn', 'forkserver') for line in soak(method, terms)]
    print(*grown or ['nothing grows'], sep='\n')
    return 1 if grown else 0


def soak(method, terms):
    """Makes all calls by one start method; returns the figures that grew."""
    ctx, grown = procession.get_context(method), []
    for call in CALLS:
        if terms.k not in call.__name__:
            continue
        # Starts of interpreters take fifty times as long.
        share = SHARES.get(call, 1) * (0.2 if method == 'spawn' and call in SHARES else 1)
        number = max(int(terms.calls * share) // 3, 5)
        with ctx.Pool(2) as pool:
            begun = time.monotonic()
            kept = []
            for _ in range(3):
                for _ in range(number):
                    call(ctx, pool)
                kept.append(Kept())
            # A figure that grows in both stretches is a leak; one that grows in one of them is an
            # arena or a table that has grown.
            lines = set(kept[1].growth(kept[0], number)) and set(kept[2].growth(kept[1], number))
            grown += [f'{method} {call.__name__}: {line} over {number} calls' for line in sorted(lines)]
            print(f'{method:>10} {call.__name__:<32} {3 * number:>6} calls {time.monotonic() - begun:>6.1f} s', flush=True)
    return grown


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
