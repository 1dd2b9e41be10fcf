"""One at a time: each process prints its two lines together. Run
`python lock_lines.py [fork|spawn|forkserver]`.
"""

import sys

import procession as mp


def two_lines(lock, number):
    with lock:
        print('begin', number, flush=True)
        print('end', number, flush=True)


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    lock = mp.Lock()
    processes = [mp.Process(target=two_lines, args=(lock, number)) for number in range(5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
