"""Runs a program beside a Ray or Dask cluster of three processors, which it is told of by
`PROCESSION_TEST_BRIDGE`: `python bridged.py ENGINE PROGRAM...`. `cargo xtask scale bridge-rust`
runs the tests of the Rust face by it.
"""

import contextlib
import os
import subprocess
import sys

PROCESSORS = 3


@contextlib.contextmanager
def cluster(engine):
    """Starts a cluster; its value is the address."""
    if engine == 'ray':
        import ray

        # An actor that is lost is noticed at once, and a machine in 2 seconds.
        os.environ.update(
            RAY_health_check_period_ms='500', RAY_health_check_timeout_ms='1000', RAY_health_check_failure_threshold='3'
        )
        ray.init(num_cpus=PROCESSORS, include_dashboard=False, object_store_memory=600 * 2**20, log_to_driver=False)
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()
    else:
        import distributed

        with distributed.LocalCluster(
            n_workers=PROCESSORS, threads_per_worker=1, dashboard_address=None, host='127.0.0.1'
        ) as made:
            yield made.scheduler_address


def main():
    """Runs the program that the arguments name, and exits as it does."""
    engine, *program = sys.argv[1:]
    with cluster(engine) as address:
        named = {'PROCESSION_TEST_BRIDGE': f'{engine} {address}', 'PROCESSION_PYTHON': sys.executable}
        code = subprocess.run(program, env={**os.environ, **named}, check=False).returncode
    sys.exit(code)


if __name__ == '__main__':
    main()
