"""The program of the recipes for Slurm. Argument: the name of the context."""

import os
import socket
import sys
import time

import procession


def square(x):
    time.sleep(0.05)
    return x * x, socket.gethostname()


def main(name):
    ctx = procession.get_context(name)
    with ctx.Pool(int(os.environ['SLURM_NTASKS']) - (name == 'mpi')) as pool:
        found = pool.map(square, range(100), chunksize=1)
    assert [value for value, _ in found] == [x * x for x in range(100)]
    print('100 squares on', *sorted({host for _, host in found}))


if __name__ == '__main__':
    main(*sys.argv[1:])
