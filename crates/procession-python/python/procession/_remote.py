"""Exceptions and values on their way out of a worker. Used in workers, when a task has raised, and where its result is asked for.

An exception crosses with its traceback as text, as its cause's end: `raise E from cause` arrives as that exception with that
cause, and `RemoteTraceback` behind the last of them. What does not pickle, or would not unpickle, arrives as the nearest thing
that does, with the original's type, message and traceback in its text.
"""

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
_MOST_CAUSES = 32


def pack(exception, trace):
    """Bytes from which `unpack` makes the exception again; for workers."""
    text = ''.join(traceback.format_exception(type(exception), exception, trace))
    chain = []
    link = exception
    while link is not None and len(chain) < _MOST_CAUSES:
        packed = _pack_one(link)
        chain.append((packed, link.__suppress_context__, link.__cause__ is not None))
        link = link.__cause__ if link.__cause__ is not None else link.__context__
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
    """What stands in for a result that plain pickle refuses, or `None`: handles stay refused."""
    from . import _by_value

    if isinstance(error, RuntimeError) or _by_value.cloudpickle() is None:
        return None
    try:
        return _by_value.ByValue(_by_value.dumps(value, _by_value.is_in_main))
    except Exception:
        # The first reason is the one to tell.
        return None


def encoding_error(error, value):
    """What stands in for a result that does not pickle."""
    wrapped = MaybeEncodingError(error, value)
    wrapped.__cause__ = error
    return wrapped


def _pack_one(exception):
    try:
        packed = pickle.dumps(exception, 5)
        pickle.loads(packed)
        return packed
    except Exception:
        pass
    # Its class makes trouble: the class, its arguments and its attributes alone, without its `__init__`.
    state = {name: value for name, value in vars(exception).items() if _survives(value)}
    args = tuple(arg if _survives(arg) else repr(arg) for arg in exception.args)
    bare = (type(exception), args, state)
    if _survives(bare):
        try:
            packed = pickle.dumps(_Bare(*bare), 5)
            _unpack_one(packed)
            return packed
        except Exception:
            pass
    kind = type(exception)
    return pickle.dumps(MaybeEncodingError(f'{kind.__module__}.{kind.__qualname__}', _text_of(exception)), 5)


def _survives(value):
    try:
        pickle.loads(pickle.dumps(value, 5))
    except Exception:
        return False
    return True


def _text_of(exception):
    try:
        return str(exception)
    except Exception:
        return '<its message cannot be made>'


class _Bare:
    """An exception without its `__init__`, which would refuse what `pickle` calls it with."""

    def __init__(self, kind, args, state):
        self.kind = kind
        self.args = args
        self.state = state


def _unpack_one(packed):
    exception = pickle.loads(packed)
    if not isinstance(exception, _Bare):
        return exception
    bare = exception
    exception = bare.kind.__new__(bare.kind, *bare.args)
    exception.args = bare.args
    vars(exception).update(bare.state)
    return exception


def leave(exit):
    """Ends a worker as `sys.exit()` asks, with its finalizers; does not return."""
    code = exit.code
    if code is None:
        code = 0
    elif not isinstance(code, int):
        sys.stderr.write(f'{code}\n')
        code = 1
    try:
        threading._shutdown()
        util._exit_function()
        util._flush_std_streams()
    finally:
        os._exit(code & 0xFF)


def awaiting(result):
    """The iterator by which asyncio awaits the result of a call."""
    import asyncio

    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def take():
        if future.done():
            return
        try:
            future.set_result(result.get(0))
        except BaseException as error:
            future.set_exception(error)

    result._notify(lambda: loop.call_soon_threadsafe(take))
    return future.__await__()
