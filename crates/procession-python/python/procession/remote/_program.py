"""The agent process of a Rust program, as an actor sees it: the program's executable, which has
begun as an agent and runs the tasks in a child of its own. Used on other machines, by the threads
of the actor.

The executable is started where it is, if this machine has the same build at the same place, or from
memory, to which the cluster's library has brought it.
"""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any

from .. import _remote
from ._build_id import build_id_of
from ._frames import MESSAGE, receive_frame, send_frame

if TYPE_CHECKING:
    from ._agent import Told
    from ._kept import Kept
    from ._put import Key

__all__ = ['AgentProcess', 'Taken']

# The end of the name of a process that is an agent: see `bridge/agent.rs` in the crate.
_MARK = ' [procession-agent]'
# Bytes of messages that are kept until the bridge program takes them. The agent waits while there
# are more.
_MAX_KEPT = 8 << 20
# Seconds in which an agent must end whose socket is closed.
_PATIENCE = 5.0

#: Messages of an agent; and once it has ended and there are no more, how.
Taken = tuple[list[bytes], str | None]


class AgentProcess:
    """The agent process of a program. `terms` are what the bridge program says of the program."""

    def __init__(self, number: int, terms: dict[str, Any]) -> None:
        self.number, self._terms = number, terms
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._changed = threading.Condition()
        self._messages: collections.deque[bytes] = collections.deque()
        self._kept = 0
        self._end: str | None = None
        self._failure: bytes | None = None

    def awaited(self, kept: dict[Key, Kept]) -> Told:
        """Starts the executable, or tells that it is wanted."""
        if self._process is None and self._failure is None:
            key: Key = self._terms['key']
            if _has_build(self._terms['path'], self._terms['build']):
                self._start(self._terms['path'])
            elif key in kept:
                self.give(kept[key])
            else:
                return 'wanted', key
        if self._failure is not None:
            return 'failed', self._failure
        assert self._process is not None
        return 'begun', (socket.gethostname(), self._process.pid)

    def give(self, executable: Kept) -> None:
        """Starts the executable, which is kept in memory."""
        _, (fd, *_), passed = executable.described()
        os.fchmod(fd, 0o700)
        try:
            # The path is the actor's own, as the child closes what it does not need.
            self._start(f'/proc/{os.getpid()}/fd/{fd}')
        finally:
            for own in passed:
                os.close(own)

    def put(self, messages: list[bytes]) -> None:
        """Sends messages to the agent. Waits while it takes none."""
        sock = self._socket
        if sock is None:
            return
        try:
            for message in messages:
                send_frame(sock, MESSAGE, 0, message)
        except OSError:
            # It has ended, which `take` tells.
            return

    def take(self) -> Taken:
        """Waits for messages of the agent, or for its end."""
        with self._changed:
            self._changed.wait_for(lambda: self._messages or self._end is not None)
            messages = list(self._messages)
            self._messages.clear()
            self._kept = 0
            self._changed.notify_all()
            return messages, None if messages else self._end

    def send_signal(self, signum: int) -> None:
        """Sends the agent a signal; does nothing if it has ended."""
        if self._process is not None:
            self._process.send_signal(signum)

    def end(self) -> None:
        """Ends the agent, and with it its child."""
        if self._process is None or self._socket is None:
            return
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with self._changed:
            # Nobody takes any more.
            self._kept = 0
            self._changed.notify_all()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.send_signal(signal.SIGKILL)
            self._process.wait()

    def _start(self, path: str) -> None:
        ours, theirs = socket.socketpair()
        argv: list[str] = self._terms['argv'] or [path]
        first, *others = argv
        folder: str = self._terms['folder']
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [first + _MARK, *others],
                    executable=path,
                    stdin=theirs.fileno(),
                    # Its tasks may name files as the program does.
                    cwd=folder if os.path.isdir(folder) else None,
                )
            except OSError as error:
                ours.close()
                text = f'the executable of the program does not start on {socket.gethostname()} ({error}): it must be for machines like this one'
                self._failure = _remote.pack(RuntimeError(text), None)
                return
        self._socket = ours
        threading.Thread(target=self._read, args=(ours, self._process), name='procession-agent-reader', daemon=True).start()

    def _read(self, sock: socket.socket, process: subprocess.Popen[bytes]) -> None:
        why = ''
        try:
            while (frame := receive_frame(sock)) is not None:
                message = frame[2]
                with self._changed:
                    self._changed.wait_for(lambda: self._kept < _MAX_KEPT)
                    self._messages.append(message)
                    self._kept += len(message)
                    self._changed.notify_all()
        except ValueError as error:
            why = f' ({error})'
            process.kill()
        code = process.wait()
        how = f'signal {-code}' if code < 0 else f'exit code {code}'
        with self._changed:
            self._end = f'the agent process {process.pid} on {socket.gethostname()} has ended by {how}{why}'
            self._changed.notify_all()
        sock.close()


def _has_build(path: str, build: bytes) -> bool:
    try:
        return bool(build) and build_id_of(path) == build and os.access(path, os.X_OK)
    except OSError:
        return False
