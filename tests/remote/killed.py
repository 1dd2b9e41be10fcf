"""A program that its process kills as soon as it has begun. Argument: the file in which the process
says its pid and its parent's.
"""

import multiprocessing
import os
import pathlib
import signal
import sys
import time


def kill_and_sleep(path, program):
    path = pathlib.Path(path)
    path.with_suffix('.new').write_text(f'{os.getpid()} {os.getppid()}')
    path.with_suffix('.new').rename(path)
    os.kill(program, signal.SIGKILL)
    time.sleep(100)


if __name__ == '__main__':
    multiprocessing.Process(target=kill_and_sleep, args=(sys.argv[1], os.getpid())).start()
    time.sleep(60)
