"""``python -m procession``: it runs unmodified programs, and the standard library's tests really
run on procession.
"""

import ast
import json
import pathlib
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).parents[2]

#: Prints what a program can see of how it was started.
ASKED = textwrap.dedent("""
    import os, sys
    main = sys.modules['__main__']
    spec = main.__spec__
    print({
        'argv': sys.argv, 'path': sys.path[:1], 'name': __name__, 'is main': main.__dict__ is globals(),
        'file': main.__dict__.get('__file__'), 'package': __package__, 'doc': __doc__,
        'cached': '__cached__' in globals(),
        'spec': spec and (spec.name, spec.origin, type(spec.loader).__name__),
        'loader': getattr(__loader__, '__name__', None) or type(__loader__).__name__,
        'builtins': type(__builtins__).__name__, 'annotations': globals().get('__annotations__'),
    })
""")

#: Its children need its function, and print whose `multiprocessing` they see, and from which module
#: the function came.
PARALLEL = textwrap.dedent("""
    import sys
    import multiprocessing
    import multiprocessing.pool

    def seen(x):
        return x, multiprocessing.__name__, multiprocessing.pool.Pool.__module__, seen.__module__

    if __name__ == '__main__':
        context = multiprocessing.get_context(sys.argv[1])
        with context.Pool(1) as pool:
            print(pool.map(seen, [1, 2]))
""")


#: Offers what the fork context makes to children of another start method, and prints what is
#: refused.
MIXED = textwrap.dedent("""
    import sys
    import multiprocessing

    def nothing(what):
        pass

    if __name__ == '__main__':
        fork, other = multiprocessing.get_context('fork'), multiprocessing.get_context(sys.argv[1])
        made = ('Lock', 'Semaphore', 'Condition', 'Event', 'Queue', 'JoinableQueue', 'SimpleQueue')
        for what in [*(getattr(fork, name)() for name in made), fork.Barrier(1), fork.Value('i'), fork.Pipe()]:
            process = other.Process(target=nothing, args=(what,))
            try:
                process.start()
            except RuntimeError as error:
                print(type(what).__name__, str(error)[:70])
            else:
                process.join()
                print(type(what).__name__, process.exitcode)
""")


def run(*arguments, cwd, check=True, flags=()):
    return subprocess.run(
        [sys.executable, *flags, *arguments],
        cwd=cwd,
        text=True,
        check=check,
        timeout=50,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )


