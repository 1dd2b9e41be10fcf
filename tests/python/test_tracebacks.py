"""A program that children cannot import, or an initializer that raises, shows one short traceback,
whose last line says what to do.
"""

import subprocess
import sys
import textwrap

import procession
import pytest

MAX_LINES = 25
ADVICE = "Put the code that starts them under `if __name__ == '__main__':` in the main module"

USES = {
    'pool': 'ctx.Pool(4).map(abs, range(8))',
    'apply': 'ctx.Pool(4).apply(abs, (1,))',
    'executor': """
        from procession.futures import ProcessPoolExecutor
        ProcessPoolExecutor(4, ctx).submit(abs, 1).result()
    """,
    'process': """
        process = ctx.Process(target=abs, args=(1,))
        process.start()
        process.join()
        assert process.exitcode == 1, process.exitcode
    """,
}


@pytest.mark.parametrize('executing', ['spawn', 'forkserver'])
@pytest.mark.parametrize('use', USES)
def test_a_program_without_a_main_guard_is_told_so_once(use, executing, tmp_path):
    program = f'import procession\nctx = procession.get_context({executing!r})\n' + textwrap.dedent(USES[use])
    lines = _stderr(tmp_path, program, fails=use != 'process')
    assert ADVICE in lines[-1]
    assert lines.count('Traceback (most recent call last):') == 1
    assert len(lines) <= MAX_LINES


@pytest.mark.parametrize('call', ['map(abs, range(8))', 'apply(abs, (1,))'])
def test_an_initializer_that_raises_is_shown_once(call, method, tmp_path):
    program = f"""
        import procession

        def look_up(name):
            raise LookupError(f'no {{name}}')

        def begin():
            look_up('licence')

        if __name__ == '__main__':
            procession.get_context({method!r}).Pool(4, begin).{call}
    """
    lines = _stderr(tmp_path, program)
    assert 'LookupError: no licence' in lines[-1]
    assert any('in look_up' in line for line in lines) and any('in begin' in line for line in lines)
    assert lines.count('Traceback (most recent call last):') == 1
    assert len(lines) <= MAX_LINES


def test_a_main_module_that_children_cannot_import_is_told_of(tmp_path):
    program = """
        import sys

        import procession

        if __name__ != '__main__':
            sys.no_such_name

        if __name__ == '__main__':
            procession.get_context('spawn').Pool(4).map(abs, range(8))
    """
    lines = _stderr(tmp_path, program)
    assert "no attribute 'no_such_name'" in lines[-1]
    assert any('sys.no_such_name' in line for line in lines)
    assert len(lines) <= MAX_LINES


def test_what_a_process_could_not_begin_for_is_its_result(tmp_path):
    program = """
        import procession

        if __name__ != '__main__':
            raise LookupError('no licence')

        if __name__ == '__main__':
            process = procession.get_context('spawn').Process(target=abs, args=(1,))
            process.start()
            try:
                process.result(30)
            except LookupError as error:
                print(error)
    """
    (tmp_path / 'program.py').write_text(textwrap.dedent(program))
    done = subprocess.run([sys.executable, 'program.py'], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, 'no licence\n')
    assert done.stderr.splitlines()[-1] == 'LookupError: no licence'


def test_the_cause_of_a_broken_pool_is_what_the_initializer_raised(ctx):
    with pytest.raises(procession.BrokenPoolError, match='ZeroDivisionError: .* make another pool') as caught:
        ctx.Pool(1, divmod, (1, 0)).apply(abs, (1,))
    assert type(caught.value.__cause__) is ZeroDivisionError


def _stderr(folder, program, fails=True):
    (folder / 'program.py').write_text(textwrap.dedent(program))
    done = subprocess.run([sys.executable, 'program.py'], cwd=folder, capture_output=True, text=True, timeout=60)
    assert (done.returncode != 0) == fails and done.stdout == ''
    return done.stderr.splitlines()
