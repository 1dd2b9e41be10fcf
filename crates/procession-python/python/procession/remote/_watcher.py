"""The watcher: one thread for all carriers. It has the child killed whose proxy is gone, also while
its carrier waits for an agent, and passes on the signals that the proxies of processes tell. Used
in the driver.
"""

from __future__ import annotations

import select
import signal
import threading

from ._cluster import AgentLost, DriverAgent
from ._messages import SIGNAL, Channel

__all__ = ['watcher']

_GONE = select.POLLRDHUP | select.POLLHUP


class _Entry:
    """A carrier's socket, and the child of its proxy."""

    def __init__(self, channel: Channel, agent: DriverAgent, number: int) -> None:
        self.channel, self.agent, self.number = channel, agent, number
        self.is_heard = False

    def state(self) -> int:
        """Returns what its socket is ready for now."""
        poll = select.poll()
        poll.register(self.channel, select.POLLIN | select.POLLRDHUP)
        return sum(events for _, events in poll.poll(0))

    def signals(self) -> list[int]:
        """Returns the signals that the proxy has told since."""
        found = []
        while (message := self.channel.receive()) is not None:
            kind, body = message
            if kind == SIGNAL:
                found.append(body[0])
            if not self.channel.has_received():
                break
        return found


class _Watcher:
    """See the module. The thread begins with the first carrier."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, _Entry] = {}
        self._epoll: select.epoll | None = None

    def watch(self, channel: Channel, agent: DriverAgent, number: int) -> None:
        """Watches the socket of a carrier."""
        with self._lock:
            if self._epoll is None:
                self._epoll = select.epoll()
                threading.Thread(target=self._run, args=(self._epoll,), name='procession-watcher', daemon=True).start()
            self._watched[channel.fileno()] = _Entry(channel, agent, number)
            self._epoll.register(channel, select.EPOLLRDHUP)

    def hear(self, channel: Channel) -> None:
        """Reads from now on what the proxy says."""
        with self._lock:
            entry = self._watched.get(channel.fileno())
            if self._epoll is not None and entry is not None:
                entry.is_heard = True
                self._epoll.modify(channel, select.EPOLLRDHUP | select.EPOLLIN)

    def let_go(self, channel: Channel) -> None:
        """Closes the socket of a carrier that ends."""
        with self._lock:
            entry = self._forget(channel.fileno())
        channel.close()
        if entry is not None:
            _end(entry)

    def _forget(self, fd: int) -> _Entry | None:
        entry = self._watched.pop(fd, None)
        if entry is not None and self._epoll is not None:
            self._epoll.unregister(fd)
        return entry

    def _run(self, epoll: select.epoll) -> None:
        while True:
            for fd, _ in epoll.poll():
                with self._lock:
                    # Since the call has returned, the number may have become another carrier's:
                    # what counts is its socket's state now.
                    entry = self._watched.get(fd)
                    state = 0 if entry is None else entry.state()
                    if state & _GONE:
                        self._forget(fd)
                    # Nobody else reads it.
                    signals = entry.signals() if entry and entry.is_heard and state & select.POLLIN else []
                if entry is None:
                    continue
                for signum in signals:
                    _tell(entry.agent, entry.number, signum)
                if state & _GONE:
                    _end(entry)


def _end(entry: _Entry) -> None:
    _tell(entry.agent, entry.number, signal.SIGKILL)


def _tell(agent: DriverAgent, number: int, signum: int) -> None:
    try:
        agent.signal_child(number, signum)
    except AgentLost:
        # The child is gone with it.
        return


watcher = _Watcher()
