"""The functions that the tests run in children: a module that is quick to import there."""

import logging
import logging.handlers
import multiprocessing
import os
import pathlib
import signal
import sys
import time

import procession
import waits


def add(left, right):
    return left + right


def double(x):
    return 2 * x


def fail(text):
    raise ValueError(text)


def whose_process():
    """Returns whether this process is one of ours, and its start method as both packages see it."""
    is_ours = isinstance(multiprocessing.current_process(), procession.process.BaseProcess)
    return is_ours, multiprocessing.get_start_method(), procession.get_start_method()


def end_by(number):
    os.kill(os.getpid(), number)


def megabytes(count):
    return bytes(range(256)) * (count << 12)


_initialized = None


def initialize(value):
    global _initialized
    _initialized = value


def initialized():
    return _initialized


def sleep(seconds):
    time.sleep(seconds)


def sum_of(array):
    return array.sum()


def tell_who(queue, seen_alive=None):
    def seen(package):
        process = package.current_process()
        return process.name, process.pid, package.parent_process().pid

    same_key = procession.current_process().authkey == multiprocessing.current_process().authkey
    queue.put((seen(procession), seen(multiprocessing), same_key))
    if seen_alive is not None:
        seen_alive.wait()


def answer_thrice(queue, connection):
    while (question := connection.recv()) != 'end':
        queue.put('put') if question == 'queue' else connection.send('sent')


def echo(requests, answers):
    for item in iter(requests.get, 'end'):
        answers.put(item)


def put_many(queue, who, count):
    for number in range(count):
        queue.put((who, number))


def use_all(lock, event, value, queue, simple, connection):
    queue.put('begun')
    with lock:
        value.value += 1
    event.set()
    connection.send('received')
    simple.put('got')


def log_to(queue, *message):
    logging.handlers.QueueHandler(queue).handle(logging.makeLogRecord({'msg': message[0], 'args': message[1:]}))


def exit_by(code):
    sys.exit(code)


def hang_at_7(x):
    if x == 7:
        signal.pause()
    return x


def touch_and_wait(path):
    """Says by a file that it runs, until it is ended."""
    pathlib.Path(path).touch()
    time.sleep(1000)


def wait_for_file(begun, path):
    """Says by one file that it runs, until there is another."""
    pathlib.Path(begun).touch()
    waits.until(pathlib.Path(path).exists)
    return 'done'
