"""How long tests wait: for what has to come, and for what must not."""

import os
import time

#: Stretches every limit of time, for machines that are slower than those the limits were made for.
SCALE = float(os.environ.get('PROCESSION_TEST_TIME_SCALE', 1))
# Seconds after which something will never come.
LONG = 30 * SCALE
# Seconds of a wait that nothing but the watchdog ends.
FOR_EVER = 3600
# Seconds that something is given to happen which must not.
SHORT = 0.1


def until(condition):
    """Polls until the condition holds, and fails if it never does."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
