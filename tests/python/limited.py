"""The programs of test_memory_limits.py, each in a process of its own, because a limit is its
process's for good: `limited.py ROLE METHOD`.
"""

import resource
import sys

import procession

MIB = 1 << 20
ADDRESSES = 2048 * MIB
FILES = 8 * MIB


def limit(which, most):
    resource.setrlimit(which, (most, most))


def limit_addresses(_=None):
    limit(resource.RLIMIT_AS, ADDRESSES)


def limit_files(_=None):
    limit(resource.RLIMIT_FSIZE, FILES)


def limit_to_more(more):
    """Limits the addresses to those that this process has now, and `more` bytes."""
    with open('/proc/self/status') as status:
        size = next(line for line in status if line.startswith('VmSize:'))
    limit(resource.RLIMIT_AS, int(size.split()[1]) * 1024 + more)


def square(x):
    return x * x


def double(value):
    return value + value


def repeated(character, count):
    return character * count


def echo(queue):
    queue.put(queue.get())


def serve(context, pool):
    """Does work of all sorts, of a few MiB."""
    assert pool.map(square, range(1000)) == [x * x for x in range(1000)]
    for values in [b'x' * 100_000] * 8, ['x' * 50_000] * 8:
        assert pool.map(double, values) == [value + value for value in values]
    queues = [context.Queue() for _ in range(100)]
    for number, queue in enumerate(queues):
        queue.put(bytes([number]) * number * 2000)
    processes = [context.Process(target=echo, args=(queue,)) for queue in queues[:3]]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    for number, queue in enumerate(queues):
        assert queue.get() == bytes([number]) * number * 2000


def addresses(context):
    limit_addresses()
    with context.Pool(4) as pool:
        serve(context, pool)


def files(context):
    limit_files()
    with context.Pool(4) as pool:
        serve(context, pool)


def in_an_initializer(context):
    with context.Pool(4, initializer=limit_addresses) as pool:
        serve(context, pool)


def in_tasks(context):
    with context.Pool(4) as pool:
        pool.map(limit_addresses, range(64), chunksize=1)
        serve(context, pool)
        pool.map(limit_files, range(64), chunksize=1)
        serve(context, pool)


def refused(error, text, call, *arguments):
    """Returns the error that the call must raise, whose message has the text."""
    try:
        call(*arguments)
    except error as raised:
        assert text in str(raised), raised
        return raised
    raise AssertionError(f'no {error.__name__} was raised')


def files_exhausted(context):
    limit_files()
    with context.Pool(2) as pool:
        raised = refused(OSError, 'ulimit -f', pool.apply, len, ('x' * 4 * FILES,))
        assert raised.errno == 27
        assert pool.apply(repeated, (b'x', 4 * FILES)) == b'x' * 4 * FILES
        serve(context, pool)
    queue = context.Queue()
    assert fill(queue, OSError, 'ulimit -f') > 2


def parents_addresses_exhausted(context):
    with context.Pool(2) as pool:
        queue = context.Queue()
        limit_to_more(40 * MIB)
        assert fill(queue, MemoryError, 'ulimit -v') > 2
        refused(MemoryError, 'ulimit -v', pool.apply, repeated, (b'x', 64 * MIB))
        assert pool.map(square, range(1000)) == [x * x for x in range(1000)]


def workers_addresses_exhausted(context):
    with context.Pool(1) as pool:
        pool.apply(limit_to_more, (24 * MIB,))
        pids = [process.pid for process in pool._pool]
        refused(MemoryError, 'ulimit -v', pool.apply, len, ('x' * 64 * MIB,))
        refused(MemoryError, 'ulimit -v', pool.apply, len, (b'x' * 64 * MIB,))
        refused(MemoryError, 'ulimit -v', pool.map, len, [letter * 16 * MIB for letter in 'abcd'], 4)
        assert pool.map(square, range(1000)) == [x * x for x in range(1000)]
        assert [process.pid for process in pool._pool] == pids, 'no worker has died of it'


def fill(queue, error, text):
    """Puts items of 1 MiB until the queue refuses, and takes them all. Returns how many."""
    item = b'x' * MIB
    count = 0
    while True:
        try:
            queue.put(item)
        except error as raised:
            assert text in str(raised), raised
            break
        count += 1
    assert queue.qsize() == count
    for _ in range(count):
        assert queue.get() == item
    queue.put('small')
    assert queue.get() == 'small'
    return count


if __name__ == '__main__':
    globals()[sys.argv[1]](procession.get_context(sys.argv[2]))
    print('done')
