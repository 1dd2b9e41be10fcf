"""Values that cannot go by name. Plain pickle sends functions and classes as the names of their
module and of themselves; a process that cannot find them there needs them by value, for which this
uses cloudpickle where that is installed. Used in parents and in workers, from any thread.

Only functions and classes go by value that the other process cannot find by name. What plain pickle
refuses otherwise, such as an open file, stays refused.
"""

from __future__ import annotations

import io
import sys
import types
import weakref

from ._errors import NotRemote
from ._spawning import get_spawning_popen, set_spawning_popen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_MAIN = '__main__'


class ByValue:
    """A stand-in that pickles as the value of an object that plain pickle refuses."""

    def __init__(self, pickled: bytes) -> None:
        self._pickled = pickled

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (self._pickled,)


def _unpickle(pickled: bytes) -> Any:
    import pickle

    return pickle.loads(pickled)


def cloudpickle() -> types.ModuleType | None:
    """The module cloudpickle, or `None` where it is not installed."""
    try:
        import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return None
    module: types.ModuleType = cloudpickle
    return module


def dumps(value: object, is_known: Callable[[Any], bool]) -> bytes:
    """Returns the pickle of `value`. Functions and classes go by name if `is_known` says so."""
    buffer = io.BytesIO()
    _pickler()(buffer, is_known).dump(value)
    return buffer.getvalue()


def is_in_main(value: Any) -> bool:
    """Returns whether the main module has this function or class under its name."""
    found = sys.modules.get(_MAIN)
    for name in getattr(value, '__qualname__', '').split('.'):
        found = getattr(found, name, None)
    return found is value


def known_in_main() -> dict[str, weakref.ref[Any]]:
    """Returns what the main module has now, by name, as something that does not keep it."""
    found = vars(sys.modules[_MAIN]).items() if _MAIN in sys.modules else ()
    # An address alone may come to be another's.
    return {name: weakref.ref(value) for name, value in found if isinstance(value, (type, types.FunctionType))}


def names_unknown(pickle: bytes, known: Mapping[str, weakref.ref[Any]]) -> bool:
    """Returns whether a pickle names a function or class of the main module that is not `known`."""
    for name, value in list(vars(sys.modules[_MAIN]).items()):
        if isinstance(value, (type, types.FunctionType)) and getattr(value, '__module__', None) == _MAIN:
            before = known.get(name)
            # The second look is exact, and slow.
            if (before is None or before() is not value) and name.encode() in pickle and name in _names_in_main(pickle):
                return True
    return False


def _names_in_main(pickle: bytes) -> set[str]:
    """The names at the top of the main module that a pickle of protocol 4 or later refers to."""
    import pickletools

    names: set[str] = set()
    memo: list[Any] = []
    module: Any = None
    last: Any = None
    argument: Any
    for opcode, argument, _ in pickletools.genops(pickle):
        match opcode.name:
            case 'MEMOIZE':
                memo.append(last)
            case 'FRAME':
                continue
            case 'STACK_GLOBAL':
                if module == _MAIN and isinstance(last, str):
                    names.add(last.partition('.')[0])
                module, last = None, None
            case 'BINGET' | 'LONG_BINGET':
                module, last = last, memo[argument]
            case _:
                module, last = last, argument
    return names


def unfound() -> Exception:
    """Returns the error for what plain pickle would send by name, and nobody finds by that."""
    import pickle

    return pickle.PicklingError(
        'a function or class of the main module cannot be sent, since the other process cannot find it there: its main module was made '
        'before, or cannot be imported (python -c, python -m with a package, a folder, an archive, standard input). Define it in a module '
        'that can be imported, or install cloudpickle, by which it is sent by value'
    )


class _Passage:
    """Stands where a process that is being started would, while a task is pickled: its fds go
    beside the task.
    """

    def duplicate_for_child(self, fd: int) -> int:
        from . import _engine

        return _engine.give_handle(fd)

    @staticmethod
    def DupFd(index: int) -> _TaskFd:
        return _TaskFd(index)


