"""Processes by `spawn`: fresh interpreters, at the price of a small program's start however large the parent is. Used
in the parent, by any thread.

Preparation data, process object and file descriptors go to the child in one message, and no resource tracker is started
for it.
"""

import os

from . import popen_fork, spawn
from ._engine import Child, Link

__all__ = ['Popen']


class _DupFd:
    """A file descriptor on its way to the child."""

    def __init__(self, ind):
        self.ind = ind

    def detach(self):
        """In the child: the number it has there."""
        return spawn.get_inherited_fds()[self.ind]


class Popen(popen_fork.Popen):
    """A fresh interpreter."""

    method = 'spawn'
    DupFd = _DupFd

    def __init__(self, process_obj):
        self._fds = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd):
        """Has a copy of the file descriptor `fd` sent to the child; returns its place among those sent."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process_obj):
        letter, fds = spawn.letter(self, process_obj)
        ours, theirs = Link.pair()
        ours.send(letter, fds)
        command = [os.fsencode(part) for part in spawn.get_command_line(pipe_handle=spawn.LINK)]
        Child.executed(self, '_child', command[0], command, ours, theirs, process_obj.name, process_obj.daemon)
        self._tell()
