"""Ends a test that hangs, and names it. It is a program of its own, started by conftest.py beside
the tests.

It reads one line for each test from its standard input: the seconds it may take and its name. A
line without a name says that the test has ended. It sees what a thread of the tests' process could
not: a hang with the interpreter's lock held.
"""

import os
import pathlib
import select
import signal
import sys
import time


def watch(pid, lines):
    """Watches the tests of the process `pid`, which the descriptor `lines` names, until it ends."""
    process = os.pidfd_open(pid)
    name, deadline, unread = '', None, ''
    while True:
        timeout = None if deadline is None else max(deadline - time.monotonic(), 0)
        ready, _, _ = select.select([process, lines], [], [], timeout)
        if process in ready:
            return
        if lines in ready:
            text = os.read(lines, 65536).decode()
            if not text:
                return
            *told, unread = (unread + text).split('\n')
            # Of several tests only the last still needs watching.
            if told:
                seconds, _, name = told[-1].partition(' ')
                deadline = time.monotonic() + float(seconds) if name else None
        elif deadline is not None:
            end(pid, process, name)
            return


def end(pid, process, name):
    """Has the process write the stacks of its threads, and ends it and all processes that it has
    started.
    """
    left = descendants(pid)
    left.pop(os.getpid(), None)
    sys.stderr.write(f'\n\nHANGS: {name}\n')
    for child, command in left.items():
        sys.stderr.write(f'  its process {child}: {command}\n')
    sys.stderr.flush()
    # faulthandler answers with the stacks of all threads, with the interpreter's lock or without.
    os.kill(pid, signal.SIGABRT)
    if not select.select([process], [], [], 10)[0]:
        os.kill(pid, signal.SIGKILL)
    for child in left:
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            pass


def descendants(pid):
    """Returns the processes below `pid`, with their command lines."""
    children = {}
    for entry in pathlib.Path('/proc').iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / 'stat').read_text().rpartition(')')[2].split()[1])
                command = (entry / 'cmdline').read_text(errors='replace').replace('\0', ' ').strip()
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append((int(entry.name), command))
    found = {}
    parents = [pid]
    while parents:
        for child, command in children.get(parents.pop(), ()):
            found[child] = command
            parents.append(child)
    return found


if __name__ == '__main__':
    # A Ctrl-C that ends the tests must not end their watchdog first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch(int(sys.argv[1]), lines=0)