@pytest.fixture
def programs(tmp_path):
    """Returns a folder with a script, a link to it, a module in a package, and a folder with a main
    module.
    """
    for name in ('script.py', 'package/module.py', 'package/__init__.py', 'folder/__main__.py', 'elsewhere/script.py'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('' if path.stem == '__init__' else ASKED)
    (tmp_path / 'link.py').symlink_to(tmp_path / 'elsewhere' / 'script.py')
    return tmp_path


@pytest.mark.parametrize('flags', [(), ('-P',)], ids=['', 'safe path'])
@pytest.mark.parametrize(
    'program',
    [
        ['script.py', 'a', '-m'],
        ['./package/module.py'],
        ['link.py'],
        ['-m', 'package.module', 'a', '-c'],
        ['folder', 'a'],
        ['-m', 'folder'],
        ['-c', ASKED, 'a', '-h'],
    ],
    ids=['script', 'path', 'link', 'module', 'folder', 'package', 'code'],
)
def test_a_program_is_started_as_by_python(program, flags, programs):
    plain = run(*program, cwd=programs, flags=flags, check=False)
    aliased = run('-m', 'procession', *program, cwd=programs, flags=flags, check=False)
    # With -P, Python finds no module in the current folder: the error is the same then.
    assert aliased.stderr == plain.stderr
    assert aliased.returncode == plain.returncode
    assert aliased.stdout == plain.stdout
    if plain.returncode == 0:
        assert ast.literal_eval(aliased.stdout)['is main']


@pytest.mark.parametrize('other', ['spawn', 'forkserver'])
def test_fork_objects_are_refused_to_other_methods_as_by_the_original_and_accepted_by_procession(other, tmp_path):
    (tmp_path / 'script.py').write_text(MIXED)
    plain = run('script.py', other, cwd=tmp_path)
    aliased = run('-m', 'procession', 'script.py', other, cwd=tmp_path)
    assert aliased.stdout == plain.stdout
    assert plain.stdout.count('A SemLock created in a fork context') == 9
    (tmp_path / 'script.py').write_text(MIXED.replace('import multiprocessing', 'import procession as multiprocessing'))
    assert 'SemLock' not in run('script.py', other, cwd=tmp_path).stdout


def test_children_of_every_method_see_procession_and_the_main_module(method, tmp_path):
    (tmp_path / 'script.py').write_text(PARALLEL)
    for program in (['script.py'], ['-m', 'script']):
        answer = run('-m', 'procession', *program, method, cwd=tmp_path)
        # A child of fork has the program's own main module; others have imported it.
        main = '__main__' if method == 'fork' else '__mp_main__'
        assert ast.literal_eval(answer.stdout) == [(x, 'procession', 'procession.pool', main) for x in (1, 2)]
        assert answer.stderr == ''


def test_without_it_the_standard_library_answers(tmp_path):
    (tmp_path / 'script.py').write_text(PARALLEL)
    answer = run('script.py', 'fork', cwd=tmp_path)
    assert ast.literal_eval(answer.stdout)[0][1:3] == ('multiprocessing', 'multiprocessing.pool')


def test_an_exception_is_shown_as_python_shows_it(tmp_path):
    (tmp_path / 'script.py').write_text('def f():\n    return 1 / 0\n\nf()\n')
    plain = run('script.py', cwd=tmp_path, check=False)
    aliased = run('-m', 'procession', 'script.py', cwd=tmp_path, check=False)
    assert (aliased.returncode, aliased.stdout, aliased.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    assert aliased.returncode == 1 and 'ZeroDivisionError' in aliased.stderr


@pytest.mark.parametrize('code', ['import sys; sys.exit(7)', 'raise SystemExit("told")', 'raise KeyboardInterrupt'])
def test_an_exit_code_is_the_program_s(code, tmp_path):
    plain = run('-c', code, cwd=tmp_path, check=False)
    assert run('-m', 'procession', '-c', code, cwd=tmp_path, check=False).returncode == plain.returncode != 0


@pytest.mark.parametrize('program', [['missing.py'], ['-m', 'missing']])
def test_missing_program_is_reported_as_by_python(program, tmp_path):
    plain = run(*program, cwd=tmp_path, check=False)
    aliased = run('-m', 'procession', *program, cwd=tmp_path, check=False)
    assert (aliased.returncode, aliased.stderr) == (plain.returncode, plain.stderr)


@pytest.mark.parametrize('arguments', [[], ['-x'], ['-c'], ['-m']])
def test_a_command_line_without_a_program_is_an_error(arguments, tmp_path):
    answer = run('-m', 'procession', *arguments, cwd=tmp_path, check=False)
    assert answer.returncode == 2 and answer.stderr.startswith('usage: ')


def test_modules_answer_by_both_names_and_the_original_lives_on(tmp_path):
    code = textwrap.dedent("""
        import concurrent.futures.process, pickle, sys
        import multiprocessing, multiprocessing.connection, multiprocessing.dummy.connection, multiprocessing.managers
        import multiprocessing.util
        import procession
        from procession import _standard
        assert multiprocessing is procession and multiprocessing.managers is procession.managers
        assert sys.modules['multiprocessing.dummy.connection'] is procession.dummy.connection
        assert concurrent.futures.process.mp is procession
        # One state for both packages.
        assert multiprocessing.util is _standard.standard('util')
        assert multiprocessing.connection.Connection is _standard.standard('connection').Connection
        # Loaded after, and apart.
        assert _standard.standard('pool').__name__ == 'multiprocessing.pool'
        assert _standard.standard('pool') is _standard.standard('pool') is not procession.pool
        assert issubclass(procession.pool.Pool, _standard.standard('pool').Pool)
        try:
            import multiprocessing.nothing
        except ModuleNotFoundError as error:
            assert error.name == 'multiprocessing.nothing', error
        else:
            raise AssertionError('there is no such module')
        key = multiprocessing.current_process().authkey
        assert pickle.loads(pickle.dumps(multiprocessing.TimeoutError)) is multiprocessing.TimeoutError
    """)
    assert run('-m', 'procession', '-c', code, cwd=tmp_path).stderr == ''


def test_modules_that_were_loaded_before_know_procession_by_the_same_names(tmp_path):
    code = textwrap.dedent("""
        import types, sys
        import multiprocessing as mp
        from multiprocessing import connection
        before = sys.modules['before'] = types.ModuleType('before')
        before.mp, before.connection, before.other = mp, connection, types
        from procession import _alias
        import procession
        assert before.mp is not procession
        _alias.install()
        _alias.install()
        assert before.mp is procession and before.connection is procession.connection and before.other is types
        assert sum(finder is _alias._Finder for finder in sys.meta_path) == 1
    """)
    assert run('-c', code, cwd=tmp_path).stderr == ''


@pytest.mark.limit(180)
def test_the_standard_librarys_tests_notice_a_broken_map(tmp_path):
    """The conformance run tests this package: a broken `Pool.map` fails the test of `map`, and no
    other.
    """
    pytest.importorskip('test._test_multiprocessing', reason='this Python comes without its tests')
    pattern = 'WithProcessesTestPool.test_[aims]*'
    outcomes = {}
    for broken in (['--break', 'Pool.map'], []):
        answer = subprocess.run(
            [
                sys.executable,
                ROOT / 'tests' / 'conformance' / 'run.py',
                '--method',
                'fork',
                '-k',
                pattern,
                *broken,
                '--results',
                tmp_path,
            ],
            text=True,
            timeout=170,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        [result] = tmp_path.glob('*.json')
        tests = json.loads(result.read_text())['tests']
        outcomes[bool(broken)] = {name: test['outcome'] for name, test in tests.items()}
        assert (answer.returncode != 0) == bool(broken), answer.stdout
    failed = {name for name, outcome in outcomes[True].items() if outcome == 'failed'}
    assert failed == {'WithProcessesTestPool.test_map'}
    assert 'failed' not in outcomes[False].values()
    assert outcomes[True].keys() == outcomes[False].keys() and len(outcomes[True]) > 10
