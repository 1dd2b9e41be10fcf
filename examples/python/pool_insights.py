"""The use of a pool's time. Run `python pool_insights.py [fork|spawn|forkserver]`."""

import os
import signal
import sys
import time

import procession as mp


def nap(seconds):
    time.sleep(seconds)


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    with mp.Pool(1, insights=True) as pool:
        pool.map(nap, [0, 0, 0, 2, 0])
        try:
            pool.apply(die, (0,))
        except mp.WorkerLost:
            print('a worker is lost, and no time')
        insights = pool.insights()
    print(insights)
    slow = insights.slowest[0]
    print(f'the slowest is {slow.call}, item {slow.index} of its call')
    print(f'two seconds or more of work: {insights.total.working >= 2}')
