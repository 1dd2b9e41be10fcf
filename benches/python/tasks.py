"""The functions that the benchmarks run in workers and children: a module that costs nothing to
import there.
"""


def nothing(*_):
    return None


def same(value):
    return value


def value():
    """Returns a result that has to be pickled."""
    return {'answer': [1, 2.5, 'three']}


_made = None


def make(size):
    """Makes the array that `made` returns, once, so that making it is not measured."""
    import numpy

    global _made
    if _made is None:
        _made = numpy.ones(size, dtype='u1')


def made(size):
    make(size)
    return _made


def taken(array):
    """Reads one byte of each page, so that an array which was only promised is there."""
    return int(array[::4096].sum())


def at(array, place):
    """Reads one byte."""
    return int(array[place * 4096])


def log(number):
    import logging

    logger = logging.getLogger('bench')
    for each in range(number):
        logger.info('record %d of %d', each, number)


def log_into(queue):
    """Has a worker's records go into a queue."""
    import logging.handlers

    root = logging.getLogger()
    root.handlers[:] = [logging.handlers.QueueHandler(queue)]


def puts(queue, go, item, number):
    go.recv()
    for _ in range(number):
        queue.put(item)
    go.recv()
