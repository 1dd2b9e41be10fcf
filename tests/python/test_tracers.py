"""Debuggers and tracers that follow `multiprocessing` follow our processes."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest
from debugger import Debugger

pytestmark = pytest.mark.limit(120)

PROGRAM = """
    import importlib
    import sys

    def double(number):
        doubled = 2 * number
        return doubled

    def main(package, method):
        ctx = importlib.import_module(package).get_context(method)
        process = ctx.Process(target=double, args=(21,))
        process.start()
        process.join()
        print(process.exitcode)
        pool = ctx.Pool(1)
        print(pool.map(double, [1, 2]))
        pool.close()
        pool.join()

    if __name__ == '__main__':
        main(*sys.argv[1:])
"""

# As scalene has them.
PROFILER = """
    import os
    import sys
    import threading

    original = os.fork
    os.fork = lambda: original()
    os._exit = sys.exit
    threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


@pytest.mark.parametrize('options', [[], ['-m', 'procession', '--']], ids=['import', 'alias'])
def test_viztracer_reports_what_children_did(method, options, tmp_path):
    pytest.importorskip('viztracer')
    _write(tmp_path)
    package = 'multiprocessing' if options else 'procession'
    command = [sys.executable, '-m', 'viztracer', '--quiet', '-o', 'report.json', *(options or ['--'])]
    command += ['program.py', package, method]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout) == (0, '0\n[2, 4]\n'), done.stderr
    events = json.loads((tmp_path / 'report.json').read_text())['traceEvents']
    calls = [event['pid'] for event in events if event['name'].startswith('double ')]
    # The process's one, and the worker's two.
    assert sorted(calls.count(pid) for pid in set(calls)) == [1, 2]


def test_a_debugger_stops_in_children(method, tmp_path):
    pytest.importorskip('debugpy')
    path = _write(tmp_path)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    command = [sys.executable, '-X', 'frozen_modules=off', '-m', 'debugpy', '--listen', f'127.0.0.1:{port}', '--wait-for-client']
    command += ['program.py', 'procession', method]
    output = tmp_path / 'output'
    with output.open('w') as file:
        # In a session of its own, and no pipe: the debugger leaves its adapter behind.
        program = subprocess.Popen(command, cwd=tmp_path, stdout=file, stderr=file, start_new_session=True)
    try:
        debugger = Debugger(port, str(path), 1 + path.read_text().splitlines().index('    return doubled'))
        assert (program.wait(60), output.read_text()) == (0, '0\n[2, 4]\n')
        assert debugger.stops == ['double'] * 3
    finally:
        # Perhaps all of it has ended.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait(10)


def test_a_profiler_may_have_threads_and_replace_fork_and_exit(method, tmp_path):
    path = _write(tmp_path)
    (tmp_path / 'profiler.py').write_text(textwrap.dedent(PROFILER))
    path.write_text('import profiler\n' + path.read_text())
    command = [sys.executable, '-W', 'ignore', 'program.py', 'procession', method]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout, done.stderr) == (0, '0\n[2, 4]\n', '')


def _write(folder):
    path = folder / 'program.py'
    path.write_text(textwrap.dedent(PROGRAM).lstrip())
    return path
