"""Shared memory with a name. Used in any process, from any thread.

`ShareableList` and most of `SharedMemory` are the standard library's. Other than there,

* a block belongs to the program that made it: only that program's tracker unlinks what is left,
  once all its processes are gone. Who attaches is a reader, whose end is no event (in the standard
  library the first program to end unlinks the block under all others);
* processes share their parent's tracker under every start method, if this module was imported
  before they were started: what a child makes outlives it. Import it before you start children that
  make blocks for others;
* the tracker knows of a block before it has its name, so that no kill leaves one behind;
* a block gets its name whole: nobody can attach to one that has no size yet;
* attaching that fails never unlinks.

Names are POSIX's: blocks of the standard library and of C programs can be attached to, and ours by
them.

>>> from procession.shared_memory import SharedMemory
>>> block = SharedMemory(create=True, size=8)
>>> block.buf[0] = 42
>>> SharedMemory(block.name).buf[0]
42
>>> block.close()
>>> block.unlink()
"""

from __future__ import annotations

import errno
import mmap
import os

from procession._engine import HeldStreams
from procession._standard import adopt

adopt(__name__)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _posixshmem
    from multiprocessing.shared_memory import ShareableList as ShareableList, SharedMemory as _Adopted
    from typing import Any

    from procession import resource_tracker

    __all__ = ['SharedMemory', 'ShareableList']

    def _make_filename() -> str: ...
else:
    _Adopted = SharedMemory  # noqa: F821 (adopted)

_DIRECTORY = '/dev/shm'


class SharedMemory(_Adopted):
    """A block of shared memory.

    With `create` a new one of `size` bytes, named `name` or by itself; otherwise the one that is
    named `name`. One that is made with ``track=False`` stays until somebody unlinks it, as do all
    whose tracker is killed with everybody else.

    Raises `FileExistsError` and `FileNotFoundError` for the name, `ValueError` for the size,
    `OSError` if the system refuses.
    """

    _track = True
    _flags: int
    _mode: int
    _name: Any
    _mmap: Any
    _buf: Any

    if TYPE_CHECKING:
        # Until `close` it is never `None`, as the standard library's may be by its declaration.
        @property
        def buf(self) -> memoryview: ...

    def __init__(self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True) -> None:
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        if create:
            self._flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
            if size == 0:
                raise ValueError("'size' must be a positive number different from zero")
        if name is None and not self._flags & os.O_EXCL:
            raise ValueError("'name' can only be None if create=True")
        self._track = track
        if name is None:
            self._create_named(size)
        elif create:
            self._create('/' + name, size)
        else:
            self._attach('/' + name)
        self._buf = memoryview(self._mmap)

    def unlink(self) -> None:
        """Takes the block's name away; it is gone with its last user. Once, by one of all who use
        it.
        """
        if self._name:
            _file_of(self._name)
            _posixshmem.shm_unlink(self._name)
            if self._track:
                resource_tracker._resource_tracker.forget(self._name, 'shared_memory')

    def _create_named(self, size: int) -> None:
        while True:
            try:
                # Looked up here, so that it can be replaced.
                return self._create(_make_filename(), size)
            except FileExistsError:
                continue

    def _create(self, name: str, size: int) -> None:
        path = _file_of(name)
        tracker = resource_tracker._resource_tracker
        if self._track:
            # Its start takes a while: not between the two steps below.
            tracker.ensure_running()
        with HeldStreams():
            fd = os.open(_DIRECTORY, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, self._mode)
        try:
            os.ftruncate(fd, size)
            mapping = _map(fd, size)
            # Not told to the tracker if it is another's.
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            if self._track:
                tracker.register(name, 'shared_memory')
            try:
                _link(fd, path)
            except BaseException:
                if self._track:
                    tracker.unregister(name, 'shared_memory')
                raise
        except BaseException:
            os.close(fd)
            raise
        self._fd, self._mmap, self._size, self._name = fd, mapping, size, name

    def _attach(self, name: str) -> None:
        _file_of(name)
        with HeldStreams():
            fd = _posixshmem.shm_open(name, self._flags, mode=self._mode)
        try:
            size = os.fstat(fd).st_size
            mapping = _map(fd, size)
        except BaseException:
            os.close(fd)
            raise
        self._fd, self._mmap, self._size, self._name = fd, mapping, size, name
        resource_tracker._resource_tracker.attached(name)


def _map(fd: int, size: int) -> mmap.mmap:
    # The mapping takes an fd of its own.
    with HeldStreams():
        return mmap.mmap(fd, size)


def _file_of(name: str) -> str:
    """The file that C's `shm_open` would open for `name`; raises what it would."""
    if '\0' in name:
        raise ValueError('embedded null character')
    file = name.lstrip('/')
    if file in ('', '.', '..') or '/' in file:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
    if len(os.fsencode(file)) > 255:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
    return f'{_DIRECTORY}/{file}'


def _link(fd: int, path: str) -> None:
    # `src_dir_fd` says nothing of an absolute path, and has `os.link` follow it, which it does not
    # do without.
    os.link(f'/proc/self/fd/{fd}', path, src_dir_fd=fd, follow_symlinks=True)
