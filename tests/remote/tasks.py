"""The functions that the tests have children run."""

import logging
import os
import pathlib
import signal
import subprocess
import sys
import time

import procession

HERE = pathlib.Path(__file__).parent


def square(x):
    return x * x


def add(x, y):
    return x + y


def fail(x):
    raise LookupError(f'no {x}')


def fail_at(x, which):
    if x == which:
        raise LookupError(f'no {x}')
    return x


def end_by(code):
    os._exit(code)


def leave_by(code):
    sys.exit(code)


def kill_self(number):
    os.kill(os.getpid(), number)
    time.sleep(60)


def end_once(path, value):
    """Ends its process by SIGKILL at the first call with this path."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return value
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(seconds):
    time.sleep(seconds)
    return seconds


def pid(_=None):
    return os.getpid()


def parent_pid():
    return os.getppid()


def slot(_=None):
    time.sleep(0.05)
    return procession.current_worker().slot


def environment(name):
    return os.environ.get(name)


def sum_of(array):
    return float(array.sum())


def change(array):
    array[0] = 5
    return float(array[0])


def is_writable(array):
    return bool(array.flags.writeable)


def note(path, text):
    with open(path, 'a') as file:
        file.write(f'{text}\n')


state = None


def set_state(value):
    global state
    state = value


def get_state(_=None):
    return state


def refuse_to_begin():
    raise LookupError('no table here')


def put_all(queue, items):
    for item in items:
        queue.put(item)


def have_child_put(queue, item):
    child = procession.get_context('spawn').Process(target=queue.put, args=(item,))
    child.start()
    child.join()
    sys.exit(child.exitcode)


def count_under(lock, namespace, times):
    for _ in range(times):
        with lock:
            namespace.value += 1


def say(text):
    print(text)
    print(f'{text} failed', file=sys.stderr)


def say_without_end(text):
    print(text, end='')


def say_and_kill_self(lines):
    for number in range(lines):
        print(number)
    os.kill(os.getpid(), signal.SIGKILL)


def say_much(lines, length):
    for _ in range(lines):
        print('x' * length)


def log(value):
    logging.getLogger('scale.test').info('at %s', value)
    return os.getpid()


def start_sleeper():
    return subprocess.Popen(['sleep', '100']).pid


def hold_and_sleep(lock, path):
    lock.acquire()
    touch_and_sleep(path)


def hold_and_leave(lock):
    lock.acquire()


def touch_and_sleep(path):
    with open(path, 'w') as file:
        file.write(str(os.getpid()))
    time.sleep(60)


def is_alive(number):
    """Returns whether a process runs. One that nobody has reaped, as its parent was killed, does
    not.
    """
    try:
        with open(f'/proc/{number}/stat') as stat:
            return stat.read().rpartition(')')[2].split()[0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return False
