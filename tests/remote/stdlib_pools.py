"""Runs CPython's own tests of pools on the default context, which `PROCESSION_CONTEXT` names.

Run by ``python -m procession --context NAME stdlib_pools.py``, as `test_stdlib.py` does. The tests
are those of the interpreter that runs it. The last line is JSON: the tests that passed, and the
text of each that did not.
"""

import json
import multiprocessing
import sys
import time
import unittest

from test import _test_multiprocessing as suite


class WithPool(suite._TestPool, suite.ProcessesMixin, unittest.TestCase):
    """CPython's tests of pools."""


class WithPoolWorkerErrors(suite._TestPoolWorkerErrors, suite.ProcessesMixin, unittest.TestCase):
    """CPython's tests of errors in a pool's workers."""


class Recorder(unittest.TextTestResult):
    """Writes each test's seconds beside its outcome."""

    def startTest(self, test):
        self._begun = time.monotonic()
        super().startTest(test)

    def stopTest(self, test):
        super().stopTest(test)
        self.stream.writeln(f'  {time.monotonic() - self._begun:.2f} s')


def main(patterns):
    loader = unittest.TestLoader()
    if patterns:
        loader.testNamePatterns = [f'*{pattern}*' for pattern in patterns]
    tests = unittest.TestSuite()
    for case in (WithPool, WithPoolWorkerErrors):
        tests.addTests(loader.loadTestsFromTestCase(case))
    names = [test.id().rpartition('.')[2] for test in tests]
    result = unittest.TextTestRunner(verbosity=2, resultclass=Recorder).run(tests)
    failed = {test.id().rpartition('.')[2]: text for test, text in [*result.errors, *result.failures]}
    failed.update({test.id().rpartition('.')[2]: f'skipped: {why}' for test, why in result.skipped})
    passed = [name for name in names if name not in failed]
    print(json.dumps({'context': multiprocessing.get_start_method(), 'passed': passed, 'failed': failed}))


if __name__ == '__main__':
    # Under its own name: workers import it to find its classes.
    import stdlib_pools

    stdlib_pools.main(sys.argv[1:])
