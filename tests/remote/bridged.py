"""Runs a program beside a Ray or Dask cluster of three processors, which it is told of by
`PROCESSION_TEST_BRIDGE`: `python bridged.py ENGINE PROGRAM...`. `cargo xtask scale bridge-rust`
runs the tests of the Rust face by it. With `--measure` before the engine, the program may ask for
the time of a bare call of the engine's own actor: it prints `bare`, and reads the microseconds.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time

PROCESSORS = 3
BARE_CALLS = 200


class Bare:
    """The work of an actor of the engine without us."""

    def run(self, number, data):
        return data


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


@contextlib.contextmanager
def bare_call(engine, address):
    """Makes an actor of the engine beside the workers; its value calls it once."""
    if engine == 'ray':
        import ray

        # It takes no processor, as those are for the program's workers.
        actor = ray.remote(num_cpus=0)(Bare).remote()
        yield lambda: ray.get(actor.run.remote(1, b'x' * 100))
    else:
        import distributed

        with distributed.Client(address, direct_to_workers=True) as client:
            actor = client.submit(Bare, actor=True).result()
            yield lambda: actor.run(1, b'x' * 100).result()


def measure_beside(program, environment, call):
    """Runs a program, and answers when it asks for the time of a call. Returns its exit code."""
    with subprocess.Popen(program, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if line != 'bare\n':
                print(line, end='', flush=True)
                continue
            times = []
            for _ in range(BARE_CALLS):
                begun = time.perf_counter()
                call()
                times.append(time.perf_counter() - begun)
            print(f'{statistics.median(times) * 1e6:.0f}', file=child.stdin, flush=True)
    return child.returncode


def main():
    """Runs the program that the arguments name, and exits as it does."""
    measures = sys.argv[1] == '--measure'
    engine, *program = sys.argv[1 + measures :]
    with cluster(engine) as address:
        named = {'PROCESSION_TEST_BRIDGE': f'{engine} {address}', 'PROCESSION_PYTHON': sys.executable}
        environment = {**os.environ, **named}
        if measures:
            with bare_call(engine, address) as call:
                code = measure_beside(program, {**environment, 'PROCESSION_TEST_BARE': '1'}, call)
        else:
            code = subprocess.run(program, env=environment, check=False).returncode
    sys.exit(code)


if __name__ == '__main__':
    main()
