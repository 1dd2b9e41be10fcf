"""The bridge program of a Rust program, which starts it: `python -m procession.remote.bridge ENGINE
ADDRESS`. It drives a Ray or Dask cluster for that program: hires agents, and carries messages
between the program and them, which it does not read.

The program is at the other end of the socket that is the standard input. When it is gone, the
bridge program lets go of the agents, and ends.

| thread | what it does |
|---|---|
| main | reads what the program says |
| three for each agent | start it, bring it what the program says, and bring what it says |
| one for each pool that starts | hires its agents |
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any, cast

from .._engine import __version__
from . import _frames, _put
from ._frames import FrameReader, send_frame
from ._line import Line

if TYPE_CHECKING:
    from ._cluster import BridgeAgent, Keeper
    from ._put import Put

__all__: list[str] = []

_MODULES = {'ray': '_ray', 'dask': '_dask'}
# Seconds in which the cluster's library must end.
_END_TIMEOUT = 8.0


class Bridge:
    """The part of the cluster that the program has: its agents."""

    def __init__(self, sock: socket.socket, reader: FrameReader, cluster: Keeper, executable: Put, terms: dict[str, Any]) -> None:
        self._socket, self._reader = sock, reader
        self._cluster, self._executable, self._terms = cluster, executable, terms
        self._sending = threading.Lock()
        self._lock = threading.Lock()
        self._lines: dict[int, Line] = {}

    def serve(self) -> None:
        """Serves the program until it is gone."""
        while (frame := self._reader.receive()) is not None:
            kind, subject, body = frame
            line = self._lines.get(subject)
            if kind == _frames.ASK:
                if line is not None:
                    line.run(body)
            elif kind == _frames.MESSAGE:
                if line is not None:
                    line.send(body)
            elif kind == _frames.HIRE:
                (count,) = struct.unpack('<I', body)
                self._answer_later(subject, self._hire, subject, count)
            elif kind == _frames.CAPACITY:
                self._answer_later(subject, self._cluster.capacity)
            elif kind == _frames.START:
                if line is not None:
                    line.want()
            elif kind == _frames.RELEASE:
                with self._lock:
                    line = self._lines.pop(subject, None)
                if line is not None:
                    line.end()

    def tell(self, kind: int, subject: int, body: bytes = b'') -> None:
        """Tells the program. Waits while it takes nothing."""
        try:
            with self._sending:
                send_frame(self._socket, kind, subject, body)
        except ConnectionError:
            # The main thread sees that it is gone.
            return

    def end(self) -> None:
        """Lets go of all agents."""
        with self._lock:
            lines, self._lines = self._lines, {}
        for line in lines.values():
            line.end()

    def _answer_later(self, number: int, ask: Any, *args: Any) -> None:
        threading.Thread(target=self._answer, args=(number, ask, *args), daemon=True).start()

    def _answer(self, number: int, ask: Any, *args: Any) -> None:
        try:
            answer = ask(*args)
        except Exception as error:
            # The error is the cluster library's, too.
            self.tell(_frames.REFUSED, number, str(error).encode())
        else:
            self.tell(_frames.DONE, number, struct.pack('<I', answer))

    def _hire(self, first: int, count: int) -> int:
        crew = self._cluster.hire(count)
        for slot in range(count):
            line = Line(first + slot, cast('BridgeAgent', crew[slot]), self._terms, self.tell)
            with self._lock:
                self._lines[first + slot] = line
            line.want()
        return count


def main() -> None:
    """Runs the bridge program."""
    engine, address = sys.argv[1:]
    sock = _own_socket()
    reader = FrameReader(sock)
    frame = reader.receive()
    if frame is None:
        return
    kind, version, about = frame
    assert kind == _frames.PROGRAM, kind
    if version != _frames.VERSION:
        send_frame(sock, _frames.READY, 0, struct.pack('<I', _frames.VERSION))
        return
    try:
        module = importlib.import_module(f'.{_MODULES[engine]}', __package__)
        cluster: Keeper = module.Cluster(*((address,) if address else ()))
        cluster.capacity()
        # The library has the executable for as long as its handle is there.
        executable, terms = _terms_of(cluster, about)
    except Exception as error:
        send_frame(sock, _frames.FAILED, 0, f'{type(error).__name__}: {error}'.encode())
        return
    bridge = Bridge(sock, reader, cluster, executable, terms)
    bridge.tell(_frames.READY, 0, struct.pack('<I', _frames.VERSION))
    try:
        bridge.serve()
    finally:
        # Threads may wait for what does not come any more.
        timer = threading.Timer(_END_TIMEOUT, os._exit, (1,))
        timer.daemon = True
        timer.start()
        bridge.end()
        cluster.leave()
        os._exit(0)


def _own_socket() -> socket.socket:
    """Returns the socket to the program, in whose place there is an empty standard input."""
    # The program ends this one; a terminal does not.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sock = socket.socket(fileno=os.dup(0))
    with open(os.devnull, 'rb') as empty:
        os.dup2(empty.fileno(), 0)
    return sock


def _terms_of(cluster: Keeper, about: bytes) -> tuple[Put, dict[str, Any]]:
    """Returns the handle of the program's executable, and what agents are told of the program,
    which has sent `about`.
    """
    build, path, folder, *argv = _frames.fields(about)
    # Of the program that runs, whatever has become of its file.
    with open(f'/proc/{os.getppid()}/exe', 'rb') as executable:
        handle = _put.put_parts(cluster, [executable.read()])
    return handle, {
        'version': __version__,
        'program': True,
        'surroundings': None,
        'build': build,
        'path': os.fsdecode(path),
        'folder': os.fsdecode(folder),
        'argv': list(map(os.fsdecode, argv)),
        'key': handle._key,
    }


if __name__ == '__main__':
    main()
