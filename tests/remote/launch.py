"""Starts programs of the tests' own on the cluster."""

import os
import subprocess
import sys
import time

NAME = os.environ.get('PROCESSION_TEST_CLUSTER', '')
# Of the MPI job that the tests are in, and of no other.
_OF_JOB = ('OMPI_', 'PMIX_', 'PMI_', 'PRTE_')
_KEPT = ('OMPI_ALLOW', 'OMPI_MCA_mpi_yield', 'OMPI_MCA_btl_tcp_if', 'PRTE_ALLOW', 'PRTE_MCA_rmaps')


def launch(*program, slots=8, **terms):
    """Starts `python -m procession --context ...` with a program on the cluster that is there;
    under MPI, in a job of its own. Returns the `Popen`.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OF_JOB) or name.startswith(_KEPT)}
    command = [sys.executable, '-m', 'procession', '--context', NAME, *program]
    if NAME == 'ray':
        import ray

        environment['RAY_ADDRESS'] = ray.get_runtime_context().gcs_address
    elif NAME == 'dask':
        import distributed

        environment['DASK_SCHEDULER_ADDRESS'] = distributed.default_client().scheduler.address
    else:
        command = ['mpiexec', '--oversubscribe', '-n', str(slots + 1), *command]
    return subprocess.Popen(command, env=environment, **terms)


def start_machine():
    """Adds a machine of two processors to the cluster, and waits until it is there; returns the
    `Popen` whose descendants are its processes.
    """
    before = _members()
    if NAME == 'ray':
        import ray

        address = ray.get_runtime_context().gcs_address
        command = ['ray', 'start', f'--address={address}', '--num-cpus=2', '--block', '--object-store-memory=100000000']
    else:
        import distributed

        command = ['dask', 'worker', distributed.default_client().scheduler.address, '--nthreads', '2', '--no-dashboard']
    machine = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not _members() - before:
        assert machine.poll() is None and time.monotonic() < deadline, 'the machine does not begin'
        time.sleep(0.1)
    return machine


def _members():
    """Returns the machines of Ray, or the workers of Dask, that are there now."""
    if NAME == 'ray':
        import ray

        return {node['NodeID'] for node in ray.nodes() if node['Alive']}
    import distributed

    return set(distributed.default_client().nthreads())
