"""Exceptions and values on their way out of a worker. Used in workers, when a task has raised, and
where its result is asked for.

An exception crosses with its traceback as text, as its cause's end: `raise E from cause` arrives as
that exception with that cause, and `RemoteTraceback` behind the last of them. What does not pickle,
or would not unpickle, arrives as the nearest thing that does, with the original's type, message and
traceback in its text.
"""

from __future__ import annotations

import _pickle as pickle
import atexit
import os
import reprlib
import sys
import threading
import traceback

from . import _tracebacks, util
from ._standard import standard
from ._wrapped import name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, NoReturn

    from ._by_value import ByValue

    # Typeshed declares neither.
    class RemoteTraceback(Exception):
        tb: str

        def __init__(self, tb: str) -> None: ...

    class MaybeEncodingError(Exception):
        exc: str
        value: str

        def __init__(self, exc: object, value: object) -> None: ...
else:
    _pool = standard('pool')
    RemoteTraceback = _pool.RemoteTraceback
    MaybeEncodingError = _pool.MaybeEncodingError

_MAX_CAUSES = 32
# The longest text of an exception, and the longest repr of a value, that crosses where the thing
# itself cannot.
_MAX_TEXT = 2048


class RemoteError(MaybeEncodingError):
    """Stands in for an exception of a task that could not be sent, or that the caller cannot
    import.

    `type_name` is the exception's type, `text` its message, `reason` why it is not here itself.
    """

    def __init__(self, type_name: str, text: str, reason: str) -> None:
        super().__init__(reason, text)
        self.args = (type_name, text, reason)
        self.type_name, self.text, self.reason = type_name, text, reason

    def __str__(self) -> str:
        return f'{self.type_name}: {self.text} (the exception itself could not be brought here: {self.reason})'


def pack(exception: BaseException, trace: TracebackType | None) -> bytes:
    """Bytes from which `unpack` makes the exception again; for workers."""
    trace = _tracebacks.without_package(trace)
    text = ''.join(traceback.format_exception(type(exception), exception, trace))
    chain: list[Any] = []
    seen: set[int] = set()
    link: BaseException | None = exception
    while link is not None and len(chain) < _MAX_CAUSES and id(link) not in seen:
        seen.add(id(link))
        is_cause = link.__cause__ is not None
        chain.append((_pack_one(link, seen), link.__suppress_context__, is_cause))
        # Behind `raise E from None` nothing is to be seen.
        link = link.__cause__ if is_cause else None if link.__suppress_context__ else link.__context__
    return pickle.dumps((chain, f'\n"""\n{text}"""'), 5)


def unpack(data: bytes) -> BaseException:
    """The exception that `pack` was given; for whoever asks for the result."""
    chain, text = pickle.loads(data)
    exceptions: list[BaseException] = [_unpack_one(packed) for packed, _, _ in chain]
    for index, (_, suppress, is_cause) in enumerate(chain):
        exception = exceptions[index]
        if index + 1 < len(exceptions):
            if is_cause:
                exception.__cause__ = exceptions[index + 1]
            else:
                exception.__context__ = exceptions[index + 1]
        exception.__suppress_context__ = suppress
    last = exceptions[-1]
    last.__cause__ = RemoteTraceback(text)
    return exceptions[0]


def pack_task(exception: BaseException, trace: TracebackType | None, call: tuple[int, Any, int] | None) -> bytes:
    """As `pack`, for `unpack_task`, with the call that raised it: of the item its kind, the
    function and its arguments if it was called, and the position in the item.
    """
    position, shown = 0, None
    if call is not None:
        kind, called, position = call
        if called is not None and called[0] is not raise_packed and not hasattr(called[0], '_names_its_calls'):
            function, value = called
            shown = shown_call(kind, function, value, position)
    return pickle.dumps((pack(exception, trace), position, shown), 5)


def unpack_task(data: bytes, call: str, first: int) -> BaseException:
    """The exception that `pack_task` was given, with its place in the user's call: that of the
    method `call`, whose item `first` the task's first was.
    """
    packed, position, shown = pickle.loads(data)
    exception = unpack(packed)
    locate(exception, call, first + position, shown)
    return exception


