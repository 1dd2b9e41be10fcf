"""The things that each worker has for itself: a number, devices, variables, threads. Run
`python worker_places.py [fork|spawn|forkserver]`.
"""

import os
import sys

import procession as mp


def place(_):
    names = 'CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS', 'PORT'
    return mp.current_worker().slot, *(os.environ[name] for name in names)


def port(slot):
    return {'PORT': str(9000 + slot)}


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    with mp.Pool(2, devices=[3, 5], threads=1, env=port) as pool:
        found = set()
        while len(found) < 2:
            found.update(pool.map(place, range(8), chunksize=1))
        for slot, device, threads, number in sorted(found):
            print(f'worker {slot}: device {device}, threads {threads}, port {number}')
    print(f'not in a worker: {mp.current_worker()}')
