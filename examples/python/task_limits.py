"""A task that takes too much memory fails alone. Run
`python task_limits.py [fork|spawn|forkserver]`.
"""

import sys
import time

import procession as mp


def grow(megabytes):
    taken = bytearray(b'x') * (megabytes << 20)
    time.sleep(0.1)
    return len(taken) >> 20


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    with mp.Pool(2, memory_limit=200 << 20, rlimits={'CORE': 0}) as pool:
        results = [pool.apply_async(grow, (megabytes,)) for megabytes in (10, 500, 20)]
        for result in results:
            try:
                print(f'{result.get()} MiB')
            except mp.MemoryLimitError as error:
                print(f'too much: {error.limit >> 20} MiB is the limit')
