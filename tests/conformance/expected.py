"""Reads `expected.toml`, the list of tests that do not pass, and judges outcomes by it. Called by
`run.py`.
"""

import pathlib
import tomllib

FILE = pathlib.Path(__file__).with_name('expected.toml')

#: The keys of an entry; it must give a test and a reason.
KEYS = {'test', 'reason', 'python', 'suite', 'leave_out'}


class Expected:
    """The list.

    An entry names a `test`, as ``Class.test``. By `python`, as in ``['3.11']``, and `suite`, as in
    ``['fork', 'main']``, it says where it applies: without them, everywhere. `leave_out` is for
    tests that cannot be run at all.
    """

    def __init__(self, path=FILE):
        with open(path, 'rb') as file:
            self._entries = tomllib.load(file).get('not_met', [])
        for entry in self._entries:
            if not {'test', 'reason'} <= entry.keys() <= KEYS or not entry['reason'].strip():
                raise ValueError(f'{path}: an entry has a test and a reason, and of {sorted(KEYS)}: {entry}')

    def find(self, version, suite, test):
        """Returns the entry that says that `test` does not pass in this combination, or None."""
        return next((entry for entry in self._of(version, suite) if entry['test'] == test), None)

    def is_left_out(self, version, suite, test):
        """Returns whether `test` must not be run."""
        entry = self.find(version, suite, test)
        return entry is not None and entry.get('leave_out', False)

    def stale(self, version, suite, outcomes, is_whole):
        """Yields the entries that list too much: tests that pass, or, if everything was run, tests
        that do not exist.
        """
        for entry in self._of(version, suite):
            test = entry['test']
            if entry.get('leave_out'):
                continue
            if test in outcomes and outcomes[test]['outcome'] != 'failed':
                yield f'{test}: {outcomes[test]["outcome"]}, but listed as not met'
            elif is_whole and test not in outcomes and entry.get('suite'):
                yield f'{test}: listed, but there is no such test'

    def _of(self, version, suite):
        minor = version.rpartition('.')[0]
        return [
            entry for entry in self._entries if minor in entry.get('python', [minor]) and suite in entry.get('suite', [suite])
        ]
