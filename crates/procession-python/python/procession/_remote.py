"""Exceptions and values on their way out of a worker. Used in workers, when a task has raised, and
where its result is asked for.

An exception crosses with its traceback as text, as its cause's end: `raise E from cause` arrives as
that exception with that cause, and `RemoteTraceback` behind the last of them. What does not pickle,
or would not unpickle, arrives as the nearest thing that does, with the original's type, message and
traceback in its text.
"""

import atexit
import os
import _pickle as pickle
import sys
import threading
import traceback

from . import util
from ._standard import standard

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

    def __init__(self, type_name, text, reason):
        super().__init__(reason, text)
        self.args = (type_name, text, reason)
        self.type_name, self.text, self.reason = type_name, text, reason

    def __str__(self):
        return f'{self.type_name}: {self.text} (the exception itself could not be brought here: {self.reason})'


def pack(exception, trace):
    """Bytes from which `unpack` makes the exception again; for workers."""
    text = ''.join(traceback.format_exception(type(exception), exception, trace))
    chain, seen = [], set()
    link = exception
    while link is not None and len(chain) < _MAX_CAUSES and id(link) not in seen:
        seen.add(id(link))
        is_cause = link.__cause__ is not None
        chain.append((_pack_one(link, seen), link.__suppress_context__, is_cause))
        # Behind `raise E from None` nothing is to be seen.
        link = link.__cause__ if is_cause else None if link.__suppress_context__ else link.__context__
    return pickle.dumps((chain, f'\n"""\n{text}"""'), 5)


def unpack(data):
    """The exception that `pack` was given; for whoever asks for the result."""
    chain, text = pickle.loads(data)
    exceptions = [_unpack_one(packed) for packed, _, _ in chain]
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


def by_value(value, error):
    """What stands in for a result that plain pickle refuses, or `None`.

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


def encoding_error(error, value):
    """What stands in for a result that does not pickle."""
    wrapped = MaybeEncodingError(error, _Shown(_shortened(repr, value)))
    wrapped.__cause__ = error
    return wrapped


class _Shown:
    """A text as what a repr shows."""

    def __init__(self, text):
        self._text = text

    def __repr__(self):
        return self._text


def _shortened(show, value):
    try:
        text = show(value)
    except Exception as error:
        return f'<{type(value).__name__} object, which cannot be shown: {type(error).__name__}>'
    return text if len(text) <= _MAX_TEXT else f'{text[:_MAX_TEXT - 24]}... ({len(text)} characters)'


# An exception crosses as the name of its type, its text, and the first of these that comes back as
# it was:
_PICKLED = 'pickled'
# its class, its arguments and its attributes, without its `__init__`;
_BARE = 'bare'
# a group: its class, its message, its members, each packed, and its attributes;
_GROUP = 'group'
# nothing: then there is a reason.
_TEXT = 'text'


def _pack_one(exception, seen):
    kind = type(exception)
    name = f'{kind.__module__}.{kind.__qualname__}'
    return name, _shortened(str, exception), *_packed(exception, seen)


def _packed(exception, seen):
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


def _survives(value):
    try:
        pickle.loads(pickle.dumps(value, 5))
    except Exception:
        return False
    return True


def _bare(pickled):
    kind, args, state = pickle.loads(pickled)
    exception = kind.__new__(kind, *args)
    exception.args = args
    vars(exception).update(state)
    return exception


def _group(pickled, message, members):
    kind, state = pickle.loads(pickled)
    members = [_unpack_one(member) for member in members]
    # A member that was lost is an `Exception`, as the base of the class may want.
    exception = kind.__new__(kind, message, members)
    vars(exception).update(state)
    return exception


def _unpack_one(packed):
    name, text, how, content = packed
    if how == _TEXT:
        return RemoteError(name, text, content)
    try:
        if how == _PICKLED:
            return pickle.loads(content)
        return _bare(content) if how == _BARE else _group(*content)
    except Exception as error:
        # What a worker could import need not be there for its caller.
        return RemoteError(name, text, f'{type(error).__name__}: {_shortened(str, error)}')


def leave(exit):
    """Ends a worker as `sys.exit()` asks, with its exit callbacks and finalizers; does not return.
    """
    code = exit.code
    if code is None:
        code = 0
    elif not isinstance(code, int):
        sys.stderr.write(f'{code}\n')
        code = 1
    try:
        threading._shutdown()
        # The finalizers are among these.
        atexit._run_exitfuncs()
        util._exit_function()
        util._flush_std_streams()
    finally:
        os._exit(code & 0xFF)
