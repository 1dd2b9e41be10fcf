"""An import of procession changes nothing but what it imports."""

import json

import pytest
from processes import run

pytestmark = pytest.mark.limit(60)


def test_modules_of_others_are_plain_modules_and_executed(tmp_path):
    done = run(tmp_path, '''
        import json, sys, types
        import procession
        procession.get_context('fork').Lock()
        odd = [name for name, module in list(sys.modules.items())
               if name.partition('.')[0] in ('multiprocessing', 'subprocess')
               and (type(module) is not types.ModuleType or '__builtins__' not in vars(module))]
        print(json.dumps(odd))
    ''')
    assert (json.loads(done.stdout), done.stderr) == ([], '')


def test_import_does_not_look_for_the_default_start_method(tmp_path):
    # Without `site`, which may import them for itself.
    done = run(tmp_path, '''
        import subprocess, sys
        program = """if True:
            import sys
            sys.path[:0] = sys.argv[1].split(':')
            import procession
            print(procession.get_start_method(allow_none=True), [n for n in ('tempfile', 'shutil', 'subprocess') if n in sys.modules])
            print(procession.get_start_method() == procession.get_all_start_methods()[0])
        """
        subprocess.run([sys.executable, '-S', '-c', program, ':'.join(sys.path)], check=True)
    ''')
    assert (done.stdout, done.stderr) == ('None []\nTrue\n', '')


def test_import_hooks_of_others_see_no_import_within_theirs(tmp_path):
    done = run(tmp_path, '''
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
    ''')
    assert (done.stdout, done.stderr) == ('1 True\n', '')


def test_a_socket_travels_in_a_task_though_none_was_known_before(tmp_path):
    done = run(tmp_path, '''
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
    ''')
    assert (done.stdout, done.stderr) == ("b'hello'\n", '')
