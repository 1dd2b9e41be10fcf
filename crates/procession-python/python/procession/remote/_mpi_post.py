"""Messages between the ranks of an MPI job. One thread of each rank calls MPI, and no other does:
what others want to send goes through a queue. It waits for messages by looking for them, at first
without a pause and then less and less often, since a blocking receive of MPI uses a whole
processor.
"""

from __future__ import annotations

import atexit
import collections
import itertools
import os
import pickle
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import mpi4py  # type: ignore[import-not-found, import-untyped, unused-ignore]

# Threads of this process call it, one at a time.
mpi4py.rc.thread_level = 'serialized'

from mpi4py import MPI  # noqa: E402 - after its settings

__all__ = ['Post']

# Bytes of a message that travel in one piece; an MPI count has 31 bits.
_PIECE = 1 << 29
_WHOLE, _FIRST, _REST = 1, 2, 3
# Seconds between two looks: the first pauses, and the longest while an answer is awaited, and while
# nothing is.
_SHORTEST, _LONGEST, _LONGEST_IDLE = 20e-6, 1e-3, 5e-3
# Bytes of a message that MPI sends at once.
_MAX_EAGER = 1 << 16
# Looks without a pause.
_EAGER = 50

#: A request of MPI's, and what must stay until it is done.
Sent = tuple[Any, 'bytes | memoryview']


class Post:
    """The post office of a rank: it sends to the other ranks and receives from them."""

    _driver: Post | None = None

    @classmethod
    def of_driver(cls) -> Post:
        """Returns that of rank 0, made once."""
        if cls._driver is None:
            if MPI.COMM_WORLD.Get_rank() != 0 or MPI.COMM_WORLD.Get_size() < 2 or not _is_served:
                raise RuntimeError(
                    "the context 'mpi' is for rank 0 of an MPI job whose other ranks are its workers: start the program by "
                    '`mpiexec -n N python -m procession.mpi script.py`, with N of 2 or more'
                )
            cls._driver = cls()
            atexit.register(cls._driver.stop)
        return cls._driver

    def __init__(self) -> None:
        # Apart from the program's own messages.
        self._comm = _comm
        self.size: int = self._comm.Get_size()
        self.address = _address()
        self._numbers = itertools.count(1)
        self._answers: dict[int, _Slot] = {}
        self._outgoing: collections.deque[tuple[int, tuple[int, tuple[Any, ...]]]] = collections.deque()
        self._news = threading.Event()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._serve, name='procession-mpi', daemon=True)
        self._thread.start()

    def send(self, rank: int, call: tuple[Any, ...]) -> None:
        """Has an agent do something, without an answer."""
        self._outgoing.append((rank, (0, call)))
        self._news.set()

    def ask(self, rank: int, call: tuple[Any, ...]) -> Any:
        """Has an agent do something; returns its answer, or the exception that it raised."""
        number = next(self._numbers)
        slot = self._answers[number] = _Slot()
        self._outgoing.append((rank, (number, call)))
        self._news.set()
        slot.is_there.acquire()
        return slot.answer

    def stop(self) -> None:
        """Lets the other ranks end; MPI ends with all of them."""
        if self._is_stopped:
            return
        self._is_stopped = True
        for rank in range(1, self.size):
            self.send(rank, ('stop',))
        self._thread.join()

    def _serve(self) -> None:
        sent: list[Sent] = []
        pause = Pause()
        while not (self._is_stopped and not self._outgoing and not sent):
            is_busy = False
            while self._outgoing:
                rank, message = self._outgoing.popleft()
                sent += post_message(self._comm, rank, message)
                is_busy = True
            sent = [entry for entry in sent if not entry[0].Test()]
            while (received := receive_message(self._comm)) is not None:
                number, answer = received
                slot = self._answers.pop(number)
                slot.answer = answer
                slot.is_there.release()
                is_busy = True
            if is_busy:
                pause.restart()
            elif is_long(sent):
                os.sched_yield()
            elif self._answers or sent:
                pause.wait(self._news, _LONGEST)
            else:
                self._news.wait()
            self._news.clear()


class _Slot:
    """An answer that somebody waits for."""

    def __init__(self) -> None:
        self.is_there = threading.Lock()
        self.is_there.acquire()
        self.answer: Any = None


class Pause:
    """The wait before the next look: longer each time."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begins again, as something has come."""
        self._looks, self._seconds = 0, _SHORTEST

    def wait(self, news: threading.Event, longest: float = _LONGEST_IDLE) -> None:
        """Waits, or until there is news."""
        self._looks += 1
        if self._looks < _EAGER:
            os.sched_yield()
            return
        if self._seconds < 200e-6:
            # The wait of an event has a price of its own.
            time.sleep(self._seconds)
        else:
            news.wait(self._seconds)
        self._seconds = min(self._seconds * 1.3, longest)


def post_message(comm: Any, rank: int, message: object) -> list[Sent]:
    """Begins to send; returns the requests, each with what must stay until it is done."""
    data = pickle.dumps(message, 5)
    if len(data) <= _PIECE:
        return [(comm.Isend([data, MPI.BYTE], rank, _WHOLE), data)]
    head = pickle.dumps(len(data))
    sent: list[Sent] = [(comm.Isend([head, MPI.BYTE], rank, _FIRST), head)]
    view = memoryview(data)
    for at in range(0, len(data), _PIECE):
        piece = view[at : at + _PIECE]
        sent.append((comm.Isend([piece, MPI.BYTE], rank, _REST), piece))
    return sent


def is_long(sent: Sequence[Sent]) -> bool:
    """Returns whether a message is on its way that goes in many parts, each of which waits for a
    look.
    """
    return any(len(data) > _MAX_EAGER for _, data in sent)


def receive_message(comm: Any) -> Any:
    """Returns a message that has come, or `None`."""
    status = MPI.Status()
    for tag in (_WHOLE, _FIRST):
        if comm.Iprobe(MPI.ANY_SOURCE, tag, status):
            data = bytearray(status.Get_count(MPI.BYTE))
            comm.Recv([data, MPI.BYTE], status.Get_source(), tag)
            if tag == _WHOLE:
                return pickle.loads(data)
            whole = bytearray(pickle.loads(data))
            view = memoryview(whole)
            for at in range(0, len(whole), _PIECE):
                comm.Recv([view[at : at + _PIECE], MPI.BYTE], status.Get_source(), _REST)
            return pickle.loads(whole)
    return None


def _address() -> str:
    """An address of this machine that the other machines of the job reach, if there are others."""
    try:
        return socket.gethostbyname(socket.gethostname()) if _has_others else '127.0.0.1'
    except OSError:
        return '127.0.0.1'


# True if this job's other ranks serve; true if they are on other machines.
_is_served = False
_has_others = False
_comm: Any = None


def enter() -> bool:
    """Has all ranks of the job know one another. Called by each rank once, first. Returns whether
    this is rank 0.
    """
    global _is_served, _has_others, _comm
    _comm = MPI.COMM_WORLD.Dup()
    hosts = _comm.allgather(socket.gethostname())
    _is_served, _has_others = len(hosts) > 1, len(set(hosts)) > 1
    is_first: bool = _comm.Get_rank() == 0
    return is_first


def communicator() -> Any:
    """Returns what this package's messages go by."""
    return _comm
