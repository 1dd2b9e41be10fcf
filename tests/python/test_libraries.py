"""Libraries that know nothing of procession, run unedited under ``python -m procession``."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request

import pytest

pytestmark = pytest.mark.limit(180)

PROGRAMS = {
    'joblib': (
        """
        import joblib

        if __name__ == '__main__':
            for backend in ('loky', 'multiprocessing', 'threading'):
                print(joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(abs)(-i) for i in range(5)))
    """,
        '[0, 1, 2, 3, 4]\n' * 3,
    ),
    'sklearn': (
        """
        if __name__ == '__main__':
            from sklearn.datasets import load_iris
            from sklearn.model_selection import GridSearchCV
            from sklearn.svm import SVC

            search = GridSearchCV(SVC(), {'C': [0.1, 1]}, n_jobs=2, cv=2).fit(*load_iris(return_X_y=True))
            print(search.best_params_)
    """,
        "{'C': 1}\n",
    ),
    'loky': (
        """
        import loky

        if __name__ == '__main__':
            executor = loky.get_reusable_executor(max_workers=2)
            print(list(executor.map(abs, [-1, -2])))
            executor.shutdown()
    """,
        '[1, 2]\n',
    ),
    'dask': (
        """
        import dask.bag

        if __name__ == '__main__':
            bag = dask.bag.from_sequence(range(10), npartitions=2)
            print(bag.map(lambda x: 2 * x).sum().compute(scheduler='processes', num_workers=2))
    """,
        '90\n',
    ),
    'tqdm': (
        """
        from tqdm.contrib.concurrent import process_map

        if __name__ == '__main__':
            print(process_map(abs, [-1, -2, -3], max_workers=2, chunksize=1, disable=True))
    """,
        '[1, 2, 3]\n',
    ),
    'pandarallel': (
        """
        import pandas
        from pandarallel import pandarallel

        if __name__ == '__main__':
            pandarallel.initialize(nb_workers=2, progress_bar=False, verbose=0)
            print(pandas.DataFrame({'a': range(10)}).a.parallel_apply(lambda x: 2 * x).sum())
    """,
        '90\n',
    ),
    'pebble': (
        """
        import pebble

        if __name__ == '__main__':
            with pebble.ProcessPool(2) as pool:
                print(pool.schedule(abs, args=(-3,)).result())
    """,
        '3\n',
    ),
}

SERVERS = {
    'uvicorn': (['uvicorn', 'served:asgi', '--workers', '2', '--log-level', 'error', '--host', '127.0.0.1', '--port'], '{}'),
    'gunicorn': (['gunicorn', 'served:wsgi', '-w', '2', '--log-level', 'error', '-b'], '127.0.0.1:{}'),
}

SERVED = """
import os

async def asgi(scope, receive, send):
    if scope['type'] == 'http':
        await send({'type': 'http.response.start', 'status': 200, 'headers': []})
        await send({'type': 'http.response.body', 'body': str(os.getpid()).encode()})

def wsgi(environment, start):
    start('200 OK', [])
    return [str(os.getpid()).encode()]
"""


@pytest.mark.parametrize('name', PROGRAMS)
def test_a_library_runs_unedited(name, tmp_path):
    pytest.importorskip(name, exc_type=ImportError)
    program, expected = PROGRAMS[name]
    (tmp_path / 'program.py').write_text(textwrap.dedent(program))
    command = [sys.executable, '-W', 'ignore', '-m', 'procession', 'program.py']
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


@pytest.mark.parametrize('name', SERVERS)
def test_a_server_serves_and_ends(name, tmp_path):
    pytest.importorskip(name)
    (tmp_path / 'served.py').write_text(SERVED)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    module, address = SERVERS[name]
    command = [sys.executable, '-m', 'procession', '-m', *module, address.format(port)]
    server = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f'http://127.0.0.1:{port}/', timeout=10) as answer:
                    worker = int(answer.read())
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, server.stderr.read()
                time.sleep(0.1)
        assert worker not in (server.pid, os.getpid())
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.communicate()
