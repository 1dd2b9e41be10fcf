"""A process is started and joined, and its result is read. Run
`python hello.py [fork|spawn|forkserver]`.
"""

import os
import sys

import procession as mp


def describe(title):
    print(f'{title}: module {__name__}, has a parent: {mp.parent_process() is not None}', flush=True)


def hello(name):
    describe('in hello')
    print('hello', name)


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    describe('in main')
    process = mp.Process(target=hello, args=('bob',))
    process.start()
    process.join()
    print('another process:', process.pid != os.getpid(), 'exit code:', process.exitcode)
