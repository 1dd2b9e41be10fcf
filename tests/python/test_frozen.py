"""Programs frozen by PyInstaller, cx_Freeze or Nuitka start processes by every start method."""

import multiprocessing
import os
import pathlib
import subprocess
import sys
import textwrap

import procession
import pytest

pytestmark = pytest.mark.limit(300)

PROGRAM = """
    import os

    import procession
    from procession import shared_memory


    def double(number):
        return 2 * number


    def fill(name):
        memory = shared_memory.SharedMemory(name)
        memory.buf[0] = 7
        memory.close()


    def start_another(method):
        process = procession.get_context(method).Process(target=double, args=(5,))
        process.start()
        return process.result(30)


    def main(method):
        print('the program runs')
        ctx = procession.get_context(method)
        process = ctx.Process(target=start_another, args=(method,))
        process.start()
        print(process.result(30))
        # The tracker is executed for these.
        memory = shared_memory.SharedMemory(create=True, size=8)
        process = ctx.Process(target=fill, args=(memory.name,))
        process.start()
        process.join()
        print(process.exitcode, memory.buf[0])
        memory.close()
        memory.unlink()
        with ctx.Pool(2) as pool:
            print(pool.map(double, range(4)))
            try:
                pool.apply(divmod, (1, 0))
            except ZeroDivisionError as error:
                print(type(error.__cause__).__name__)


    if __name__ == '__main__':
        if 'FORGETFUL' not in os.environ:
            procession.freeze_support()
        main(os.environ['METHOD'])
"""
EXPECTED = 'the program runs\n10\n0 7\n[0, 2, 4, 6]\nRemoteTraceback\n'


TOOLS = ['PyInstaller', 'cx_Freeze', pytest.param('nuitka', marks=pytest.mark.limit(2400))]


@pytest.fixture(scope='module', params=TOOLS)
def frozen(request, tmp_path_factory):
    """Returns the path of a program that a tool has frozen, and the tool's name.

    Nuitka compiles for minutes, so it is tested where somebody has installed it by hand.
    """
    pytest.importorskip(request.param)
    folder = tmp_path_factory.mktemp('frozen')
    (folder / 'program.py').write_text(textwrap.dedent(PROGRAM))
    package = pathlib.Path(procession.__file__).parent
    if request.param == 'PyInstaller':
        command = ['-m', 'PyInstaller', '--onedir', '--log-level', 'WARN', 'program.py']
        # Of a package that is installed PyInstaller knows both by itself.
        command += ['--additional-hooks-dir', str(package / '_pyinstaller'), '--paths', str(package.parent)]
        program = 'dist/program/program'
    elif request.param == 'cx_Freeze':
        command = ['-m', 'cx_Freeze', 'build', '--script=program.py', '--build-exe=dist/program']
        command += ['--packages=procession,multiprocessing']
        program = 'dist/program/program'
    else:
        sources = pathlib.Path(multiprocessing.__file__).parent
        command = ['-m', 'nuitka', '--standalone', '--include-package=procession', '--nofollow-import-to=numpy']
        command += [f'--include-raw-dir={sources}=multiprocessing', '--assume-yes-for-downloads', 'program.py']
        program = 'program.dist/program.bin'
    environment = {**os.environ, 'PYINSTALLER_CONFIG_DIR': str(folder / 'cache')}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=2000 if request.param == 'nuitka' else 200,
    )
    assert done.returncode == 0, done.stderr
    return folder / program, request.param


def test_a_frozen_program_starts_processes(frozen, method):
    program, _tool = frozen
    done = _run(program, METHOD=method)
    assert (done.returncode, done.stdout, done.stderr) == (0, EXPECTED, '')


def test_a_frozen_program_that_forgets_its_children_says_so_and_ends(frozen, method):
    program, tool = frozen
    done = _run(program, METHOD=method, FORGETFUL='1')
    if tool != 'PyInstaller' and method == 'fork':
        # The tracker alone is executed, and the programs of these tools do its work themselves.
        assert (done.returncode, done.stdout, done.stderr) == (0, EXPECTED, '')
        return
    # Under `fork` the tracker alone is executed, and the program gets on without it.
    assert done.returncode != 0 or method == 'fork'
    assert 'Call procession.freeze_support() first' in done.stderr
    # Itself, and once in the place of each process that it executed.
    assert 2 <= done.stdout.count('the program runs') <= 6


def test_pyinstaller_finds_the_hook_of_the_package():
    from procession._freezing import get_hook_dirs

    assert [path.name for folder in get_hook_dirs() for path in pathlib.Path(folder).glob('*.py')] == ['hook-procession.py']


def _run(program, **variables):
    return subprocess.run([program], env={**os.environ, **variables}, capture_output=True, text=True, timeout=60)
