"""Shows what procession does, beside `multiprocessing`, in a few seconds: a worker is killed and
costs one task, a large array crosses, a task that runs too long is ended, and words are counted.

Run `python demo.py FOLDER [FILES]`: it counts the words of the first FILES files below a folder.
`cargo xtask demo` runs it.
"""

import importlib
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

import procession
import word_count

# The argument by which this program runs the twenty tasks by `multiprocessing` alone.
BESIDE = '--beside'


def work(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    return number


def run_twenty_tasks(name):
    package = importlib.import_module(name)
    with package.Pool(2) as pool:
        results = [pool.apply_async(work, (number,)) for number in range(20)]
        done = 0
        for number, result in enumerate(results):
            try:
                result.get()
                done += 1
            except procession.WorkerLost as error:
                print(f'   task {number}: {type(error).__name__}: {error}')
        print(f'   {done} of 20 tasks are done, and the pool goes on: 6 x 7 = {pool.apply(multiply, (6, 7))}')


def lose_a_worker():
    print('1. Twenty tasks. The worker that runs task 3 is killed.\n')
    print('   procession:')
    run_twenty_tasks('procession')
    print('   multiprocessing:', flush=True)
    try:
        # It prints on standard error what it leaves behind.
        subprocess.run([sys.executable, __file__, BESIDE], timeout=3, stderr=subprocess.DEVNULL, check=True)
    except subprocess.TimeoutExpired:
        print('   hangs; ended after 3 s\n')


def multiply(one, other):
    return one * other


def send_an_array():
    try:
        import numpy
    except ImportError:
        print('2. A large array: left out, as numpy is not installed.\n')
        return
    print('2. An array of 64 MiB goes to a worker, which returns its sum.\n')
    numbers = numpy.full((64 << 20) // 8, 0.5)
    for package in (procession, multiprocessing):
        with package.Pool(1) as pool:
            times = []
            for _ in range(3):
                begun = time.perf_counter()
                total = pool.apply(numpy.sum, (numbers,))
                times.append(time.perf_counter() - begun)
        print(f'   {package.__name__:<16} {min(times) * 1e3:>7.1f} ms, sum {total}')
    print()


def end_a_slow_task():
    print('3. A task that would run for a minute has a time limit of 0.3 s.\n')
    with procession.Pool(1) as pool:
        try:
            pool.apply_async(time.sleep, (60,), timeout=0.3).get()
        except procession.TimeoutError as error:
            print(f'   {type(error).__name__}: {error}')
        print(f'   the pool goes on: 6 x 7 = {pool.apply(multiply, (6, 7))}\n')


if __name__ == '__main__':
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    if sys.argv[1] == BESIDE:
        sys.exit(run_twenty_tasks('multiprocessing'))
    lose_a_worker()
    send_an_array()
    end_a_slow_task()
    print('4. ', end='')
    word_count.main(pathlib.Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else None)
