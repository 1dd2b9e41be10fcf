"""The prints and records of a child, on their way to the program. Used on other machines, by the
agent: its engine's thread that reads the child's pipes adds, and the driver's call `Agent.hear`
takes.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable

from .. import _engine, _output

__all__ = ['RECORD', 'STDERR', 'STDOUT', 'Heard', 'Outlet', 'Piece', 'Place']

# The pipe of the proxy that a piece is for, by its place among the setting's file descriptors.
STDOUT, STDERR, RECORD = range(3)
# A child that prints waits while so many bytes wait for the driver.
_MAX_WAITING = 1 << 20
# Before each record stands its length, as in the engine's own pipes (`output/records.rs`).
_LENGTH = struct.Struct('<I')

Piece = tuple[int, bytes]
#: A machine's name, and the pid of a child there.
Place = tuple[str, int]
#: The result of `Agent.hear`: the child's place, the pieces that have come, whether these are all.
Heard = tuple[Place | None, list[Piece], bool]


class Outlet:
    """The lines and records of one child that the driver has not taken yet."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pieces: list[Piece] = []
        self._waiting = 0
        # Nobody waits for room any more; nothing more comes.
        self._is_unbounded = self._is_closed = False
        self.place: Place | None = None

    def surroundings(self, output: str | None, logs: bytes | None, leads_group: bool) -> _output.OfWorker:
        """Returns what a child is to have around it, so that what it prints and logs comes here.
        `output` is 'lines', 'null' or nothing; `logs` are what the child is told of records.
        """
        streams: str | Callable[[], Callable[[_engine.Line], object]] | None = output
        if output == 'lines':
            streams = self._line_callback
        records = None if logs is None else (logs, self)
        return _output.OfWorker(_engine.Surroundings(streams, records, leads_group).make_setting())

    def take(self, timeout: float) -> Heard:
        """Waits at most so many seconds for what the child prints and logs, and returns it."""
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._is_closed, timeout)
            pieces, self._pieces, self._waiting = self._pieces, [], 0
            self._changed.notify_all()
            return self.place, pieces, self._is_closed

    def let_go_on(self) -> None:
        """From now on the child does not wait for the driver, which may be gone."""
        with self._changed:
            self._is_unbounded = True
            self._changed.notify_all()

    def close(self) -> None:
        """Notes that the child has ended and all is here."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def receive(self, records: list[bytes], name: str, pid: int, slot: int | None) -> None:
        """Takes records of the child. The engine calls it."""
        for record in records:
            self._add(RECORD, _LENGTH.pack(len(record)) + record)

    def forget(self, pid: int) -> None:
        """Does nothing: what an ended child has left is the driver's. The engine calls it."""

    def _line_callback(self) -> Callable[[_engine.Line], object]:
        return self._add_line

    def _add_line(self, line: _engine.Line) -> None:
        self._add(STDOUT if line.stream == 'stdout' else STDERR, bytes(line) + b'\n' * line.is_whole)

    def _add(self, pipe: int, data: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting < _MAX_WAITING or self._is_unbounded)
            self._pieces.append((pipe, data))
            self._waiting += len(data)
            self._changed.notify_all()
