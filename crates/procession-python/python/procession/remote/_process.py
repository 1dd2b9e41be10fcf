"""Processes on other machines, as the program sees them. Used in the driver.

Each has a local proxy, whose exit code, sentinel and signals are the child's. See `_proxy.py`.
"""

from __future__ import annotations

import itertools
import weakref
from typing import TYPE_CHECKING, Any

from .. import _output, process
from .._workers import _Fd
from ._carrier import MirrorCarrier
from ._hearer import Pipes
from ._messages import Channel
from ._pool import ProxyProcess
from ._proxy import mirror
from ._values import RemoteValues, child_terms

if TYPE_CHECKING:
    from ._cluster import Crew
    from ._context import RemoteContext

__all__ = ['RemoteProcess', 'make_process_class']

# The contexts of this process, by the numbers that classes have: a class may travel, its context
# does not.
_contexts: weakref.WeakValueDictionary[int, RemoteContext] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)


class RemoteProcess(process.BaseProcess):
    """A process on another machine. It takes one processor of the cluster until it has ended.

    It has what :class:`procession.Process` has. `pid` is that of the local process that stands for
    it::

        ctx = procession.get_context('ray')
        process = ctx.Process(target=work, args=(1,))
        process.start()
        process.join()
        print(process.exitcode)
    """

    _start_method = None
    _context_number: int | None = None

    @classmethod
    def _Popen(cls, process_obj: Any) -> Any:
        kind = type(process_obj)
        context = _contexts.get(kind._context_number)
        if context is None:
            raise RuntimeError(
                'a process of a cluster is started by the program that has the context, and this is another process'
            )
        state = {name: value for name, value in process_obj.__dict__.items() if name not in _OWN}
        made_here = kind._context_number is not None and kind.__dict__.get('_is_made_here')
        calls = RemoteValues().pickled((None if made_here else kind, state))
        return _started(process_obj, context._cluster.hire(1), calls)


def make_process_class(context: RemoteContext) -> type[RemoteProcess]:
    """Returns the class of processes that run on the machines of a context's cluster."""
    number = next(_numbers)
    _contexts[number] = context
    return type(
        'RemoteProcess', (RemoteProcess,), {'_context_number': number, '_is_made_here': True, '__doc__': RemoteProcess.__doc__}
    )


# The attributes of a process object that are its parent's.
_OWN = {'_surroundings', '_popen', '_sentinel', '_parent_pid', '_parent_name', '_config', '_closed'}


def _started(process_obj: Any, crew: Crew, calls: bytes) -> Any:
    surroundings, pipes = process_obj._surroundings, None
    if surroundings is not None:
        pipes = Pipes(surroundings.make(), surroundings.name)
    terms = child_terms(process_obj.name, None, calls, None, pipes)
    ours, theirs = Channel.pair()
    with theirs:
        proxy = ProxyProcess(target=mirror, args=tuple(map(_Fd, theirs.fds())), name=process_obj.name, daemon=process_obj.daemon)
        if pipes is not None:
            _output.surround(proxy, pipes)
        try:
            popen = proxy._Popen(proxy)
        except BaseException:
            ours.close()
            if pipes is not None:
                pipes.close()
            crew.release()
            raise
    process._standard._children.discard(proxy)
    MirrorCarrier(ours, crew[0], terms, popen.pid, pipes, crew.release).start()
    return popen
