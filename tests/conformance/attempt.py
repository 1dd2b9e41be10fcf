"""Runs one class's tests in a process of its own, and again from the next test on when one hangs or
kills the process.

Called by `run.py`, in one of its threads for each class.
"""

import json
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import time

ONE_CLASS = pathlib.Path(__file__).with_name('one_class.py')

#: Seconds beyond a test's limit in which its process may say where it hangs.
GRACE = 3
#: Seconds in which the processes that a class has started may end after the class.
LEAVING = 5
PROGRESS = 0.05
TAIL = 60


#: Set to have every attempt end the processes that it has started, and then itself by
#: :class:`Stopped`.
STOPPING = threading.Event()


class Stopped(Exception):
    """The run must end."""


class Interpreter:
    """A Python with the standard library's suite, and how procession is found from it."""

    def __init__(self, version, program, package=None, has_futures=False):
        self.version = version
        self.program = program
        self.has_futures = has_futures
        self._package = package

    def command(self, suite, is_aliased, broken=None):
        """Returns the command, without arguments, that runs `one_class.py` for `suite`, and its
        environment.
        """
        environment = {**os.environ, 'CONFORMANCE_SUITE': suite, 'CONFORMANCE_BREAK': broken or ''}
        if self._package is not None:
            environment['PYTHONPATH'] = str(self._package)
        return [self.program, *(['-m', 'procession'] if is_aliased else []), str(ONE_CLASS)], environment


class Attempts:
    """The tests of one class."""

    def __init__(self, command, environment, name, tests, limit, log):
        self._command = command
        self._environment = environment
        self._name = name
        self._tests = [f'{name}.{test}' for test in tests]
        self._limit = limit
        self._log = log
        self.outcomes = {}
        self.left = []

    def run(self):
        """Runs until each test has its outcome: a dictionary of `outcome`, `seconds`, `text`."""
        with open(self._log, 'wb') as log:
            remaining = self._tests
            while remaining:
                self._attempt(remaining, log)
                remaining = [test for test in remaining if test not in self.outcomes]

    def _attempt(self, tests, log):
        begin = log.tell()
        with tempfile.TemporaryDirectory(prefix='conformance-') as folder:
            events = os.path.join(folder, 'events')
            open(events, 'w').close()
            process = subprocess.Popen(
                [*self._command, events, str(self._limit), *tests],
                env=self._environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                is_in_time = self._watch(process, events)
                if is_in_time:
                    self._await_others(process.pid)
            finally:
                end_group(process.pid)
                process.wait()
            current, whole = self._read(events)
        log.seek(0, os.SEEK_END)
        output = self._tail(begin)
        how = f'exit code {process.returncode}' if is_in_time else f'hangs: not done after {self._limit} s'
        if current is not None:
            self._fail(current, how, output)
        elif not is_in_time:
            self._fail(f'{self._name}.(end)', how, output)
        missing = [test for test in tests if test not in self.outcomes]
        if current is None:
            # The class or its module could not begin, or the process did not end.
            for test in missing:
                self._fail(test, whole or f'not run: {how}', output)

    def _watch(self, process, events):
        size, since = 0, time.monotonic()
        while process.poll() is None:
            if (grown := os.path.getsize(events)) != size:
                size, since = grown, time.monotonic()
            elif time.monotonic() - since > self._limit + GRACE:
                return False
            if STOPPING.wait(PROGRESS):
                raise Stopped
        return True

    def _await_others(self, group):
        deadline = time.monotonic() + LEAVING
        while (others := members(group)) and time.monotonic() < deadline:
            time.sleep(PROGRESS)
        self.left += others

    def _read(self, events):
        """Returns the test that has begun and not ended, and the failures of all tests."""
        current, whole = None, ''
        with open(events) as lines:
            for event in map(json.loads, lines):
                test = event.pop('test')
                if 'outcome' not in event:
                    current = test
                    continue
                current = None
                if test not in self._tests:
                    whole += f'{test}: {event["text"]}'
                    if event['outcome'] == 'skipped':
                        for test in self._tests:
                            self.outcomes.setdefault(test, event)
                        continue
                    test = f'{self._name}.{test}'
                self.outcomes[test] = event
        return current, whole

    def _fail(self, test, how, output):
        self.outcomes[test] = {'outcome': 'failed', 'seconds': self._limit, 'text': f'{how}\n{output}'}

    def _tail(self, begin):
        with open(self._log, 'rb') as log:
            log.seek(begin)
            return '\n'.join(log.read().decode(errors='replace').splitlines()[-TAIL:])


def end_group(group):
    """Kills the processes that are left of an attempt's process group."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def members(group):
    """Returns the command lines of those in the process group that still run."""
    found = []
    for folder in pathlib.Path('/proc').glob('[0-9]*'):
        try:
            state, _, its_group = (folder / 'stat').read_text().rpartition(')')[2].split()[:3]
            if int(its_group) == group and state != 'Z':
                found.append((folder / 'cmdline').read_text().replace('\0', ' ').strip())
        except (FileNotFoundError, ProcessLookupError):
            # It ended meanwhile.
            continue
    return found
