"""Limits of addresses (`ulimit -v`) and of file sizes (`ulimit -f`): data that fits goes through,
data that does not raises an exception in the call or task, and nothing is lost.
"""

import pathlib
import subprocess
import sys

import pytest
from processes import METHODS, run

ROLES = [
    'addresses',
    'files',
    'in_an_initializer',
    'in_tasks',
    'files_exhausted',
    'parents_addresses_exhausted',
    'workers_addresses_exhausted',
]


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('role', ROLES)
def test_limit_is_met_or_said(role, method):
    script = pathlib.Path(__file__).with_name('limited.py')
    ended = subprocess.run([sys.executable, script, role, method], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, 'done\n'), ended.stderr


@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_arguments_of_a_process_that_find_no_memory_are_a_memory_error(method, tmp_path):
    program = """
        import os, resource, sys
        import procession

        if __name__ == '__main__':
            content = bytes(300 << 20)
            with open('/proc/self/statm') as statm:
                taken = int(statm.read().split()[0]) * os.sysconf('SC_PAGE_SIZE')
            resource.setrlimit(resource.RLIMIT_AS, (taken + (200 << 20), -1))
            try:
                procession.get_context(sys.argv[1]).Process(target=len, args=(content,)).start()
            except MemoryError:
                print('no memory')
    """
    done = run(tmp_path, program, method)
    assert (done.stdout, done.returncode) == ('no memory\n', 0), done.stderr


@pytest.mark.parametrize('call', ['apply(len, (content,))', 'map(len, [content])', 'apply(len, (list(content),))'])
def test_arguments_of_a_task_that_find_no_memory_are_a_memory_error(call, tmp_path):
    program = f"""
        import os, resource
        import procession

        if __name__ == '__main__':
            with procession.get_context('spawn').Pool(1) as pool:
                content = bytes(300 << 20)
                with open('/proc/self/statm') as statm:
                    taken = int(statm.read().split()[0]) * os.sysconf('SC_PAGE_SIZE')
                resource.setrlimit(resource.RLIMIT_AS, (taken + (100 << 20), -1))
                try:
                    pool.{call}
                except MemoryError:
                    print('no memory')
                assert pool.apply(len, (b'bytes',)) == 5
    """
    done = run(tmp_path, program)
    assert (done.stdout, done.returncode) == ('no memory\n', 0), done.stderr
