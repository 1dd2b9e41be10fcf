"""The ways to give work to a pool. Run `python pool_results.py [fork|spawn|forkserver]`."""

import os
import sys
import time

import procession as mp


def square(number):
    return number * number


def fail():
    raise ValueError('not today')


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    with mp.Pool(processes=4) as pool:
        print(pool.apply(square, (7,)))
        print(pool.map(square, range(10)))
        print(list(pool.imap(square, range(5))))
        print(sorted(pool.imap_unordered(square, range(5))))
        print(pool.starmap(pow, [(2, 3), (3, 2)]))

        result = pool.apply_async(square, (20,))
        print(result.get(timeout=30))
        pids = [pool.apply_async(os.getpid) for _ in range(4)]
        print('in workers:', all(pid.get() != os.getpid() for pid in pids))

        slow = pool.apply_async(time.sleep, (10,))
        try:
            slow.get(timeout=0.1)
        except mp.TimeoutError:
            print('not there yet')
        try:
            pool.apply(fail)
        except ValueError as error:
            print('failed:', error)
    print('the pool is gone, and the slow task with it')
