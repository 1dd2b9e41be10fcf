"""Maps that go on where they were after a crash: results are kept in a file of SQLite as they come.
Used in the parent, by the thread that maps; `_Kept` is called in the workers.

```text
meta    key, value          what the file is of: format, function, its code, items, their digest
kept    item, digest, value an item's index, the digest of its pickle, the pickled result
```

Rows are written in transactions of their own, never around a wait: a process that is killed leaves
whole rows, and a worker that is forked meanwhile has no part in one. SQLite's lock on the file
keeps a second process out.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import sqlite3
import sys
import time
from types import ModuleType

from . import _spawning
from ._wrapped import Wrapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType
    from typing import Any

# "proc" in ASCII: marks our files among SQLite's.
_APPLICATION = 0x70726F63
_FORMAT = '2'
# Seconds, and rows, after which results are written.
_MAX_AGE = 0.1
_MAX_ROWS = 1000
# Methods by which a class pickles in a way of its own.
_HOOKS = ('__reduce__', '__reduce_ex__', '__getstate__', '__getnewargs__', '__getnewargs_ex__')


def run(
    pool: Any,
    func: Callable[..., Any],
    given: Callable[..., Any],
    items: Sequence[Any],
    call: str,
    path: str,
    terms: tuple[float | None, int],
    return_exceptions: bool,
    fail_fast: bool,
    progress: bool | str,
) -> list[Any]:
    """Returns the list of the results of `func` over `items`: what `path` has, and what is run now.

    `given` is the user's function, which `func` calls; `call` is 'map' or 'starmap'.
    """
    digests = [_digest(item, index) for index, item in enumerate(items)]
    store = _Store(path, given, digests)
    try:
        kept = store.indices
        missing = [index for index in range(len(items)) if index not in kept]
        errors: dict[int, BaseException] = {}
        if missing:
            errors = _run_missing(pool, _Kept(func, call), items, missing, store, terms, fail_fast, progress)
        if errors and not return_exceptions:
            raise errors[min(errors)]
        values = store.values()
    finally:
        store.close()
    return [errors[index] if index in errors else pickle.loads(values[index]) for index in range(len(items))]


def _run_missing(
    pool: Any,
    func: _Kept,
    items: Sequence[Any],
    missing: list[int],
    store: _Store,
    terms: tuple[float | None, int],
    fail_fast: bool,
    progress: bool | str,
) -> dict[int, BaseException]:
    """Runs what is missing and keeps the results. Returns the exceptions, by item."""
    timeout, retries = terms
    numbered = func.call, missing
    feed = pool._engine.imap(
        pool, func, (items[index] for index in missing), 1, False, None, timeout, retries, gives=numbered, expected=len(missing)
    )
    bar = None
    if progress:
        from . import _progress

        before = len(items) - len(missing)
        bar = _progress.shown(progress, lambda: before + feed._taken(), len(items))
    errors: dict[int, BaseException] = {}
    try:
        for index, outcome in feed:
            if isinstance(outcome, BaseException):
                errors[index] = outcome
                if fail_fast:
                    break
            else:
                store.add(index, outcome)
    finally:
        # Also what came before a Ctrl-C.
        store.write()
        feed._abandon()
        if bar is not None:
            bar.close()
    return errors


class _Kept(Wrapped):
    """Calls the function of one item and returns the pickled result."""

    def __init__(self, func: Callable[..., Any], call: str) -> None:
        super().__init__(func)
        self.call = call

    def __call__(self, item: Any) -> bytes:
        value = self.func(*item) if self.call == 'starmap' else self.func(item)
        return bytes(_spawning.reducer.ForkingPickler.dumps(value))


class _Store:
    """The file of one map."""

    def __init__(self, path: str, function: Callable[..., Any], digests: list[bytes]) -> None:
        self._path, self._digests = path, digests
        self._rows: list[tuple[int, bytes, bytes]] = []
        self._written = time.monotonic()
        try:
            # SQLite takes some names for no file at all.
            self._base = sqlite3.connect(os.path.abspath(path), timeout=0, isolation_level=None)
        except sqlite3.OperationalError as error:
            raise ValueError(
                f'the checkpoint {path!r} cannot be opened ({error}): give the path of a file in a folder that exists'
            ) from error
        try:
            self._open(function)
        except sqlite3.Error as error:
            self._base.close()
            if 'locked' in str(error):
                raise ValueError(f'the checkpoint {path!r} is in use by another map: give each map a file of its own') from error
            raise ValueError(f'{path!r} is no checkpoint ({error}): give another path') from error
        except BaseException:
            self._base.close()
            raise

    def _open(self, function: Callable[..., Any]) -> None:
        run = self._base.execute
        run('PRAGMA locking_mode = EXCLUSIVE')
        # Results that are lost with the power are computed again.
        run('PRAGMA synchronous = NORMAL')
        run('BEGIN IMMEDIATE')
        try:
            whole = hashlib.blake2b(b''.join(self._digests), digest_size=16).hexdigest()
            meta = {'format': _FORMAT, **_identity(function), 'items': str(len(self._digests)), 'digest': whole}
            tables = [name for (name,) in run('SELECT name FROM sqlite_master')]
            if not tables:
                run(f'PRAGMA application_id = {_APPLICATION}')
                run('CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT)')
                run('CREATE TABLE kept (item INTEGER PRIMARY KEY, digest BLOB, value BLOB)')
                self._base.executemany('INSERT INTO meta VALUES (?, ?)', meta.items())
            elif run('PRAGMA application_id').fetchone() != (_APPLICATION,):
                raise ValueError(f'{self._path!r} is a database of something else, and no checkpoint: give another path')
            else:
                self._compare(dict(run('SELECT key, value FROM meta')), meta)
            run('COMMIT')
        except BaseException:
            run('ROLLBACK')
            raise
        self.indices = {index for (index,) in run('SELECT item FROM kept')}

    def _compare(self, before: dict[str, str], now: dict[str, str]) -> None:
        advice = 'Nothing was changed: call it as before, give another path, or delete the file'
        if before['format'] != now['format']:
            raise ValueError(f'the checkpoint {self._path!r} is of another version of procession. {advice}')
        if before['function'] != now['function']:
            was = f'{before["function"]}, not of {now["function"]}'
            raise ValueError(f'the checkpoint {self._path!r} is of another function: {was}. {advice}')
        # Another Python compiles the same source otherwise.
        if before['python'] == now['python'] and before['code'] != now['code']:
            raise ValueError(f'the function {now["function"]} has changed since the checkpoint {self._path!r} was made. {advice}')
        if before['items'] != now['items']:
            was = f'it had {before["items"]} items and has {now["items"]}'
            raise ValueError(f'the input of {now["function"]} is not that of the checkpoint {self._path!r}: {was}. {advice}')
        if before['digest'] != now['digest']:
            known = self._base.execute('SELECT item, digest FROM kept ORDER BY item')
            first = next((f'item {index} differs' for index, digest in known if digest != self._digests[index]), None)
            was = first or 'an item differs whose result is not kept yet'
            raise ValueError(f'the input of {now["function"]} is not that of the checkpoint {self._path!r}: {was}. {advice}')

    def add(self, index: int, value: bytes) -> None:
        """Keeps a result; it is written soon."""
        self._rows.append((index, self._digests[index], value))
        if len(self._rows) >= _MAX_ROWS or time.monotonic() - self._written >= _MAX_AGE:
            self.write()

    def write(self) -> None:
        """Writes the results that are not written yet."""
        rows, self._rows = self._rows, []
        if rows:
            self._base.execute('BEGIN')
            self._base.executemany('INSERT OR IGNORE INTO kept VALUES (?, ?, ?)', rows)
            self._base.execute('COMMIT')
        self._written = time.monotonic()

    def values(self) -> dict[int, bytes]:
        """Returns the pickled results by item."""
        return dict(self._base.execute('SELECT item, value FROM kept'))

    def close(self) -> None:
        self._base.close()


def _identity(function: Any) -> dict[str, str]:
    """Returns what says whether a function is the same as before."""
    name = hashlib.blake2b(digest_size=16)
    while True:
        inner = getattr(function, 'func', None)
        if inner is None or hasattr(function, '__code__'):
            break
        # A partial: its arguments count.
        name.update(_digest((getattr(function, 'args', ()), getattr(function, 'keywords', {})), None))
        function = inner
    named = function if hasattr(function, '__qualname__') else type(function)
    _add_function(name, function, set())
    version = f'{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}'
    path = '.'.join(filter(None, (named.__module__, named.__qualname__)))
    return {'function': path, 'code': name.hexdigest(), 'python': version}


def _add_function(digest: hashlib.blake2b, function: Any, known: set[int]) -> None:
    """Adds the code of a function, and the values that it has beside its arguments: of the object
    whose method it is, its defaults, what it closes over.
    """
    if id(function) in known:
        # It calls itself.
        return
    known.add(id(function))
    owner = getattr(function, '__self__', None)
    plain = getattr(function, '__func__', function)
    code = getattr(plain, '__code__', None)
    if code is None and not hasattr(function, '__qualname__'):
        # An object that is called.
        owner, plain = function, type(function).__call__
        code = getattr(plain, '__code__', None)
    if owner is not None and not isinstance(owner, ModuleType):
        _add_held(digest, owner, known)
    if code is None:
        return
    _add_code(digest, code)
    _add_held(digest, (plain.__defaults__, plain.__kwdefaults__), known)
    for cell in plain.__closure__ or ():
        try:
            _add_held(digest, cell.cell_contents, known)
        except ValueError:
            # It has no value yet.
            digest.update(b'-')


def _add_held(digest: hashlib.blake2b, value: Any, known: set[int]) -> None:
    """Adds a value that a function holds. Of one that does not pickle only the class is compared:
    another way of sending it may be there.
    """
    if hasattr(value, '__code__'):
        _add_function(digest, value, known)
        return
    try:
        held = _digest(value, None)
    except ValueError:
        held = f'{type(value).__module__}.{type(value).__qualname__}'.encode()
    digest.update(held)


def _add_code(digest: hashlib.blake2b, code: CodeType) -> None:
    digest.update(code.co_code)
    digest.update(repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)).encode())
    for constant in code.co_consts:
        if hasattr(constant, 'co_code'):
            _add_code(digest, constant)
        else:
            digest.update(_digest(constant, None))


def _digest(value: Any, index: int | None) -> bytes:
    """Returns the digest of a value's pickle. It does not depend on which equal parts of the value
    are one object, nor on the order of sets, also of those in attributes.
    """
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, 5)
    pickler.fast = True
    try:
        try:
            pickler.dump(_in_order(value))
        except (ValueError, RecursionError):
            # It refers to itself.
            buffer = io.BytesIO()
            pickle.Pickler(buffer, 5).dump(value)
    except Exception as error:
        what = 'the function' if index is None else f'item {index}'
        raise ValueError(
            f'a checkpoint knows items and functions by their pickles, and {what} does not pickle: {type(error).__name__}: {error}'
        ) from error
    return hashlib.blake2b(buffer.getbuffer(), digest_size=16).digest()


def _in_order(value: Any) -> Any:
    kind = type(value)
    if kind in (set, frozenset):
        return kind.__name__, sorted(_digest(member, None) for member in value)
    if kind in (list, tuple):
        return kind(map(_in_order, value))
    if kind is dict:
        return {key: _in_order(member) for key, member in value.items()}
    if _is_plain(kind) and hasattr(value, '__dict__'):
        return kind.__module__, kind.__qualname__, _in_order(vars(value))
    return value


def _is_plain(kind: type) -> bool:
    """Returns whether objects of this class pickle as their attributes and nothing else. Classes of
    C, which name no module, may hold more.
    """
    return not any(getattr(kind, hook, None) is not getattr(object, hook, None) for hook in _HOOKS) and not any(
        '__slots__' in vars(base) or '__module__' not in vars(base) for base in kind.__mro__[:-1]
    )
