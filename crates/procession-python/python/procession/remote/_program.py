"""The agent process of a Rust program, as an actor sees it: the program's executable, which has
begun as an agent and runs the tasks in a child of its own. Used on other machines, by the threads
of the actor.

The executable is started where it is, if this machine has the same build at the same place, or from
memory, to which the cluster's library has brought it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import threading
from typing import TYPE_CHECKING, Any

from .. import _remote
from ._build_id import build_id_of
from ._frames import MESSAGE, FrameReader, send_frame

if TYPE_CHECKING:
    from ._agent import Told
    from ._kept import Kept
    from ._put import Key

__all__ = ['AgentProcess', 'Taken', 'answers_of']

# The end of the name of a process that is an agent: see `bridge/agent.rs` in the crate.
_MARK = ' [procession-agent]'
# Before the answers of a task stands their place, and before each its length.
_NUMBER = struct.Struct('<Q')
# Seconds in which an agent must end whose socket is closed.
_PATIENCE = 5.0

#: The place of messages in the order of all that the agent says; these messages; and once it has
#: ended and there are no more, how.
Taken = tuple[int, list[bytes], str | None]


class AgentProcess:
    """The agent process of a program. `terms` are what the bridge program says of the program.

    Two calls of the bridge program read what the agent says. `run` brings a message, and reads the
    first answers to it. `take` is there at all times, and reads what comes while no `run` waits.
    So a task is one call, and the end of an idle agent is known at once. Messages that nobody reads
    stay in the socket, and the agent waits.
    """

    def __init__(self, number: int, terms: dict[str, Any]) -> None:
        self.number, self._terms = number, terms
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._sending = threading.Lock()
        # Held by `take` while it reads; notified when a `run` has read.
        self._turn = threading.Condition()
        self._is_running = False
        # Wakes `take`. It does not hear of messages while a `run` waits for them.
        self._poll = select.epoll()
        self._reader: FrameReader | None = None
        self._place = 0
        # The error of bytes that were no frame, as a text to be told.
        self._nonsense = ''
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
            with self._sending:
                for message in messages:
                    send_frame(sock, MESSAGE, 0, message)
        except OSError:
            # It has ended, which `take` tells.
            return

    def run(self, message: bytes, kept: dict[Key, Kept]) -> Told:
        """Sends a message to the agent, and tells the first answers, as `answers_of` reads them."""
        sock = self._socket
        assert sock is not None
        with self._turn:
            self._is_running = True
            self._poll.modify(sock, 0)
        try:
            self.put([message])
            place, messages = self._received()
            # The clusters' libraries carry bytes faster than anything else.
            return b''.join([_NUMBER.pack(place), *(part for each in messages for part in (_NUMBER.pack(len(each)), each))])
        finally:
            with self._turn:
                self._is_running = False
                self._poll.modify(sock, select.EPOLLIN)
                self._turn.notify_all()

    def take(self) -> Taken:
        """Waits for messages of the agent that no `run` waits for, or for its end."""
        sock = self._socket
        assert sock is not None
        while True:
            self._poll.poll()
            with self._turn:
                # The end of the socket wakes it too, which both find.
                self._turn.wait_for(lambda: not self._is_running)
                if not self._poll.poll(0):
                    # A `run` has read it meanwhile.
                    continue
                place, messages = self._received()
            return place, messages, None if messages else self._awaited_end()

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
        self._socket, self._reader = ours, FrameReader(ours)
        self._poll.register(ours, select.EPOLLIN)

    def __del__(self) -> None:
        # A call that still runs holds this object, so nobody reads the socket now.
        if self._socket is not None:
            self._socket.close()
        self._poll.close()

    def _received(self) -> tuple[int, list[bytes]]:
        """Waits for messages. Returns their place and them; none if there will be no more."""
        reader, messages = self._reader, []
        assert reader is not None
        try:
            while not self._nonsense and (frame := reader.receive()) is not None:
                messages.append(frame[2])
                if not reader.has_received():
                    break
        except ValueError as error:
            # The bytes behind it would be no frames either.
            self._nonsense = f' ({error})'
            self.send_signal(signal.SIGKILL)
        self._place += bool(messages)
        return self._place, messages

    def _awaited_end(self) -> str:
        """Waits for the end of the agent, whose socket has ended, and tells it."""
        process = self._process
        assert process is not None
        code = process.wait()
        how = f'signal {-code}' if code < 0 else f'exit code {code}'
        return f'the agent process {process.pid} on {socket.gethostname()} has ended by {how}{self._nonsense}'


def answers_of(told: bytes) -> tuple[int, list[bytes]]:
    """Returns the place of the messages that `AgentProcess.run` has told, and them."""
    (place,), at, messages = _NUMBER.unpack_from(told), _NUMBER.size, []
    while at < len(told):
        (length,) = _NUMBER.unpack_from(told, at)
        at += _NUMBER.size
        messages.append(told[at : at + length])
        at += length
    return place, messages


def _has_build(path: str, build: bytes) -> bool:
    try:
        return bool(build) and build_id_of(path) == build and os.access(path, os.X_OK)
    except OSError:
        return False
