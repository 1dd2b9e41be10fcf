"""Runs the standard library's own tests of ``multiprocessing`` with procession in its place.

``cargo xtask conformance`` calls it. Each class runs in a process of its own (`attempt.py`),
several at a time, and the failures are compared with `expected.toml`. Results go to a JSON file and
a log of each class below the folder of `--results`. The exit code is 0 if nothing failed that is
not listed, and nothing is listed that passes.
"""

import argparse
import concurrent.futures
import fnmatch
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from attempt import STOPPING, Attempts, Interpreter
from expected import Expected

METHODS = ('fork', 'spawn', 'forkserver')
#: Asks an interpreter for its version and which suites it has.
QUESTION = """
import sys, importlib.util
print('%d.%d.%d' % sys.version_info[:3])
for name in ('test._test_multiprocessing', 'test.test_concurrent_futures'):
    if importlib.util.find_spec(name):
        print(name)
"""
#: Stretches every time limit, for machines that are slower than those the limits were made for.
SCALE = float(os.environ.get('PROCESSION_TEST_TIME_SCALE', 1))
LIST_LIMIT = 120 * SCALE
SHOWN_LINES = 25


class Combination:
    """One interpreter's suite, under one start method or of one kind, and the outcomes of its
    tests.
    """

    def __init__(self, interpreter, suite, terms):
        self.interpreter = interpreter
        self.suite = suite
        self.is_stdlib = terms.stdlib or suite == 'futures-stdlib'
        self.outcomes = {}
        self.left = []
        self.seconds = 0.0
        self._terms = terms
        is_aliased = not self.is_stdlib and suite not in ('futures-context', 'executor')
        its_suite = 'futures' if suite == 'futures-stdlib' else suite
        self._command, self._environment = interpreter.command(its_suite, is_aliased, terms.break_)
        self._folder = terms.results / f'{self}{"-stdlib" if terms.stdlib else ""}'

    def __str__(self):
        return f'{self.interpreter.version}-{self.suite}'

    def classes(self, expected):
        """Returns the tests that must be run, by class."""
        listing = subprocess.run(
            [*self._command, '--list'],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=LIST_LIMIT,
            check=True,
        )
        found = {}
        for name, tests in json.loads(listing.stdout).items():
            tests = [
                test
                for test in tests
                if self._is_wanted(f'{name}.{test}')
                and not expected.is_left_out(self.interpreter.version, self.suite, f'{name}.{test}')
            ]
            if tests:
                found[name] = tests
        return found

    def run_class(self, name, tests):
        """Runs the tests of one class and keeps their outcomes; returns the names of those that
        failed.
        """
        begun = time.monotonic()
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder / f'{name}.log'
        attempts = Attempts(self._command, self._environment, name, tests, self._terms.limit, log)
        attempts.run()
        self.outcomes.update(attempts.outcomes)
        self.left += [f'{name}: {command}' for command in attempts.left]
        self.seconds += time.monotonic() - begun
        return [test for test, outcome in attempts.outcomes.items() if outcome['outcome'] == 'failed']

    def save(self):
        """Writes the outcomes."""
        result = {
            'python': self.interpreter.version,
            'suite': self.suite,
            'stdlib': self.is_stdlib,
            'left running': self.left,
            'tests': dict(sorted(self.outcomes.items())),
        }
        self._folder.with_name(f'{self._folder.name}.json').write_text(json.dumps(result, indent=1))

    def count(self, outcome):
        """Returns how many tests had this outcome."""
        return sum(test['outcome'] == outcome for test in self.outcomes.values())

    def failed(self):
        """Returns the tests that failed, with their texts."""
        return {name: test['text'] for name, test in sorted(self.outcomes.items()) if test['outcome'] == 'failed'}

    def _is_wanted(self, test):
        pattern = self._terms.k
        return pattern is None or pattern in test or fnmatch.fnmatchcase(test, pattern)


def main(arguments):
    terms = parse(arguments)
    # A run that is ended must end the processes that it has started: attempts do so as an exception
    # passes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('ended by SIGTERM'))
    expected = Expected()
    terms.results.mkdir(parents=True, exist_ok=True)
    combinations = [
        Combination(interpreter, suite, terms) for interpreter in terms.interpreter for suite in suites(terms, interpreter)
    ]
    run_all(combinations, expected, terms.jobs)
    is_good = judge(combinations, expected, is_whole=terms.k is None)
    return 0 if is_good else 1


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--interpreter',
        action='append',
        metavar='PROGRAM',
        default=None,
        help='a Python with its suite; as often as wanted; this one',
    )
    parser.add_argument('--if-there', action='store_true', help='pass over an interpreter that comes without its tests')
    parser.add_argument('--package', type=pathlib.Path, help='the folder that holds procession, where it is not installed')
    parser.add_argument('--method', action='append', choices=METHODS, help='a start method; all')
    parser.add_argument('-k', metavar='PATTERN', help='only tests whose Class.test contains or matches this')
    parser.add_argument('--stdlib', action='store_true', help='run the standard library itself, for comparison')
    parser.add_argument('--main', action='store_true', help='the tests of main modules and virtual environments')
    parser.add_argument(
        '--futures',
        action='store_true',
        help='the tests of executors: with ours, aliased, with our contexts, and of the standard library',
    )
    parser.add_argument('--executor', action='store_true', help='the tests of executors with ours, and nothing else')
    parser.add_argument('--break', dest='break_', metavar='Pool.METHOD', help='break a method, to see that its tests notice')
    parser.add_argument('--jobs', type=int, default=2, help='classes at a time; 2')
    parser.add_argument('--limit', type=float, default=90 * SCALE, help='seconds for a test; 90')
    parser.add_argument('--results', type=pathlib.Path, default=pathlib.Path('target/conformance'))
    terms = parser.parse_args(arguments)
    terms.results = terms.results.resolve()
    interpreters = (interpreter(program, terms) for program in terms.interpreter or [sys.executable])
    terms.interpreter = [interpreter for interpreter in interpreters if interpreter is not None]
    return terms