def locate(exception: BaseException, call: str, index: int, shown: str | None = None) -> None:
    """Says in a note, and by the attribute `index`, which item of the user's call an exception is
    of. An exception that has an `index` of its own keeps it.
    """
    where = () if call == 'apply' else (f'item {index} of {call}',)
    ran = () if shown is None else (f'{_WHILE}{shown}',)
    is_ours = any(note.startswith(_WHILE) for note in getattr(exception, '__notes__', ()))
    if is_ours or not hasattr(exception, 'index'):
        try:
            exception.index = index  # type: ignore[attr-defined]
        except (AttributeError, TypeError):
            # Its class has no room for it; the note says it.
            pass
    if ran or where:
        exception.add_note(', '.join([*ran, *where]))


def name_call(exception: BaseException, function: Any, args: Any) -> None:
    """Says in a note which call an exception is of, for a function that runs the calls of others
    and has the attribute `_names_its_calls`.
    """
    exception.add_note(f'{_WHILE}{shown_call(0, function, args, 0)}')


def raise_packed(data: bytes) -> NoReturn:
    """In a worker: raises what `pack` was given, in the place of a call whose arguments do not
    pickle.
    """
    raise unpack(data)


# The beginning of a note on an exception of a task.
_WHILE = 'while it ran '
# The longest text of a call's arguments.
_MAX_ARGUMENTS = 200

_repr = reprlib.Repr()
_repr.maxlevel = 4
_repr.maxlist = _repr.maxtuple = _repr.maxset = _repr.maxfrozenset = _repr.maxdict = _repr.maxdeque = _repr.maxarray = 64
_repr.maxstring = _repr.maxlong = _repr.maxother = _MAX_ARGUMENTS


def shown_call(kind: int, function: Any, value: Any, position: int) -> str:
    """Returns the text of a call of an item: the function's name and its arguments, shortened."""
    # As the engine numbers them.
    if kind == 0:
        args, named = value, {}
    elif kind == 1:
        args, named = value
    elif kind == 2:
        args, named = (value[position],), {}
    else:
        args, named = value[position], {}
    if isinstance(args, (tuple, list)):
        shown = [*map(_repr.repr, args), *(f'{name}={_repr.repr(arg)}' for name, arg in named.items())]
    else:
        shown = [f'*{_repr.repr(args)}']
    text = ', '.join(shown)
    if len(text) > _MAX_ARGUMENTS:
        text = f'{text[: _MAX_ARGUMENTS - 3]}...'
    return f'{name_of(function)}({text})'


def by_value(value: object, error: BaseException) -> ByValue | None:
    """Returns a stand-in for a result that plain pickle refuses, or `None`.

    By value go functions and classes of the main module, which the worker may have by value itself;
    all else stays refused.
    """
    from . import _by_value

    if '__main__' not in str(error) or _by_value.cloudpickle() is None:
        return None
    try:
        return _by_value.ByValue(_by_value.dumps(value, _by_value.is_in_main))
    except Exception:
        # The first reason is the one to tell.
        return None


def encoding_error(error: BaseException, value: object) -> MaybeEncodingError:
    """Returns the error that stands in for a result that does not pickle."""
    wrapped = MaybeEncodingError(error, _Shown(_shortened(repr, value)))
    wrapped.__cause__ = error
    return wrapped