class Values:
    """The values that a pool sends in the place of those that its workers cannot find by name.

    Workers that are forked have the main module as it is now; those that are executed have it if
    they can import it. `have_main` says whether one of these holds.
    """

    # It takes the file descriptors of the values.
    _passage: type[Any] = _Passage

    def __init__(self, have_main: bool) -> None:
        self._known = known_in_main() if have_main else {}

    def is_known(self, value: Any) -> bool:
        """Returns whether workers find this function or class of the main module by its name."""
        known = self._known.get(getattr(value, '__qualname__', '').partition('.')[0])
        top = None if known is None else known()
        return top is not None and vars(sys.modules[_MAIN]).get(top.__qualname__) is top and is_in_main(value)

    def names_unknown(self, pickle: bytes) -> bool:
        """Returns whether a pickle that names the main module names something of it that workers
        cannot find.
        """
        return names_unknown(pickle, self._known)

    def by_value(self, value: Any, error: Exception | None) -> ByValue:
        """Returns what is sent in the place of `value`, which plain pickle has refused with `error`
        (`None`: it was not asked).

        Handles (queues, locks) are refused unless a child is being started, or a task is being
        sent: that is said here.
        """
        if error is None and cloudpickle() is None:
            raise unfound()
        before = get_spawning_popen()
        passage: Any = self._passage()
        set_spawning_popen(passage)
        try:
            if cloudpickle() is not None:
                return ByValue(dumps(value, self.is_known))
            if isinstance(error, RuntimeError):
                from .reduction import ForkingPickler

                return ByValue(bytes(ForkingPickler.dumps(value)))
        except NotRemote:
            raise
        except Exception as refused:
            from _pickle import PicklingError

            if isinstance(error, (AttributeError, PicklingError)):
                # Plain pickle did not find a function or a class. That it is sent by value was
                # refused for what it holds, which is the one to tell.
                raise refused from None
            raise (error or refused) from None
        finally:
            set_spawning_popen(before)
        # Without cloudpickle, plain pickle was asked.
        assert error is not None
        told = refusal(value, error)
        if told is error:
            raise error
        raise told from error


def refusal(value: Any, error: Exception) -> Exception:
    """Returns `error`, by which plain pickle has refused `value`, with what to do about it."""
    name = getattr(value, '__qualname__', '')
    if not callable(value) or '<' not in name:
        return error
    return type(error)(
        f'{name} cannot be sent to a worker, since no worker can import it ({error}): define it at the top level of a module, '
        f'or install cloudpickle, by which such functions are sent by value'
    )


class _TaskFd:
    """An fd that goes beside a task."""

    def __init__(self, index: int) -> None:
        self._index = index

    def detach(self) -> int:
        from . import _engine

        return _engine.take_handle(self._index)


_made_pickler: Any = None


def _pickler() -> Any:
    """The class of picklers by value, made at its first use: cloudpickle is imported late."""
    global _made_pickler
    if _made_pickler is None:
        _made_pickler = _make_pickler(cloudpickle())
    return _made_pickler


def _make_pickler(module: Any) -> Any:
    from .reduction import ForkingPickler

    # Of these cloudpickle sends something else, silently.
    changed = (io.TextIOWrapper, memoryview)

    # It comes without types.
    class Pickler(module.Pickler):  # type: ignore[misc]
        def __init__(self, file: io.BytesIO, is_known: Callable[[Any], bool]) -> None:
            own = {kind: reduce for kind, reduce in module.Pickler.dispatch_table.items() if kind not in changed}
            # The reducers that programs have registered hold for everything that crosses between
            # processes. The table is made before the pickler's own beginning, which looks for it.
            self.dispatch_table = {**own, **ForkingPickler(io.BytesIO()).dispatch_table}
            self._is_known = is_known
            super().__init__(file, protocol=5)

        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, (type, types.FunctionType)) and value.__module__ == _MAIN and self._is_known(value):
                return NotImplemented
            return super().reducer_override(value)

    return Pickler
