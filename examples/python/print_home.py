"""Lines that workers print, behind their numbers and in a function. Run `python print_home.py
[fork|spawn|forkserver]`.
"""

import os
import signal
import sys

import procession as mp


def count(number):
    print(f'square of {number}: {number * number}')


def print_and_die():
    print('last words')
    os.write(2, b'by C code, without a newline')
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    with mp.Pool(1, output='prefix') as pool:
        pool.map(count, range(3))
    lines = []
    process = mp.Process(target=print_and_die, name='short-lived', output=lines.append)
    process.start()
    process.join()
    for line in sorted(lines, key=lambda line: line.stream):
        print(f'{line.name}, {line.stream}: {line.text}')
