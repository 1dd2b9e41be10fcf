"""``mpiexec -n N python -m procession.mpi PROGRAM``: runs a program on rank 0 of an MPI job, with
the other ranks as its workers.

::

    mpiexec -n 5 python -m procession.mpi script.py args...     4 workers
    mpiexec -n 5 python -m procession.mpi -m module args...

In the program, ``procession.get_context('mpi')`` is the context of these workers. The default
context is not changed: ``python -m procession --context mpi script.py`` does that, for programs
that use `multiprocessing` and that nobody edits.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ['main']


def main(arguments: Sequence[str]) -> None:
    """Runs the program that `arguments` name on rank 0, and ends with it; on other ranks serves
    it.
    """
    from .__main__ import run_program
    from .remote._mpi_rank import serve_unless_first

    serve_unless_first()
    run_program(arguments)


if __name__ == '__main__':
    _keep = sys.modules['__main__']
    main(sys.argv[1:])
