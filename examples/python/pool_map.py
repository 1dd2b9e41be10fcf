"""Four waits of a second each, by four workers: about one second. Run
`python pool_map.py [fork|spawn|forkserver]`.
"""

import sys
import time

import procession as mp


def wait_and_return(number):
    time.sleep(1)
    return number


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    with mp.Pool(4) as pool:
        begun = time.monotonic()
        print(pool.map(wait_and_return, [1, 2, 3, 4]))
        print(f'in {time.monotonic() - begun:.1f} s')