def interpreter(program, terms):
    answer = subprocess.run([program, '-I', '-c', QUESTION], stdout=subprocess.PIPE, text=True, check=True)
    version, *suites = answer.stdout.split()
    if 'test._test_multiprocessing' not in suites:
        problem = f'{program} (Python {version}) comes without its tests: on Debian they are in libpython3-testsuite'
        if not terms.if_there:
            sys.exit(problem)
        print(f'left out: {problem}')
        return None
    package = terms.package and terms.package.resolve()
    return Interpreter(version, program, package, has_futures='test.test_concurrent_futures' in suites)


def suites(terms, interpreter):
    chosen = list(terms.method or ([] if terms.main or terms.futures or terms.executor else METHODS))
    if terms.main:
        chosen.append('main')
    of_executors = ['executor'] if terms.executor or terms.futures else []
    if terms.futures:
        of_executors += ['futures', 'futures-context', 'futures-stdlib']
    if of_executors and not interpreter.has_futures:
        print(f'Python {interpreter.version} comes without the tests of executors')
        return chosen
    chosen += of_executors
    return chosen


def run_all(combinations, expected, jobs):
    """Runs every class of every combination, `jobs` at a time; prints failures as they come."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as threads:
        running = {}
        try:
            for combination in combinations:
                for name, tests in combination.classes(expected).items():
                    running[threads.submit(combination.run_class, name, tests)] = combination
            for done in concurrent.futures.as_completed(running):
                combination = running[done]
                for test in done.result():
                    is_listed = expected.find(combination.interpreter.version, combination.suite, test) is not None
                    print(f'{combination} {test} failed{", as listed" if is_listed else ""}', flush=True)
        except BaseException:
            STOPPING.set()
            threads.shutdown(cancel_futures=True)
            raise
    for combination in combinations:
        combination.save()


def judge(combinations, expected, is_whole):
    """Prints the outcomes that are not expected, and the table; returns whether there are none."""
    unexpected, stale, rows = [], [], []
    for combination in combinations:
        key = combination.interpreter.version, combination.suite
        by_design = standard_failures(combinations, combination)
        failed = combination.failed()
        new = {
            test: text
            for test, text in failed.items()
            if combination.is_stdlib or not (expected.find(*key, test) or test in by_design)
        }
        unexpected += [(combination, test, text) for test, text in new.items()]
        if not combination.is_stdlib:
            stale += [f'{combination} {line}' for line in expected.stale(*key, combination.outcomes, is_whole)]
        rows.append(
            (
                *key,
                combination.count('passed'),
                len(new),
                len(failed) - len(new),
                combination.count('skipped'),
                round(combination.seconds),
            )
        )
    for combination, test, text in unexpected:
        lines = text.rstrip().splitlines()
        print(f'\n== {combination} {test}', *lines[-SHOWN_LINES:], sep='\n   ')
    for title, lines in (
        ('listed in expected.toml, and should not be', stale),
        ('left running by a class that had ended', [f'{each} {line}' for each in combinations for line in each.left]),
    ):
        if lines:
            print(f'\n{title}:', *lines, sep='\n   ')
    show(rows)
    passed, failed, listed, skipped = (sum(row[column] for row in rows) for column in (2, 3, 4, 5))
    known = f', {listed} not met as listed' if listed else ''
    print(f'\n{passed} passed, {failed} failed, {skipped} skipped{known}')
    return not unexpected and not stale


def standard_failures(combinations, combination):
    """Returns the tests that fail with the standard library, too, in the same run."""
    for other in combinations:
        if other.suite == 'futures-stdlib' and other.interpreter is combination.interpreter:
            return other.failed()
    return {}


def show(rows):
    titles = ('python', 'suite', 'passed', 'failed', 'listed', 'skipped', 'seconds')
    widths = [max(len(str(row[column])) for row in [titles, *rows]) for column in range(len(titles))]
    print()
    for row in [titles, *rows]:
        print('  '.join(str(value).rjust(width) for value, width in zip(row, widths)))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
