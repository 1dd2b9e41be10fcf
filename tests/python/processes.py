"""Processes that tests start, programs that they run, and whether those have ended."""

import platform
import re
import signal
import subprocess
import sys
import textwrap
import time

from waits import SCALE

METHODS = ('fork', 'spawn', 'forkserver')
PATIENCE = 30 * SCALE


# True if the kernel remembers the exit status of a process that others have reaped.
KERNEL_REMEMBERS_ENDS = tuple(int(number) for number in re.findall(r'\d+', platform.release())[:2]) >= (6, 15)


def started(ctx, target, *args, **terms):
    process = ctx.Process(target=target, args=args, **terms)
    process.start()
    return process


def killed(process):
    process.kill()
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGKILL


def joined(*processes):
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0


def all_end(pids):
    """Returns whether each of the processes ends, or becomes a zombie nobody waits for. A step that
    takes far longer than it should counts as a short one: the machine stood still.
    """
    left = PATIENCE
    while not all(map(has_ended, pids)):
        if left <= 0:
            return False
        begin = time.monotonic()
        time.sleep(0.01)
        left -= min(time.monotonic() - begin, 0.1)
    return True


def has_ended(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] == 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return True


def run(tmp_path, program, *args, **terms):
    """Runs a program of its own file, as a user does."""
    path = tmp_path / 'program.py'
    path.write_text(textwrap.dedent(program))
    command = [sys.executable, str(path), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=90 * SCALE, **terms)
