"""Runs some tests of one class of the standard library's suite, or lists them all. `attempt.py`
starts it.

It stands for the standard library's thin files, one for each start method, which not every build
ships: it is the main module of the tests, so spawned children import it again, and must find the
same classes here. To have ``multiprocessing`` answered by procession it is run by
``python -m procession``; it does nothing about that itself, but for the interpreters that tests
start by their command line: these are started through ``procession.__main__`` too.

What to run is in the environment, which children inherit however they are started:

* ``CONFORMANCE_SUITE``: a start method, `main` (main modules and virtual environments), `futures`,
  `futures-context` (the standard library's executor on our contexts) or `executor` (ours in its
  place);
* ``CONFORMANCE_BREAK``: a method to break on purpose, as in ``Pool.map``.

Arguments: ``--list``, or a file for events (see `Recorder`), seconds for each test, and the tests
as ``Class.test``.
"""

import faulthandler
import importlib
import json
import os
import subprocess
import sys
import time
import unittest

SUITE = os.environ['CONFORMANCE_SUITE']
IS_ALIASED = sys.modules.get('multiprocessing') is sys.modules.get('procession') is not None

#: How a test's own interpreter begins, so that its program sees procession, in whatever isolation.
BOOT = """
import sys; sys.path.append({folder!r})
from procession.__main__ import main; main(sys.argv[1:])
"""
#: The same for our executor.
BOOT_OF_EXECUTOR = """
import sys; sys.path[:0] = [{folder!r}, {here!r}]; import our_executor; our_executor.main(sys.argv[1:])
"""
#: Options of the interpreter that take the next argument.
OPTIONS_WITH_ARGUMENT = ('-W', '-X', '--check-hash-based-pycs')

FUTURES = ('as_completed', 'deadlock', 'init', 'process_pool', 'shutdown', 'wait')


def test_classes():
    """Returns the suite's test classes, by name."""
    if SUITE in ('fork', 'spawn', 'forkserver'):
        spaces = [globals()]
    elif SUITE == 'main':
        spaces = [vars(importlib.import_module('test.test_multiprocessing_main_handling')), {'VenvScript': VenvScript}]
    else:
        if SUITE == 'executor':
            answer_with_our_executor()
        spaces = [vars(importlib.import_module(f'test.test_concurrent_futures.test_{name}')) for name in FUTURES]
        if SUITE in ('futures-context', 'executor'):
            give_executors_our_contexts()
    found = {
        name: value
        for space in spaces
        for name, value in space.items()
        if isinstance(value, type) and issubclass(value, unittest.TestCase)
    }
    if SUITE == 'main':
        return found
    if SUITE.startswith('futures') or SUITE == 'executor':
        return {name: value for name, value in found.items() if 'ProcessPool' in name}
    return {name: value for name, value in found.items() if value.__module__ == __name__ and value is not VenvScript}


class VenvScript(unittest.TestCase):
    """The program that the standard library's tests of `venv` run: a spawned one that spawns."""

    def test_recursion(self):
        import test

        script = os.path.join(os.path.dirname(test.__file__), '_test_venv_multiprocessing.py')
        subprocess.run([sys.executable, '-I', script], check=True)


