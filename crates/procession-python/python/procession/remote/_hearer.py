"""Brings home the prints and records of a child elsewhere. Used in the driver.

The pool, or the process object, reads the pipes of each proxy as it reads those of a local child.
Here a thread writes into these pipes what the child there has printed and logged: so lines and
records take the local way, in order, with the proxy's name and slot.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from .. import _errors
from ._cluster import AgentLost
from ._outlet import RECORD, STDERR, STDOUT, Heard

if TYPE_CHECKING:
    from .. import _engine
    from ._cluster import DriverAgent

__all__ = ['Hearer', 'Pipes']

# Seconds between two calls of an agent that is to be replaced.
_RETRY_INTERVAL = 0.1


class Pipes:
    """The setting of a proxy, in the place of the engine's own, with copies of the pipes' writing
    ends. The proxy does not get the pipe of records: they are the child's. `output` is the name of
    what the program has asked for.
    """

    def __init__(self, setting: _engine.Setting, output: str | None) -> None:
        self._setting = setting
        self.leads_group = setting.leads_group
        self.has_streams = setting.has_streams
        _, _, self._logs = setting.words()
        self._is_prefixed = output == 'prefix'
        self._output = None if not self.has_streams else 'null' if output == 'null' else 'lines'
        fds = list(map(os.dup, setting.fds()))
        self._fds: dict[int, int] = {}
        if self._logs is not None:
            self._fds[RECORD] = fds.pop()
        self._fds.update(zip((STDOUT, STDERR), fds))

    def told(self) -> tuple[str | None, bytes | None, bool]:
        """Returns what the child's agent is told: see `Outlet.surroundings`."""
        return self._output, self._logs, self.leads_group

    def brings(self) -> bool:
        """Returns whether anything is to be brought home."""
        return self._output == 'lines' or self._logs is not None

    def write(self, pipe: int, data: bytes, host: str, is_begin: bool) -> None:
        """Writes a piece of what the child has printed or logged on `host`, or its first piece of a
        line; waits while the pipe is full.
        """
        if self._is_prefixed and pipe != RECORD and is_begin:
            data = f'{host}: '.encode() + data
        view = memoryview(data)
        while view:
            view = view[os.write(self._fds[pipe], view) :]

    def close(self) -> None:
        """Closes the copies."""
        fds, self._fds = self._fds, {}
        for fd in fds.values():
            os.close(fd)

    # As of the engine's setting, by the process that starts the proxy:

    def words(self) -> tuple[bool, bool, None]:
        """See `Setting`."""
        return self.leads_group, self.has_streams, None

    def fds(self) -> list[int]:
        """See `Setting`."""
        fds = self._setting.fds()
        return fds if self._logs is None else fds[:-1]

    def follow(self, child: Any) -> None:
        """See `Setting`."""
        self._setting.follow(child)

    def finish(self, timeout: float | None) -> bool:
        """See `Setting`."""
        return self._setting.finish(timeout)


class Hearer(threading.Thread):
    """Brings home what the child `number` of an agent prints and logs; `pid` is its proxy's."""

    def __init__(self, agent: DriverAgent, number: int, pid: int, pipes: Pipes) -> None:
        super().__init__(name=f'procession-hearer-{pid}', daemon=True)
        self._agent, self._number, self._pid, self._pipes = agent, number, pid, pipes
        self._has_begun = threading.Event()
        self._is_stopped = False

    def run(self) -> None:
        """Until the child has ended and all is there, or the agent is gone."""
        begins = dict.fromkeys((STDOUT, STDERR, RECORD), True)
        try:
            while True:
                place, pieces, is_over = self._heard()
                if place is not None:
                    _errors.note_place(self._pid, *place)
                for pipe, data in pieces:
                    self._pipes.write(pipe, data, place[0] if place else '?', begins[pipe])
                    begins[pipe] = data.endswith(b'\n')
                if is_over or (self._is_stopped and not pieces):
                    break
        except BrokenPipeError:
            # Nobody reads any more.
            return
        finally:
            self._pipes.close()

    def note_begin(self) -> None:
        """Notes that the child has begun: an agent that is lost from now on is lost with it."""
        self._has_begun.set()

    def stop(self) -> None:
        """Has it end once nothing more comes."""
        self._is_stopped = True
        self._has_begun.set()

    def _heard(self) -> Heard:
        while True:
            has_begun = self._has_begun.is_set()
            try:
                return self._agent.hear(self._number)
            except AgentLost:
                if has_begun:
                    # The rest is lost with it.
                    return None, [], True
                # The child may begin at another agent.
                self._has_begun.wait(_RETRY_INTERVAL)
