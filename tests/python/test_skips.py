"""The rule for skipped tests: where `CI` is set, one that is not listed in `conftest.py` fails."""

import os
import pathlib
import subprocess
import sys

import conftest
import pytest

FOLDER = pathlib.Path(__file__).parent
SKIPS = """
import pytest

def test_that_is_skipped():
    pytest.skip('the reason')
"""


@pytest.mark.parametrize(
    'ci, listed, outcome',
    [
        ('true', False, '1 failed'),
        ('true', True, '1 skipped'),
        ('', False, '1 skipped'),
        (None, False, '1 skipped'),
    ],
)
def test_a_skip_fails_in_continuous_integration_unless_it_is_listed(tmp_path, ci, listed, outcome):
    for name in 'conftest.py', 'watchdog.py', 'waits.py':
        text = (FOLDER / name).read_text()
        if listed:
            text = text.replace('MAY_BE_SKIPPED = {', "MAY_BE_SKIPPED = {\n    'test_one.py::test_that_is_skipped': NOT_ROOT,")
        (tmp_path / name).write_text(text)
    (tmp_path / 'test_one.py').write_text(SKIPS)
    environment = {name: value for name, value in os.environ.items() if name != 'CI'}
    environment |= {} if ci is None else {'CI': ci}
    command = [sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', '--rootdir', tmp_path, tmp_path]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=conftest.LIMIT)
    assert outcome in ran.stdout and ('the reason' in ran.stdout) == (outcome == '1 failed'), ran.stdout


def test_each_listed_skip_is_a_test_that_there_is():
    for name in conftest.MAY_BE_SKIPPED:
        file, function = name.split('::')
        assert f'def {function}(' in (FOLDER / file).read_text(), name
