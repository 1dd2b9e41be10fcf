"""How long tests wait: for what has to come, and for what must not."""

import time

# Seconds after which something will never come.
LONG = 30
# Seconds that something is given to happen which must not.
SHORT = 0.1


def until(condition):
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