class _Shown:
    """A text as what a repr shows."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _shortened(show: Callable[[Any], str], value: object) -> str:
    try:
        text = show(value)
    except Exception as error:
        return f'<{type(value).__name__} object, which cannot be shown: {type(error).__name__}>'
    return text if len(text) <= _MAX_TEXT else f'{text[: _MAX_TEXT - 24]}... ({len(text)} characters)'


# An exception crosses as the name of its type, its text, and the first of these that comes back as
# it was:
_PICKLED = 'pickled'
# its class, its arguments and its attributes, without its `__init__`;
_BARE = 'bare'
# a group: its class, its message, its members, each packed, and its attributes;
_GROUP = 'group'
# nothing: then there is a reason.
_TEXT = 'text'


def _pack_one(exception: BaseException, seen: set[int]) -> tuple[Any, ...]:
    kind = type(exception)
    name = f'{kind.__module__}.{kind.__qualname__}'
    return name, _shortened(str, exception), *_packed(exception, seen)


def _packed(exception: BaseException, seen: set[int]) -> tuple[str, Any]:
    kind = type(exception)
    try:
        pickled = pickle.dumps(exception, 5)
        if type(pickle.loads(pickled)) is kind:
            return _PICKLED, pickled
        reason = 'its __reduce__ makes something else'
    except Exception as error:
        reason = f'{type(error).__name__}: {_shortened(str, error)}'
    # Its class makes trouble, or what is in it.
    state = {name: value for name, value in vars(exception).items() if _survives(value)}
    if isinstance(exception, BaseExceptionGroup) and id(exception) not in seen - {id(exception)}:
        members = [_pack_one(member, seen | {id(exception)}) for member in exception.exceptions]
        if _survives(kind):
            return _GROUP, (pickle.dumps((kind, state), 5), str(exception.message), members)
    args = tuple(arg if _survives(arg) else _shortened(repr, arg) for arg in exception.args)
    if _survives((kind, args, state)):
        bare = pickle.dumps((kind, args, state), 5)
        try:
            _bare(bare)
            return _BARE, bare
        except Exception as error:
            reason = f'{type(error).__name__}: {_shortened(str, error)}'
    return _TEXT, reason


def _survives(value: object) -> bool:
    try:
        pickle.loads(pickle.dumps(value, 5))
    except Exception:
        return False
    return True


def _bare(pickled: bytes) -> BaseException:
    kind, args, state = pickle.loads(pickled)
    exception: BaseException = kind.__new__(kind, *args)
    exception.args = args
    vars(exception).update(state)
    return exception


def _group(pickled: bytes, message: str, members: list[Any]) -> BaseException:
    kind, state = pickle.loads(pickled)
    members = [_unpack_one(member) for member in members]
    # A member that was lost is an `Exception`, as the base of the class may want.
    exception: BaseException = kind.__new__(kind, message, members)
    vars(exception).update(state)
    return exception


def _unpack_one(packed: tuple[Any, ...]) -> BaseException:
    name, text, how, content = packed
    if how == _TEXT:
        return RemoteError(name, text, content)
    try:
        if how == _PICKLED:
            exception: BaseException = pickle.loads(content)
            return exception
        return _bare(content) if how == _BARE else _group(*content)
    except Exception as error:
        # A module that a worker could import need not be there for its caller.
        return RemoteError(name, text, f'{type(error).__name__}: {_shortened(str, error)}')


def leave_copy(error: BaseException | None) -> NoReturn:
    """Ends a process that a task or an initializer has forked, and that has left it by `error`, or
    has returned (`None`). The worker's callbacks and finalizers are not its own.
    """
    code: object = 0
    try:
        if isinstance(error, SystemExit):
            code = error.code or 0
            if not isinstance(code, int):
                sys.stderr.write(f'{code}\n')
                code = 1
        elif error is not None:
            code = 1
            sys.excepthook(type(error), error, error.__traceback__)
        util._flush_std_streams()
    finally:
        os._exit(code & 0xFF if isinstance(code, int) else 1)


def leave(exit: SystemExit) -> NoReturn:
    """Ends a worker as `sys.exit()` asks, with exit callbacks and finalizers; does not return."""
    code = exit.code
    if code is None:
        code = 0
    elif not isinstance(code, int):
        sys.stderr.write(f'{code}\n')
        code = 1
    try:
        # As the interpreter calls it.
        threading._shutdown()  # type: ignore[attr-defined]
        # The finalizers are among these.
        atexit._run_exitfuncs()
        util._exit_function()
        util._flush_std_streams()
    finally:
        os._exit(code & 0xFF)
