"""Context variables that go with tasks, and a finalizer. Run `python worker_context.py
[fork|spawn|forkserver]`.
"""

import contextvars
import os
import sys

import procession as mp

user = contextvars.ContextVar('user', default='nobody')


def greet(word):
    return f'{word} {user.get()}'


def finish():
    os.write(1, b'a worker leaves\n')


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    with mp.Pool(1, contextvars=True, finalizer=finish) as pool:
        print(pool.apply(greet, ('hello',)))
        user.set('ann')
        print(pool.map(greet, ['hello', 'good day']), flush=True)
        pool.close()
        pool.join()
