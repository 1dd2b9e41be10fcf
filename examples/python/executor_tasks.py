"""An executor whose worker is killed goes on. Run
`python executor_tasks.py [fork|spawn|forkserver]`.
"""

import os
import signal
import sys
import time

import procession as mp
from procession.futures import BrokenProcessPool, ProcessPoolExecutor, as_completed


def square(number):
    return number * number


def end():
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    with ProcessPoolExecutor(2) as executor:
        futures = [executor.submit(square, number) for number in range(5)]
        print(sorted(future.result() for future in as_completed(futures)))
        try:
            executor.submit(end).result()
        except BrokenProcessPool as error:
            print('one task is lost:', 'SIGKILL' in str(error))
        print('the others are not:', list(executor.map(square, range(5))))

        slow = executor.submit(time.sleep, 1000)
        print('cancelled:', slow.cancel(running=True))
        try:
            executor.options(timeout=0.1).submit(time.sleep, 1000).result()
        except mp.TaskTimeoutError:
            print('out of time')