class Recorder(unittest.TestResult):
    """Writes a line of JSON to a file as each test begins (`test`) and ends (`test`, `outcome`,
    `seconds`, `text`).

    An outcome is `passed`, `failed` or `skipped`. A failure of a whole class or module is recorded
    as the test in parentheses.
    """

    def __init__(self, path, limit):
        super().__init__()
        self._file = open(path, 'a', buffering=1)
        self._pid = os.getpid()
        self._limit = limit
        self._outcome = None

    def startTest(self, test):
        super().startTest(test)
        faulthandler.dump_traceback_later(self._limit, exit=False)
        self._outcome = ('passed', '')
        self._begun = time.monotonic()
        self._write(test=name_of(test))

    def stopTest(self, test):
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()
        outcome, text = self._outcome
        self._outcome = None
        self._write(test=name_of(test), outcome=outcome, seconds=time.monotonic() - self._begun, text=text)

    def addError(self, test, err):
        super().addError(test, err)
        self._failed(test, self.errors[-1][1])

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._failed(test, self.failures[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._failed(test, f'{subtest}\n{self._exc_info_to_string(err, test)}')

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self._failed(test, 'passes, but should fail')

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        if self._outcome is None:
            self._write(test=name_of(test), outcome='skipped', seconds=0, text=reason)
        elif self._outcome[0] == 'passed':
            self._outcome = ('skipped', reason)

    def _failed(self, test, text):
        if self._outcome is None:
            self._write(test=name_of(test), outcome='failed', seconds=0, text=text)
        else:
            self._outcome = ('failed', self._outcome[1] + text)

    def _write(self, **event):
        # A forked child that runs into the tests' frames must not report for them.
        if os.getpid() == self._pid:
            self._file.write(json.dumps(event) + '\n')


def name_of(test):
    if isinstance(test, unittest.TestCase):
        return f'{type(test).__qualname__}.{test._testMethodName}'
    # As in `setUpClass (__main__.WithThreadsTestPool)`.
    return f'({test})'


def alias_command_lines(boot):
    """Has every Python that this process starts by a command line run its program as `boot`
    does.
    """
    import procession

    here = os.path.dirname(os.path.abspath(__file__))
    boot = boot.format(folder=os.path.dirname(os.path.dirname(procession.__file__)), here=here).strip()

    class Popen(subprocess.Popen):
        def __init__(self, args, *rest, **terms):
            if isinstance(args, (list, tuple)) and args[0] == sys.executable:
                end = 1
                while end < len(args) and args[end].startswith('-') and args[end] not in ('-c', '-m', '-'):
                    end += 2 if args[end] in OPTIONS_WITH_ARGUMENT else 1
                args = [*args[:end], '-c', boot, *args[end:]]
            super().__init__(args, *rest, **terms)

    subprocess.Popen = Popen


def answer_with_our_executor():
    """Has the tests of executors, and the programs that they start, find ours where they look for
    the standard library's.
    """
    import our_executor

    our_executor.install()
    alias_command_lines(BOOT_OF_EXECUTOR)


def give_executors_our_contexts():
    """Has the tests of executors, which use the standard library, pass our contexts as
    `mp_context`.
    """
    import procession
    from test.test_concurrent_futures.util import ExecutorMixin

    ExecutorMixin.get_context = lambda self: procession.get_context(self.ctx)


def break_on_purpose(name):
    """Has ``Pool.map``, or another method of a pool, lose its last result."""
    import multiprocessing.pool

    holder, method = name.split('.')
    holder = getattr(multiprocessing.pool, holder)
    sound = getattr(holder, method)
    setattr(holder, method, lambda *args, **terms: sound(*args, **terms)[:-1])


def main(arguments):
    classes = test_classes()
    if arguments == ['--list']:
        names = {name: unittest.defaultTestLoader.getTestCaseNames(tests) for name, tests in classes.items()}
        json.dump({name: tests for name, tests in names.items() if tests}, sys.stdout)
        return
    events, limit, *names = arguments
    suite = unittest.TestSuite()
    for name in names:
        holder, test = name.split('.')
        suite.addTest(classes[holder](test))
    suite.run(Recorder(events, float(limit)))


if SUITE in ('fork', 'spawn', 'forkserver'):
    from test._test_multiprocessing import install_tests_in_module_dict

    install_tests_in_module_dict(globals(), SUITE)

if os.environ.get('CONFORMANCE_BREAK'):
    break_on_purpose(os.environ['CONFORMANCE_BREAK'])

if IS_ALIASED:
    alias_command_lines(BOOT)

if __name__ == '__main__':
    main(sys.argv[1:])
