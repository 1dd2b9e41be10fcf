"""A program that a test kills while its children work. Arguments: a folder in which each child says
its pid and its parent's, and the seconds that the program runs once all have.
"""

import multiprocessing
import os
import pathlib
import sys
import time


def say_and_sleep(folder, number):
    path = pathlib.Path(folder, str(number))
    path.with_suffix('.new').write_text(f'{os.getpid()} {os.getppid()}')
    path.with_suffix('.new').rename(path)
    time.sleep(100)


def main(folder, seconds):
    with multiprocessing.Pool(2) as pool:
        pool.starmap_async(say_and_sleep, [(folder, 0), (folder, 1)], chunksize=1)
        process = multiprocessing.Process(target=say_and_sleep, args=(folder, 2))
        process.start()
        while not all(pathlib.Path(folder, str(number)).exists() for number in range(3)):
            time.sleep(0.02)
        pathlib.Path(folder, 'driver').write_text(str(os.getpid()))
        time.sleep(float(seconds))


if __name__ == '__main__':
    main(*sys.argv[1:])
