"""procession's executor in the place of the standard library's, for its tests. Imported by
`one_class.py`, and by the programs that tests start by a command line.

The tests reach for a thread and a queue that the standard library's executor has. Ours has none;
what they wait for there is that the executor's processes have ended, and that is what they get.
"""

import concurrent.futures
import concurrent.futures.process
import sys
import types

import procession.futures


class ProcessPoolExecutor(procession.futures.ProcessPoolExecutor):
    """Ours, with what the tests read of the standard library's."""

    @property
    def _executor_manager_thread(self):
        return _End(self._workers._pool)

    @property
    def _call_queue(self):
        return _End(self._workers._pool)


class _End:
    """The end of an executor's pool, which must have been shut down."""

    def __init__(self, pool):
        self._pool = pool

    def join(self):
        self._pool.join()

    join_thread = join


def install():
    """Puts it where programs find the standard library's."""
    concurrent.futures.ProcessPoolExecutor = concurrent.futures.process.ProcessPoolExecutor = ProcessPoolExecutor


def main(arguments):
    """Runs a program: ``-c CODE ARGUMENTS``, after the interpreter's own options."""
    install()
    option, code, *rest = arguments
    if option != '-c':
        raise SystemExit(f'only programs of -c are run here, not {option}')
    sys.argv = ['-c', *rest]
    module = types.ModuleType('__main__')
    sys.modules['__main__'] = module
    exec(compile(code, '<string>', 'exec'), module.__dict__)
