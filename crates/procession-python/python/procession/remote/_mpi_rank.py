"""The ranks of an MPI job: rank 0 runs the program, and the others are agents until it ends."""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import Any

from . import _mpi_post
from ._agent import CONCURRENCY, Agent

__all__ = ['serve_unless_first']


def serve_unless_first() -> None:
    """Returns in rank 0. In the others it serves, and exits when the program has ended."""
    if _mpi_post.enter():
        return
    _Rank().serve()
    # The library's end waits for all ranks.
    sys.exit(0)


class _Rank:
    """A rank that is an agent. Its main thread calls MPI; others run what may wait."""

    def __init__(self) -> None:
        self._comm = _mpi_post.communicator()
        self._agent = Agent()
        self._answers: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._calls: queue.SimpleQueue[tuple[int, tuple[Any, ...]]] = queue.SimpleQueue()
        self._news = threading.Event()
        for _ in range(CONCURRENCY):
            threading.Thread(target=self._work, daemon=True).start()

    def serve(self) -> None:
        """Serves until the program has ended."""
        sent: list[_mpi_post.Sent] = []
        pause = _mpi_post.Pause()
        while True:
            is_busy = False
            while (message := _mpi_post.receive_message(self._comm)) is not None:
                is_busy = True
                number, call = message
                if call[0] == 'stop':
                    self._agent.end()
                    return
                if number:
                    self._calls.put(message)
                else:
                    getattr(self._agent, call[0])(*call[1:])
            while not self._answers.empty():
                is_busy = True
                sent += _mpi_post.post_message(self._comm, 0, self._answers.get())
            sent = [entry for entry in sent if not entry[0].Test()]
            if is_busy:
                pause.restart()
            elif _mpi_post.is_long(sent):
                os.sched_yield()
            else:
                pause.wait(self._news)
            self._news.clear()

    def _work(self) -> None:
        while True:
            number, (method, *args) = self._calls.get()
            try:
                answer = getattr(self._agent, method)(*args)
            except Exception as error:
                answer = RuntimeError(f'{type(error).__name__}: {error}')
            self._answers.put((number, answer))
            self._news.set()
