"""A few seconds of each storm of signals. `cargo xtask stress` has longer ones."""

import pathlib
import subprocess
import sys

import pytest
from waits import SCALE

pytestmark = pytest.mark.limit(240)

STORMS = pathlib.Path(__file__).parents[2] / 'stress' / 'signals.py'
CASES = [
    ('interrupts', 'fork'),
    ('interrupts', 'spawn'),
    ('interrupts', 'forkserver'),
    ('stops', 'fork'),
    ('stops', 'spawn'),
    ('stops', 'forkserver'),
    ('servers', 'forkserver'),
]


@pytest.mark.parametrize(('storm', 'start'), CASES)
def test_nothing_hangs_is_wrong_or_left_in_a_storm_of_signals(storm, start):
    command = [sys.executable, str(STORMS), '--storm', storm, '--method', start, '--seconds', '6']
    done = subprocess.run(command, capture_output=True, text=True, timeout=200 * SCALE)
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith(storm), done.stdout + done.stderr
