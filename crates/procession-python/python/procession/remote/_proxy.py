"""The work of a proxy, a small local process that stands for a child on another machine. Runs in
proxies, in their main thread.

A pool's worker that is a proxy takes tasks from the pool and has its carrier bring each to the
child (`pool/carrier.rs` does it). It ends as the child ends: with its exit code, or by its signal.
If it is killed, its carrier has the child killed. So whatever the local pool, or the process object
of the program, does with the proxy happens to the child.
"""

from __future__ import annotations

import os
import resource
import signal
from typing import Any, NoReturn

from .. import _engine, _remote, process
from .._workers import _Fd, use_carrier
from ._messages import BEGIN, BEGUN, ENDED, LEAVE, SIGNAL, Channel

#: The name of the memfd in which a proxy says where its child is: the pid there, and the machine.
PLACE_NAME = 'procession-place'

_channel: Channel | None = None


def enter(fd: _Fd, bulk: _Fd) -> None:
    """In a pool's worker, before its first task: has the child begin. Raises what the child's
    initializer raises.
    """
    _begin(fd, bulk)
    # From here on by the engine.
    use_carrier(fd.fd, bulk.fd)


def leave() -> None:
    """In a pool's worker that leaves in order: waits until the child has left."""
    assert _channel is not None
    _channel.send(LEAVE)
    message = _channel.receive()
    if message is None or message[0] != ENDED:
        end(None)
    elif (code := _parsed(message[1])[0]) != 0:
        _end_as(code)


def mirror(fd: _Fd, bulk: _Fd) -> None:
    """In the proxy of a `Process`: waits until the child has ended, and passes SIGTERM and SIGINT
    on to it.
    """
    signals = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    channel = _begin(fd, bulk)
    for number in signals:
        signal.signal(number, _pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    message = channel.receive()
    if message is None:
        _end_as(-signal.SIGKILL)
    code, outcome = _parsed(message[1])
    if outcome is not None and process._link is not None:
        process._link.report(*outcome)
    _end_as(code)


def end(message: bytes | None) -> NoReturn:
    """Ends this proxy as the child has ended, which the message tells; without one nobody carries
    any more.
    """
    _end_as(-signal.SIGKILL if message is None else _parsed(message)[0])


def _begin(fd: _Fd, bulk: _Fd) -> Channel:
    global _channel
    # A Ctrl-C is for the program.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # It may have to end by a signal that dumps a core.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    _channel = channel = Channel.of_fds(fd.fd, bulk.fd)
    channel.send(BEGIN)
    message = channel.receive()
    if message is None:
        _end_as(-signal.SIGKILL)
    kind, body = message
    if kind == ENDED:
        end(body)
    if kind != BEGUN:
        raise _remote.unpack(body)
    # For `procession top`: a memfd of this process lives as long as it does.
    os.pwrite(_engine.create_memfd(PLACE_NAME), body, 0)
    return channel


def _pass_on(number: int, frame: object) -> None:
    assert _channel is not None
    _channel.send(SIGNAL, bytes([number]))


def _parsed(body: bytes) -> Any:
    # Few proxies need it.
    import pickle

    return pickle.loads(body)


def _end_as(code: int | None) -> NoReturn:
    """Ends this process with an exit code, or by the signal that a negative one says."""
    if code is not None and code < 0:
        number = -code
        try:
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
            os.kill(os.getpid(), number)
        finally:
            os._exit(128 + number)
    os._exit(1 if code is None else code)
