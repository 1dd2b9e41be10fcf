"""procession and its rivals, with one interface. Imported in the process of one measurement, which
then imports the one library that it measures.

All libraries make their processes by fork, except loky, which has its own way: the work is
measured, not the start.
"""

import contextlib
import importlib

WORKERS = 2

STANDARD_EXECUTORS = ('ProcessPoolExecutor', 'InterpreterPoolExecutor')
# Names, in the order of the table's columns.
LIBRARIES = (
    'procession',
    'multiprocessing',
    'ProcessPoolExecutor',
    'loky',
    'billiard',
    'mpire',
    'pebble',
    'InterpreterPoolExecutor',
)
# Those with something like a pool.
POOLS = tuple(name for name in LIBRARIES if name != 'InterpreterPoolExecutor')
# Those with processes, locks and queues of their own, in multiprocessing's words.
WHOLE = ('procession', 'multiprocessing', 'billiard')
# Those with an executor.
EXECUTORS = ('procession', 'ProcessPoolExecutor', 'loky')
# An executor of threads with interpreters of their own, from Python 3.14 on, beside ours.
INTERPRETERS = ('procession', 'InterpreterPoolExecutor')
# Those with a backend for joblib.
JOBLIB = ('procession', 'multiprocessing', 'loky')
POOLS_OF_CHUNKS = ('procession', 'multiprocessing', 'billiard', 'mpire')


def package(library):
    """Returns the module of a library."""
    return importlib.import_module('concurrent.futures' if library in STANDARD_EXECUTORS else library)


def context(library, method='fork'):
    """Returns the context of a library that has contexts."""
    return package(library).get_context(method)


def pool(library, workers=WORKERS):
    """Returns a pool of a library, whose workers have begun."""
    made = _POOLS[library](library, workers)
    made.burst(_nothing, 8 * workers)
    return made


def executor(library, workers=WORKERS):
    """An executor of a library, whose workers have begun."""
    if library == 'loky':
        made = package(library).ProcessPoolExecutor(workers)
    elif library == 'InterpreterPoolExecutor':
        made = package(library).InterpreterPoolExecutor(workers)
    elif library == 'procession':
        made = importlib.import_module('procession.futures').ProcessPoolExecutor(workers, context(library))
    else:
        import multiprocessing

        made = package(library).ProcessPoolExecutor(workers, multiprocessing.get_context('fork'))
    for _ in range(4):
        list(made.map(_nothing, range(8 * workers)))
    return made


@contextlib.contextmanager
def awaitable_calls(library, loop):
    """Yields a function that returns an awaitable for a call of a function with one argument."""
    if library == 'procession':
        with context(library).Pool(WORKERS) as made:
            yield lambda function, value: made.apply_async(function, (value,))
        return
    with executor(library) as made:
        yield lambda function, value: loop.run_in_executor(made, function, value)


def joblib_backend(library):
    """The name of a library's backend for joblib."""
    if library == 'procession':
        importlib.import_module('procession.joblib').register()
    return library


def _nothing(_):
    return None


class _Pool:
    """A pool of multiprocessing, or of a library with its names."""

    def __init__(self, library, workers):
        self._pool = context(library).Pool(workers)

    def call(self, function, value):
        return self._pool.apply(function, (value,))

    def submit(self, function, value, callback=None):
        return self._pool.apply_async(function, (value,), callback=callback)

    def burst(self, function, number):
        results = [self._pool.apply_async(function, (value,)) for value in range(number)]
        return [result.get() for result in results]

    def imap(self, function, number):
        return sum(1 for _ in self._pool.imap(function, range(number)))

    def map_singly(self, function, number):
        return self._pool.map(function, range(number), chunksize=1)

    def map(self, function, number):
        return self._pool.map(function, range(number))

    def end(self):
        self._pool.terminate()
        self._pool.join()


class _Executor:
    """An executor of concurrent.futures or of loky."""

    def __init__(self, library, workers):
        import multiprocessing

        terms = {'mp_context': multiprocessing.get_context('fork')} if library == 'ProcessPoolExecutor' else {}
        self._executor = package(library).ProcessPoolExecutor(workers, **terms)

    def call(self, function, value):
        return self._executor.submit(function, value).result()

    def burst(self, function, number):
        futures = [self._executor.submit(function, value) for value in range(number)]
        return [future.result() for future in futures]

    def imap(self, function, number):
        return sum(1 for _ in self._executor.map(function, range(number)))

    def map_singly(self, function, number):
        return list(self._executor.map(function, range(number)))

    def end(self):
        self._executor.shutdown()


class _Mpire:
    def __init__(self, library, workers):
        self._pool = package(library).WorkerPool(workers, start_method='fork', keep_alive=True)

    def call(self, function, value):
        return self._pool.apply(function, (value,))

    def burst(self, function, number):
        results = [self._pool.apply_async(function, (value,)) for value in range(number)]
        return [result.get() for result in results]

    def imap(self, function, number):
        return sum(1 for _ in self._pool.imap(function, range(number), iterable_len=number, chunk_size=1))

    def map_singly(self, function, number):
        return self._pool.map(function, range(number), iterable_len=number, chunk_size=1)

    def map(self, function, number):
        return self._pool.map(function, range(number), iterable_len=number)

    def end(self):
        self._pool.terminate()


class _Pebble:
    def __init__(self, library, workers):
        import multiprocessing

        self._pool = package(library).ProcessPool(workers, context=multiprocessing.get_context('fork'))

    def call(self, function, value):
        return self._pool.schedule(function, args=(value,)).result()

    def burst(self, function, number):
        futures = [self._pool.schedule(function, args=(value,)) for value in range(number)]
        return [future.result() for future in futures]

    def imap(self, function, number):
        return sum(1 for _ in self._pool.map(function, range(number)).result())

    def map_singly(self, function, number):
        return list(self._pool.map(function, range(number)).result())

    def end(self):
        self._pool.stop()
        self._pool.join()


_POOLS = {
    'procession': _Pool,
    'multiprocessing': _Pool,
    'billiard': _Pool,
    'ProcessPoolExecutor': _Executor,
    'loky': _Executor,
    'mpire': _Mpire,
    'pebble': _Pebble,
}
