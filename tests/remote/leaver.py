"""A program that ends while its process still works. Argument: the file that the process writes."""

import multiprocessing
import pathlib
import sys
import time


def write_late(path):
    time.sleep(1)
    pathlib.Path(path).write_text('done')


if __name__ == '__main__':
    process = multiprocessing.Process(target=write_late, args=(sys.argv[1],))
    process.start()
