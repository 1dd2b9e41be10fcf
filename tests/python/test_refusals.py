"""Calls that the system refuses, and things that the program takes away: they raise errors, and
nothing hangs.
"""

import pathlib
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.limit(120)

DENIED = pathlib.Path(__file__).with_name('denied.py')

PROGRAM = """
import procession, sys

def double(x):
    return 2 * x

if __name__ == '__main__':
    try:
        pool = procession.get_context(sys.argv[1]).Pool(2)
        print(pool.map(double, range(3)))
        pool.terminate()
        pool.join()
    except Exception as error:
        print(error)
"""


@pytest.mark.parametrize('call', ['pidfd_send_signal', 'prctl', 'set_robust_list'])
def test_pool_works_and_ends_where_a_system_call_is_refused(method, call, tmp_path):
    assert run(tmp_path, PROGRAM, method, denied=call) == '[0, 2, 4]\n'


def test_refused_pidfd_open_names_both_causes(method, tmp_path):
    said = run(tmp_path, PROGRAM, method, denied='pidfd_open')
    assert 'Linux 5.10' in said and 'seccomp' in said


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_pool_whose_descriptors_the_program_closes_fails_and_later_ones_work(method, tmp_path):
    program = """
        import os, signal
        import procession, sys

        def double(x):
            return 2 * x

        if __name__ == '__main__':
            ctx = procession.get_context(sys.argv[1])
            pool = ctx.Pool(2)
            assert pool.map(double, range(3)) == [0, 2, 4]
            os.closerange(3, 1000)
            try:
                # The pool may have noticed and replaced its workers already.
                assert pool.map(double, range(3)) == [0, 2, 4]
                print('no descriptor was missed')
            except procession.ProcessError as error:
                print(error)
            pool.close()
            pool.join()
            later = ctx.Pool(2)
            assert later.map(double, range(3)) == [0, 2, 4]
            os.kill(later.stats()['workers'][0]['pid'], signal.SIGKILL)
            assert later.map(double, range(300))[-1] == 598
            later.terminate()
            later.join()
            print('all is well')
    """
    said = run(tmp_path, program, method)
    assert 'descriptor' in said and said.endswith('all is well\n')


def run(folder, program, *args, denied=None):
    """Returns the output of a program, in a process of its own."""
    path = folder / 'program.py'
    path.write_text(textwrap.dedent(program))
    command = [sys.executable, str(path), *args]
    if denied is not None:
        command = [sys.executable, str(DENIED), denied, '--', *command]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
