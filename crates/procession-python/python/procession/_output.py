"""The surroundings of a process or a pool's workers, by the keywords `output`, `logs` and
`process_group`. They are checked and made in the parent, by the thread that starts, and put in
place in the child, in its only thread, before any code of the program runs there.

The engine has the pipes, and the parent's thread that reads them. A function of the program's is
called in that thread.
"""

from __future__ import annotations

import os
import sys
import weakref

from . import _engine, util

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# The outputs that have a name. The first is what there is without the keyword.
_NAMES = ('inherit', 'null', 'prefix')
# The finalizer of the standard library's exit function that comes after the children are joined.
_LAST = -100

# The process that has the finalizer.
_pid_at_exit: int | None = None


class Surroundings:
    """The surroundings of a process, or of each worker of a pool. The copy in a child is `None`.

    :raises ValueError: there is no such output or level.
    :raises TypeError: a value is of another kind.
    """

    def __init__(self, output: Any, logs: Any, process_group: Any) -> None:
        self._function = None
        if callable(output):
            self._function = _Function(output)
        elif output not in (None, *_NAMES):
            names = ', '.join(map(repr, _NAMES))
            error = ValueError if isinstance(output, str) else TypeError
            raise error(f'output is {names} or a function that gets each line, not {output!r}')
        self._name = None if output == 'inherit' else output
        if not isinstance(process_group, bool):
            raise TypeError(f'process_group must be true or false, not {process_group!r}')
        self._process_group = process_group
        self._logs = None
        if logs is not None and logs is not False:
            from ._logs import wanted

            self._logs = wanted(logs)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()

    @property
    def name(self) -> str | None:
        """The output's name: 'null' or 'prefix'; `None` for a function, and if it is inherited."""
        return self._name

    def for_pool(self) -> _engine.Surroundings:
        """Returns it for the engine's pool. This object holds the program's function, and must live
        as long as the pool: the engine is none of the objects that Python's collector sees.
        """
        return self._made(None if self._function is None else weakref.ref(self._function))

    def make(self) -> _engine.Setting:
        """Returns the setting of a process that is about to start."""
        function = self._function
        return self._made(lambda: function).make_setting()

    def _made(self, reference: Callable[[], _Function | None] | None) -> _engine.Surroundings:
        _finish_at_exit()
        output = self._name if self._function is None else _Held(reference)
        return _engine.Surroundings(output, self._logs, self._process_group)


class OfWorker:
    """As `Surroundings`, of one worker, whose setting the pool has made."""

    def __init__(self, setting: Any) -> None:
        self._setting = setting

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()

    def make(self) -> Any:
        """Returns the setting: the engine's, or what stands in its place."""
        return self._setting


class _Function:
    """A function of the program's."""

    __slots__ = ('__weakref__', 'function')

    def __init__(self, function: Callable[[_engine.Line], object]) -> None:
        self.function = function


class _Held:
    """Returns the function while its owner lives. The engine calls it."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference

    def __call__(self) -> Any:
        held = self._reference()
        return None if held is None else held.function


def surround(process: Any, setting: Any) -> None:
    """Has a worker that is about to start have what its pool has made for it.

    :raises ValueError: the process is another library's.
    """
    if not hasattr(process, '_surroundings'):
        raise ValueError(
            f"output, logs and process_group need processes of procession's, and the pool's context starts a {type(process)}"
        )
    process._surroundings = OfWorker(setting)


def enter_forked(setting: _engine.Setting, link: _engine.Link) -> None:
    """In a forked child: puts its setting in place. `link` is the child's end."""
    has_streams = setting.has_streams
    setting.enter(link)
    if has_streams:
        _settle_streams()


def enter_executed(words: tuple[bool, bool, bytes | None], fds: list[int], link: _engine.Link) -> list[int]:
    """In another child: puts its setting in place, by its words and the last of the file
    descriptors, and closes these; returns the others.
    """
    _, has_streams, logs = words
    first = len(fds) - 2 * has_streams - (logs is not None)
    _engine.enter_setting(link, words, fds[first:])
    for fd in fds[first:]:
        os.close(fd)
    if has_streams:
        _settle_streams()
    return fds[:first]


def _settle_streams() -> None:
    """Has `sys.stdout` and `sys.stderr` write each line at once to this process's own standard
    streams. A forked child's may be those of a notebook or a test runner.
    """
    for number, name in ((1, 'stdout'), (2, 'stderr')):
        stream = getattr(sys, name)
        try:
            is_own = stream.fileno() == number
            if is_own:
                stream.reconfigure(line_buffering=True)
                continue
        except (AttributeError, OSError, ValueError):
            # It is no file, or closed.
            is_own = False
        original = getattr(sys, f'__{name}__')
        encoding, errors = getattr(original, 'encoding', None), getattr(original, 'errors', None)
        opened = open(number, 'w', 1, encoding or 'utf-8', errors or 'backslashreplace', closefd=False)  # noqa: SIM115
        setattr(sys, name, opened)


def _finish_at_exit() -> None:
    """Has the program's exit deliver what children have printed and logged, after the exit function
    of the standard library has joined them.
    """
    global _pid_at_exit
    if _pid_at_exit != os.getpid():
        _pid_at_exit = os.getpid()
        util.Finalize(None, _engine.end_output_calls, exitpriority=_LAST)
