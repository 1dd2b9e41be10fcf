"""An import of procession imports modules and changes nothing else."""

import json
import subprocess
import sys
import textwrap

import pytest
from processes import run

pytestmark = pytest.mark.limit(60)


def test_modules_of_others_are_plain_modules_and_executed(tmp_path):
    done = run(
        tmp_path,
        """
        import json, sys, types
        import procession
        procession.get_context('fork').Lock()
        odd = [name for name, module in list(sys.modules.items())
               if name.partition('.')[0] in ('multiprocessing', 'subprocess')
               and (type(module) is not types.ModuleType or '__builtins__' not in vars(module))]
        print(json.dumps(odd))
    """,
    )
    assert (json.loads(done.stdout), done.stderr) == ([], '')


def test_import_does_not_look_for_the_default_start_method(tmp_path):
    # Without `site`, which may import them for itself.
    done = run(
        tmp_path,
        '''
        import subprocess, sys
        program = """if True:
            import sys
            sys.path[:0] = sys.argv[1].split(':')
            import procession
            print(procession.get_start_method(allow_none=True), [n for n in ('tempfile', 'shutil', 'subprocess') if n in sys.modules])
            print(procession.get_start_method() == procession.get_all_start_methods()[0])
        """
        subprocess.run([sys.executable, '-S', '-c', program, ':'.join(sys.path)], check=True)
    ''',
    )
    assert (done.stdout, done.stderr) == ('None []\nTrue\n', '')


def test_the_pools_module_imports_no_more_of_the_standard_library_than_theirs(tmp_path):
    # Without `site`, which may import them for itself.
    done = run(
        tmp_path,
        """
        import json, subprocess, sys
        program = "import json, sys; sys.path[:0] = sys.argv[2].split(':'); __import__(sys.argv[1]); print(json.dumps(list(sys.modules)))"
        def imported(name):
            return set(json.loads(subprocess.check_output([sys.executable, '-S', '-c', program, name, ':'.join(sys.path)])))
        more = imported('procession.pool') - imported('multiprocessing.pool')
        print(sorted(name for name in more if name.partition('.')[0] != 'procession'))
    """,
    )
    # Some versions of theirs import that one too.
    assert done.stdout in ("['__future__']\n", '[]\n') and done.stderr == ''


def test_import_hooks_of_others_see_no_import_within_theirs(tmp_path):
    done = run(
        tmp_path,
        """
        import importlib.abc, sys

        class Watcher(importlib.abc.MetaPathFinder):
            seen, depth = [], 0

            def find_spec(self, name, path=None, target=None):
                Watcher.depth += 1
                Watcher.seen.append((name, Watcher.depth))
                # A hook that imports for itself, as coverage and debuggers do.
                import multiprocessing.connection
                Watcher.depth -= 1

        import multiprocessing.connection
        sys.meta_path.insert(0, Watcher())
        import procession
        procession.get_context('fork').Lock()
        print(max(depth for _, depth in Watcher.seen), any(name.startswith('procession') for name, _ in Watcher.seen))
    """,
    )
    assert (done.stdout, done.stderr) == ('1 True\n', '')


def test_a_socket_travels_in_a_task_though_none_was_known_before(tmp_path):
    done = run(
        tmp_path,
        """
        import procession

        def greet(end):
            end.sendall(b'hello')

        if __name__ == '__main__':
            with procession.get_context('fork').Pool(1) as pool:
                pool.map(abs, [-1])
                import socket
                ours, theirs = socket.socketpair()
                pool.apply(greet, (theirs,))
                print(ours.recv(9))
    """,
    )
    assert (done.stdout, done.stderr) == ("b'hello'\n", '')


def test_a_pool_without_a_context_has_the_default_one_in_a_program_that_imports_nothing_else(tmp_path):
    done = run(
        tmp_path,
        """
        from procession.pool import Pool

        if __name__ == '__main__':
            with Pool(1) as pool:
                print(pool.map(abs, [-1]))
            import procession
            print(procession.get_start_method(allow_none=True) == procession.get_all_start_methods()[0])
    """,
    )
    assert (done.stdout, done.stderr) == ('[1]\nTrue\n', '')


def test_errors_have_the_names_of_the_modules_where_programs_find_them(tmp_path):
    done = run(
        tmp_path,
        """
        import pickle
        import procession, procession.synchronize

        of_context = [procession.ProcessLost, procession.WorkerLost, procession.TaskTimeoutError, procession.CancelledError,
                      procession.BrokenPoolError]
        for module, kind in [*(('context', kind) for kind in of_context), ('synchronize', procession.synchronize.OwnerDiedError)]:
            assert f'{kind.__module__}.{kind.__qualname__}' == f'procession.{module}.{kind.__name__}', kind
            assert pickle.loads(f'cprocession.{module}\\n{kind.__name__}\\n.'.encode()) is kind
    """,
    )
    assert (done.stdout, done.stderr) == ('', '')


def test_errors_unpickle_by_the_names_of_multiprocessing_where_procession_answers_it(tmp_path):
    (tmp_path / 'aliased.py').write_text(
        textwrap.dedent("""
        import multiprocessing, pickle
        for name in ('ProcessLost', 'WorkerLost', 'TaskTimeoutError', 'TimeoutError', 'AuthenticationError'):
            kind = pickle.loads(f'cmultiprocessing.context\\n{name}\\n.'.encode())
            print(kind is getattr(multiprocessing, name))
    """)
    )
    command = [sys.executable, '-m', 'procession', str(tmp_path / 'aliased.py')]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ('True\n' * 5, '')


def test_the_module_of_the_contexts_names_the_reducer_that_is_set(tmp_path):
    done = run(
        tmp_path,
        """
        import multiprocessing, types
        import procession
        from procession import context, reduction

        print(context.reduction is procession.reducer is reduction)
        other = types.SimpleNamespace(ForkingPickler=reduction.ForkingPickler)
        procession.get_context('spawn').reducer = other
        print(context.reduction is context._default_context.reducer is multiprocessing.context.reduction is other)
    """,
    )
    assert (done.stdout, done.stderr) == ('True\nTrue\n', '')


def test_its_own_modules_are_attributes_of_the_package():
    program = 'import procession; procession.futures.ProcessPoolExecutor; procession.aio.run'
    ran = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, '')
