"""Short tracebacks of children that cannot begin: the program's own frames, and what to do in the
last line. Used in a child by its only thread, and in the parent where a pool is found broken.
"""

from __future__ import annotations

import os
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeVar

    _Error = TypeVar('_Error', bound=BaseException)

#: The beginning of the text of what a start raises while a child imports the main module.
UNGUARDED = (
    'An attempt has been made to start a new process before the current process has finished its bootstrapping phase: '
    'the main module starts processes when a child imports it.'
)

_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep
_MAX_FRAMES = 6
_IN_WORKER = 'In a worker'


def cut(error: _Error) -> _Error:
    """Takes the frames of this package, and of what runs the main module, off an exception's
    traceback, and all but the last few of the others. Returns the exception.
    """
    frames, trace = [], error.__traceback__
    while trace is not None:
        if not _is_inner(trace.tb_frame.f_code.co_filename):
            frames.append(trace)
        trace = trace.tb_next
    following = None
    for frame in reversed(frames[-_MAX_FRAMES:]):
        following = types.TracebackType(following, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return error.with_traceback(following) if frames else error


def without_package(trace: types.TracebackType | None) -> types.TracebackType | None:
    """Returns a traceback without the frames of this package; the same if it has no others."""
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    of_others = [frame for frame in frames if not frame.tb_frame.f_code.co_filename.startswith(_FOLDER)]
    following = None
    for frame in reversed(of_others or frames):
        following = types.TracebackType(following, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return following


def show(name: str, error: BaseException) -> None:
    """In a child that is no pool's worker: writes why it could not begin."""
    import traceback

    sys.stderr.write(f'Process {name}:\n')
    traceback.print_exception(cut(error))


def annotate(error: BaseException, where: str) -> None:
    """In a pool's worker: adds to an exception where it was raised, for the parent, which shows it.
    `where` says what the worker was at.
    """
    import traceback

    lines = ''.join(traceback.StackSummary.extract(_walk(cut(error).__traceback__)).format()).rstrip()
    error.add_note(f'{_IN_WORKER}, {where}:\n{lines}')


def shorten_cause(error: BaseException) -> str:
    """In the parent: if a worker has added to `error` where it was raised, leaves out the text that
    says it again. Returns what there is to do about it.
    """
    notes = getattr(error, '__notes__', [])
    if any(note.startswith(_IN_WORKER) for note in notes) and type(error.__cause__).__name__ == 'RemoteTraceback':
        error.__cause__ = None
    text = f'{type(error).__name__}: {error}'
    if UNGUARDED in text:
        return text
    return f'{text}. Remove what raised it, which is shown above, and make another pool'


def _walk(trace: types.TracebackType | None) -> Iterator[tuple[types.FrameType, int]]:
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _is_inner(path: str) -> bool:
    # `<string>` is what `-c` executes for a child.
    return path.startswith((_FOLDER, '<frozen ')) or os.path.basename(path) == 'runpy.py' or path == '<string>'
