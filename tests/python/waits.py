"""The time for which tests wait for an event that must come, and for one that must not."""

import os
import time

#: Stretches every time limit, for machines that are slower than those the limits were made for.
SCALE = float(os.environ.get('PROCESSION_TEST_TIME_SCALE', 1))
# Seconds after which an event will never come.
LONG = 30 * SCALE
# Seconds of a wait that nothing but the watchdog ends.
FOR_EVER = 3600
# Seconds in which an event that must not happen could happen.
SHORT = 0.1


def until(condition):
    """Polls until the condition holds, and fails if it never does."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
