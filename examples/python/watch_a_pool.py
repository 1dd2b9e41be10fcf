"""A look at a pool from outside. Run `python watch_a_pool.py [fork|spawn|forkserver]`."""

import json
import os
import subprocess
import sys
import time

import procession as mp

TOP = [sys.executable, '-m', 'procession', 'top']


def hang(_):
    time.sleep(3600)


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    with mp.Pool(1) as pool:
        pool.map_async(hang, [1, 2, 3], chunksize=1)
        task = None
        while task is None:
            seen = subprocess.check_output([*TOP, str(os.getpid()), '--json', '--stacks'])
            worker = json.loads(seen)['pools'][0]['workers'][0]
            task = worker['task']
        print(f'worker {worker["slot"]} runs {task.rpartition(".")[2]}, item {worker["item"]}')
        print(next(line for line in worker['stack'].splitlines() if 'in hang' in line).strip())
