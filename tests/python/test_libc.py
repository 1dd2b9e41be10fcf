"""The C library as a child sees it. If a child's C library takes the child for its parent, or for
another child of the same fork server, free locks seem held to it, and held ones free.
"""

import ctypes
import faulthandler
import os
import signal
import threading

import pytest
from processes import PATIENCE, started

pytestmark = pytest.mark.limit(60)

PTHREAD_MUTEX_ERRORCHECK = 2
SIZE_OF_MUTEX = 64


def look_at_mutex():
    """Checks that this thread owns an error-checking mutex, and may not lock it again."""
    libc = ctypes.CDLL(None)
    attributes, mutex = ctypes.create_string_buffer(16), ctypes.create_string_buffer(SIZE_OF_MUTEX)
    assert libc.pthread_mutexattr_init(attributes) == 0
    assert libc.pthread_mutexattr_settype(attributes, PTHREAD_MUTEX_ERRORCHECK) == 0
    assert libc.pthread_mutex_init(mutex, attributes) == 0
    locked = libc.pthread_mutex_lock(mutex)
    # The owner is the third number in it.
    owner = ctypes.cast(mutex, ctypes.POINTER(ctypes.c_int))[2]
    again = libc.pthread_mutex_lock(mutex)
    unlocked = libc.pthread_mutex_unlock(mutex)
    return locked, owner == threading.get_native_id() == os.getpid(), os.strerror(again), unlocked


def look_at_thread():
    """Checks that a thread is started and joined, and is not the main thread."""
    seen = []
    thread = threading.Thread(target=lambda: seen.append(threading.get_native_id()))
    thread.start()
    thread.join()
    return len(seen) == 1 and seen[0] != threading.get_native_id()


def abort():
    # pytest has set it up to print at length, and a forked child has inherited that.
    faulthandler.disable()
    os.abort()


def raise_signal(number):
    ctypes.CDLL(None)['raise'](number)


def test_a_mutex_is_owned_by_the_childs_thread(ctx):
    # Two at once, so that one child of the fork server could be taken for the other.
    children = [started(ctx, look_at_mutex) for _ in range(2)]
    for child in children:
        assert child.result(PATIENCE) == (0, True, os.strerror(35), 0)


def test_a_thread_is_started_and_joined_in_a_child(ctx):
    assert started(ctx, look_at_thread).result(PATIENCE) is True


def test_raise_ends_a_child_by_its_signal(ctx):
    child = started(ctx, raise_signal, signal.SIGUSR1)
    child.join(PATIENCE)
    assert child.exitcode == -signal.SIGUSR1


def test_abort_ends_a_child_by_sigabrt(ctx):
    child = started(ctx, abort)
    child.join(PATIENCE)
    assert child.exitcode == -signal.SIGABRT
