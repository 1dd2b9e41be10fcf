"""Values that cannot go by name. Plain pickle sends functions and classes as the names of their
module and of themselves; a process that cannot find them there needs them by value, for which this
uses cloudpickle where that is installed. Used in parents and in workers, from any thread.

Only functions and classes go by value that the other process cannot find by name. What plain pickle
refuses otherwise, such as an open file, stays refused.
"""

import io
import sys
import types
import weakref

from ._spawning import get_spawning_popen, set_spawning_popen

_MAIN = '__main__'


class ByValue:
    """What pickles as the value of an object that plain pickle refuses."""

    def __init__(self, pickled):
        self._pickled = pickled

    def __reduce__(self):
        return _unpickle, (self._pickled,)


def _unpickle(pickled):
    import pickle

    return pickle.loads(pickled)


def cloudpickle():
    """The module cloudpickle, or `None` where it is not installed."""
    try:
        import cloudpickle
    except ImportError:
        return None
    return cloudpickle


def dumps(value, is_known):
    """Returns the pickle of `value`. Functions and classes of which `is_known` says so go by name.
    """
    buffer = io.BytesIO()
    _pickler()(buffer, is_known).dump(value)
    return buffer.getvalue()


def is_in_main(value):
    """Whether the main module has this function or class under its name."""
    found = sys.modules.get(_MAIN)
    for name in getattr(value, '__qualname__', '').split('.'):
        found = getattr(found, name, None)
    return found is value


def known_in_main():
    """Returns what the main module has now, by name, as something that does not keep it."""
    found = vars(sys.modules[_MAIN]).items() if _MAIN in sys.modules else ()
    # An address alone may come to be another's.
    return {name: weakref.ref(value) for name, value in found if isinstance(value, (type, types.FunctionType))}


def names_unknown(pickle, known):
    """Whether a pickle names a function or class of the main module that is not among the `known`.
    """
    for name, value in list(vars(sys.modules[_MAIN]).items()):
        if isinstance(value, (type, types.FunctionType)) and getattr(value, '__module__', None) == _MAIN:
            before = known.get(name)
            # The second look is exact, and slow.
            if (before is None or before() is not value) and name.encode() in pickle and name in _names_in_main(pickle):
                return True
    return False


def _names_in_main(pickle):
    """The names at the top of the main module that a pickle of protocol 4 or later refers to."""
    import pickletools

    names, memo, module, last = set(), [], None, None
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


def unfound():
    """Returns the error for what cannot be found by name where plain pickle would send it by name.
    """
    import pickle

    return pickle.PicklingError(
        'a function or class of the main module cannot be sent, since the other process cannot find it there: its main module was made '
        'before, or cannot be imported (python -c, python -m with a package, a folder, an archive, standard input). Define it in a module '
        'that can be imported, or install cloudpickle, by which it is sent by value'
    )


class Values:
    """What a pool sends in the place of values that its workers cannot find by name.

    Workers that are forked have the main module as it is now; those that are executed have it if
    they can import it. `have_main` says whether one of these holds.
    """

    def __init__(self, have_main):
        self._known = known_in_main() if have_main else {}

    def is_known(self, value):
        """Whether workers find this function or class of the main module by its name."""
        known = self._known.get(getattr(value, '__qualname__', '').partition('.')[0])
        top = known and known()
        return top is not None and vars(sys.modules[_MAIN]).get(top.__qualname__) is top and is_in_main(value)

    def names_unknown(self, pickle):
        """Whether a pickle that names the main module names something of it that workers cannot
        find.
        """
        return names_unknown(pickle, self._known)

    def by_value(self, value, error):
        """Returns what is sent in the place of `value`, which plain pickle has refused with `error`
        (`None`: it was not asked).

        Handles (queues, locks) are refused unless a child is being started, or a task is being
        sent: that is said here.
        """
        if error is None and cloudpickle() is None:
            raise unfound()
        before = get_spawning_popen()
        set_spawning_popen(_Passage())
        try:
            if cloudpickle() is not None:
                return ByValue(dumps(value, self.is_known))
            if isinstance(error, RuntimeError):
                from .reduction import ForkingPickler

                return ByValue(bytes(ForkingPickler.dumps(value)))
        except Exception as refused:
            raise (error or refused) from None
        finally:
            set_spawning_popen(before)
        told = refusal(value, error)
        if told is error:
            raise error
        raise told from error


def refusal(value, error):
    """Returns `error`, by which plain pickle has refused `value`, with what to do about it."""
    name = getattr(value, '__qualname__', '')
    if not callable(value) or '<' not in name:
        return error
    return type(error)(
        f'{name} cannot be sent to a worker, since no worker can import it ({error}): define it at the top level of a module, '
        f'or install cloudpickle, by which such functions are sent by value'
    )


class _Passage:
    """Stands where a process that is being started would, while a task is pickled: its fds go
    beside the task.
    """

    def duplicate_for_child(self, fd):
        from . import _engine

        return _engine.give_handle(fd)

    @staticmethod
    def DupFd(index):
        return _TaskFd(index)


class _TaskFd:
    """An fd that goes beside a task."""

    def __init__(self, index):
        self._index = index

    def detach(self):
        from . import _engine

        return _engine.take_handle(self._index)


_made_pickler = None


def _pickler():
    """The class of picklers by value, made at its first use: cloudpickle is imported late."""
    global _made_pickler
    if _made_pickler is None:
        _made_pickler = _make_pickler(cloudpickle())
    return _made_pickler


def _make_pickler(module):
    from .reduction import ForkingPickler

    # Of these cloudpickle sends something else, silently.
    changed = (io.TextIOWrapper, memoryview)

    class Pickler(module.Pickler):
        def __init__(self, file, is_known):
            own = {kind: reduce for kind, reduce in module.Pickler.dispatch_table.items() if kind not in changed}
            # What programs have registered, as everything that crosses between processes. Before
            # the pickler's own beginning, which is when it looks for the table.
            self.dispatch_table = {**own, **ForkingPickler(io.BytesIO()).dispatch_table}
            self._is_known = is_known
            super().__init__(file, protocol=5)

        def reducer_override(self, value):
            if isinstance(value, (type, types.FunctionType)) and value.__module__ == _MAIN and self._is_known(value):
                return NotImplemented
            return super().reducer_override(value)

    return Pickler
