"""Coverage measures our processes as it measures those of `multiprocessing`."""

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.limit(180)

PROGRAM = """
    import importlib
    import sys


    def answer(is_asked):
        if is_asked:
            answered = 1
        else:
            answered = 2
        return answered


    def double(number):
        if number > 1:
            large = 2 * number
            return large
        return number + number


    def leave(code):
        if code:
            left = code
        sys.exit(left)


    def main(package, method):
        ctx = importlib.import_module(package).get_context(method)
        process = ctx.Process(target=answer, args=(True,))
        process.start()
        process.join()
        assert process.exitcode == 0
        process = ctx.Process(target=leave, args=(3,))
        process.start()
        process.join()
        assert process.exitcode == 3
        pool = ctx.Pool(2)
        assert pool.map(double, range(4)) == [0, 2, 4, 6]
        pool.close()
        pool.join()


    if __name__ == '__main__':
        main(*sys.argv[1:])
"""

CONFIGURATIONS = {
    'hooks': 'concurrency = multiprocessing',
    'environment': 'patch = subprocess',
    'both': 'concurrency = multiprocessing\npatch = subprocess',
}


@pytest.mark.parametrize('configuration', CONFIGURATIONS)
def test_children_are_measured_as_those_of_the_standard_library(method, configuration, tmp_path):
    pytest.importorskip('coverage')
    expected = _measured(tmp_path / 'standard', configuration, [], 'multiprocessing', method)
    if configuration != 'environment':
        # Otherwise the comparison says little.
        assert {'answered = 1', 'large = 2 * number', 'left = code'} <= expected
    assert 'answered = 2' not in expected
    assert _measured(tmp_path / 'ours', configuration, [], 'procession', method) == expected
    # The program names `multiprocessing`, and procession answers.
    assert _measured(tmp_path / 'alias', configuration, ['-m', 'procession'], 'multiprocessing', method) == expected


def test_a_worker_that_a_task_ends_is_measured(method, tmp_path):
    pytest.importorskip('coverage')
    program = """
        import sys
        import procession

        def leave():
            left = 3
            sys.exit(left)

        if __name__ == '__main__':
            with procession.get_context(sys.argv[1]).Pool(1) as pool:
                try:
                    pool.apply(leave)
                except procession.WorkerLost:
                    lost = True
    """
    assert {'left = 3', 'lost = True'} <= _measured(tmp_path, 'hooks', [], method, program=program)


def _measured(folder, configuration, options, *args, program=PROGRAM):
    """Returns the lines of the program that ran in any of its processes, as text."""
    import coverage

    folder.mkdir(exist_ok=True)
    path = folder / 'program.py'
    path.write_text(textwrap.dedent(program))
    (folder / 'settings').write_text(f'[run]\nparallel = true\n{CONFIGURATIONS[configuration]}\n')
    command = [sys.executable, '-m', 'coverage', 'run', '--rcfile=settings', *options, 'program.py', *args]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    command = [sys.executable, '-m', 'coverage', 'combine', '--quiet', '--rcfile=settings']
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    data = coverage.CoverageData(str(folder / '.coverage'))
    data.read()
    lines = path.read_text().splitlines()
    return {lines[number - 1].strip() for number in data.lines(str(path))}
