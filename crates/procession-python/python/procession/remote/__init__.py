"""The same `Pool`, `Process`, queues and locks on the machines of a cluster, which Ray, Dask or MPI
manages::

    ctx = procession.get_context('ray', address='auto')
    with ctx.Pool() as pool:
        print(pool.map(work, range(1000)))

The cluster's library places one small agent for each slot, and carries bytes between the program
and the agents; which machines there are, and whether they live, it knows alone. An agent runs the
program's functions in a child of its own. `ARCHITECTURE.md` says how the parts fit.

None of the libraries is imported before a context of theirs is asked for.
"""

from os import PathLike
from typing import Any

__all__ = ['ENGINES', 'make_context']

#: The names of the contexts that this package makes, and the modules that have them.
ENGINES = {'ray': '_ray', 'dask': '_dask', 'mpi': '_mpi'}


def make_context(
    name: str,
    *args: Any,
    certificate: str | PathLike[str] | None = None,
    key: str | PathLike[str] | None = None,
    **options: Any,
) -> Any:
    """Returns the context of a cluster that the library `name` manages: 'ray', 'dask' or 'mpi'.

    With `certificate` and `key`, the paths of PEM files, the connections to its queues, locks and
    managers are encrypted. One file may have both.

    :raises ImportError: the library is not installed.
    :raises TypeError: the library takes no such option.
    :raises ValueError: `certificate` and `key` are none, or do not belong together.
    """
    import atexit
    from importlib import import_module

    from .. import util
    from ._context import RemoteContext

    module = import_module(f'.{ENGINES[name]}', __name__)
    identity = None
    if certificate is not None:
        from ._tls import Identity

        identity = Identity(certificate, key)
    elif key is not None:
        raise ValueError('a key without its certificate: give certificate=, too')
    context = RemoteContext(name, module.Cluster(*args, **options), identity)
    # At the program's exit pools end, and processes are waited for, while the library is still
    # there: its own callback, which was registered before, runs later.
    atexit.register(util._exit_function)
    return context
