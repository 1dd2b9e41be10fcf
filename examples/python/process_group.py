"""A worker that is replaced takes the programs along that it has started. Run `python
process_group.py [fork|spawn|forkserver]`.
"""

import os
import select
import signal
import subprocess
import sys

import procession as mp


def start_program():
    return subprocess.Popen(['sleep', '1000']).pid


def await_end(pid):
    """Waits until a process has ended that is no child of this one."""
    try:
        program = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([program], [], [])
    finally:
        os.close(program)


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    with mp.Pool(1, process_group=True) as pool:
        first = pool.apply(start_program)
        try:
            pool.apply(signal.pause, timeout=1)
        except mp.TaskTimeoutError:
            await_end(first)
            print('the worker has run out of time, and its program has ended')
        second = pool.apply(start_program)
    await_end(second)
    print('the pool has ended, and so has the other program')
