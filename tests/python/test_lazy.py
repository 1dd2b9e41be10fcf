"""Modules of the standard library that procession leaves unexecuted: what a program, its children and other imports see of them."""

import pytest
from processes import run

pytestmark = pytest.mark.limit(60)

#: The modules that are loaded and were not before procession was imported, of those that cost time and memory.
HEAVY = '''
    import sys
    before = set(sys.modules)
    import procession

    def heavy():
        names = 'socket', 'pickle', 'selectors', 'tempfile', 'procession.context', 'subprocess', 'multiprocessing.reduction'
        return [name for name in names if name not in before and is_executed(name)]

    def is_executed(name):
        return '__builtins__' in vars(sys.modules[name]) if name in sys.modules else False
'''


def seen(tmp_path, program, *arguments):
    done = run(tmp_path, HEAVY + program, *arguments)
    assert done.stderr == ''
    return done.stdout.splitlines()


def test_a_forked_process_needs_little_of_the_standard_library(tmp_path):
    assert seen(tmp_path, '''
    if __name__ == '__main__':
        process = procession.get_context('fork').Process(target=heavy)
        process.start()
        print(heavy(), process.result())
    ''') == ["['procession.context'] ['procession.context']"]


def test_a_pool_by_fork_needs_little_of_the_standard_library(tmp_path):
    assert seen(tmp_path, '''
    if __name__ == '__main__':
        with procession.get_context('fork').Pool(1) as pool:
            print(pool.apply(heavy), pool.map(abs, [-1]), heavy())
    ''') == ["['procession.context'] [1] ['procession.context']"]


def test_a_spawned_child_needs_little_of_the_standard_library(tmp_path):
    assert seen(tmp_path, '''
    def late():
        import multiprocessing
        return multiprocessing.get_start_method(), multiprocessing.reduction.ForkingPickler.__name__

    if __name__ == '__main__':
        context = procession.get_context('spawn')
        for target in (heavy, late):
            process = context.Process(target=target)
            process.start()
            print(process.result())
    ''') == ['[]', "('spawn', 'ForkingPickler')"]


def test_a_socket_travels_in_a_task_though_none_was_known_before(tmp_path):
    assert seen(tmp_path, '''
    def greet(end):
        end.sendall(b'hello')

    if __name__ == '__main__':
        with procession.get_context('fork').Pool(1) as pool:
            pool.map(abs, [-1])
            import socket
            ours, theirs = socket.socketpair()
            pool.apply(greet, (theirs,))
            print(ours.recv(9))
    ''') == ["b'hello'"]


def test_a_module_executes_for_whoever_uses_it(tmp_path):
    assert seen(tmp_path, '''
    if __name__ == '__main__':
        import procession.pool
        import subprocess
        from multiprocessing import connection
        print(is_executed('subprocess'), is_executed('multiprocessing.connection'))
        from multiprocessing.connection import wait
        print(subprocess.run([sys.executable, '-c', 'print(5)'], capture_output=True).stdout)
        reader, writer = procession.Pipe()
        writer.send(1)
        print(wait([reader], 5) == [reader], 'Client' in dir(connection))
        print(wait is connection.wait)
        print(is_executed('subprocess'), is_executed('multiprocessing.connection'))
    ''') == ['False False', "b'5\\n'", 'True True', 'True', 'True True']


def test_what_is_set_or_deleted_before_the_first_use_stays_so(tmp_path):
    assert seen(tmp_path, '''
    if __name__ == '__main__':
        import procession.context
        import subprocess
        import multiprocessing.connection
        subprocess._USE_VFORK = 'mine'
        multiprocessing.connection.tempfile = sys
        del multiprocessing.connection.Client
        print(subprocess.PIPE, subprocess._USE_VFORK, hasattr(multiprocessing.connection, 'Client'))
        print(hasattr(multiprocessing.connection, 'Listener'), multiprocessing.connection.tempfile is sys)
    ''') == ['-1 mine False', 'True True']


def test_functions_that_use_an_unused_module_go_by_value(tmp_path):
    pytest.importorskip('cloudpickle')
    assert seen(tmp_path, '''
    if __name__ == '__main__':
        with procession.get_context('fork').Pool(1) as pool:
            import subprocess
            print(is_executed('subprocess'), pool.apply(lambda: subprocess.PIPE))
    ''') == ['False -1']


def test_a_patched_function_can_call_and_give_way_to_the_original(tmp_path):
    assert seen(tmp_path, '''
    if __name__ == '__main__':
        import procession.pool
        import multiprocessing.pool
        import unittest.mock
        from multiprocessing import connection
        original = connection.wait
        connection.wait = lambda *args: original(*args)
        print(connection.wait([], 0))
        connection.wait = original
        with unittest.mock.patch('multiprocessing.connection.wait'):
            pass
        print(connection.wait([], 0), multiprocessing.pool.wait([], 0))
    ''') == ['[]', '[] []']


def test_a_finder_that_watches_a_module_is_asked_for_it(tmp_path):
    done = run(tmp_path, '''
        import importlib.machinery, sys

        class Loader(importlib.machinery.SourceFileLoader):
            def exec_module(self, module):
                super().exec_module(module)
                print('watched', module.__name__)

        class Finder:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if name != 'subprocess':
                    return None
                spec = importlib.machinery.PathFinder.find_spec(name, path)
                spec.loader = Loader(name, spec.origin)
                return spec

        sys.modules.pop('subprocess', None)
        sys.meta_path.insert(0, Finder)
        import procession.context
        import subprocess
        subprocess.PIPE
    ''')
    assert (done.stdout, done.stderr) == ('watched subprocess\n', '')


def test_a_reloaded_module_is_not_executed_again(tmp_path):
    assert seen(tmp_path, '''
    if __name__ == '__main__':
        import importlib
        import procession.context
        import subprocess
        importlib.reload(subprocess)
        error = subprocess.CalledProcessError
        print(hasattr(subprocess, 'STARTUPINFO'), subprocess.CalledProcessError is error, type(subprocess) is type(sys))
    ''') == ['False True True']


def test_another_thread_does_not_see_half_a_module(tmp_path):
    assert seen(tmp_path, '''
    if __name__ == '__main__':
        import threading
        import procession.context
        import multiprocessing.connection as connection
        begun, go, loader = threading.Event(), threading.Event(), connection.__spec__.loader

        class Slow:
            def exec_module(self, module):
                module.BUFSIZE = 0
                begun.set()
                go.wait()
                loader.exec_module(module)

        connection.__spec__.loader = Slow()
        threading.Thread(target=lambda: connection.Client).start()
        begun.wait()
        seen = []
        other = threading.Thread(target=lambda: seen.append(connection.BUFSIZE))
        other.start()
        other.join(0.2)
        print(seen)
        go.set()
        other.join()
        print(seen)
    ''') == ['[]', '[8192]']


def test_loading_and_importing_what_it_imports_do_not_wait_for_each_other(tmp_path):
    assert seen(tmp_path, '''
    if __name__ == '__main__':
        import threading
        import procession.process
        begin = threading.Barrier(2)

        def load():
            begin.wait()
            sys.modules['multiprocessing.resource_tracker'].register

        def import_it():
            begin.wait()
            import multiprocessing.spawn

        threads = [threading.Thread(target=target) for target in (load, import_it)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print('both')
    ''') == ['both']


def test_an_interrupted_load_begins_anew(tmp_path):
    assert seen(tmp_path, '''
    if __name__ == '__main__':
        import procession.context
        import multiprocessing.connection as connection
        loader = connection.__spec__.loader

        class Interrupted:
            def exec_module(self, module):
                connection.__spec__.loader = loader
                module.Client = 'half'
                raise KeyboardInterrupt

        connection.__spec__.loader = Interrupted()
        try:
            connection.Client
        except KeyboardInterrupt:
            print(is_executed('multiprocessing.connection'))
        print(connection.Client.__name__)
    ''') == ['False', 'Client']


def test_callbacks_at_exit_run_in_the_order_of_the_imports(tmp_path):
    assert seen(tmp_path, '''
    if __name__ == '__main__':
        import atexit
        from procession.pool import Pool

        @atexit.register
        def late():
            print(pool.apply(abs, (-1,)))
            pool.close()
            pool.join()

        pool = Pool(1)
    ''') == ['1']


def test_a_partial_travels_without_attributes_of_its_own_whether_sockets_are_known_or_not(tmp_path):
    assert seen(tmp_path, '''
    import functools, threading

    def asked(partial):
        return partial('101'), vars(partial)

    if __name__ == '__main__':
        partial = functools.partial(int, base=2)
        partial.lock = threading.Lock()
        with procession.get_context('fork').Pool(1) as pool:
            print(pool.apply(asked, (partial,)))
            import socket
            print(pool.apply(asked, (partial,)))
    ''') == ['(5, {})', '(5, {})']


def test_what_was_imported_before_is_left_alone(tmp_path):
    done = run(tmp_path, '''
        import subprocess, sys, multiprocessing.connection
        known = {name: module for name, module in sys.modules.items() if name.startswith('multiprocessing') or name == 'subprocess'}
        import procession.pool
        print(all(sys.modules[name] is module and type(module) is type(sys) for name, module in known.items()))
    ''')
    assert (done.stdout, done.stderr) == ('True\n', '')


def test_a_child_that_is_forked_while_a_thread_loads_loads_for_itself(tmp_path):
    assert seen(tmp_path, '''
    if __name__ == '__main__':
        import os, threading
        import procession.context
        import multiprocessing.connection as connection
        begun, go, loader, parent = threading.Event(), threading.Event(), connection.__spec__.loader, os.getpid()

        class Slow:
            def exec_module(self, module):
                if os.getpid() == parent:
                    begun.set()
                    go.wait()
                loader.exec_module(module)

        connection.__spec__.loader = Slow()
        thread = threading.Thread(target=lambda: connection.Client)
        thread.start()
        begun.wait()
        pid = os.fork()
        if pid == 0:
            os._exit(0 if connection.Client.__name__ == 'Client' else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        go.set()
        thread.join()
        print(connection.Client.__name__)
    ''') == ['0', 'Client']


def test_a_module_that_fails_to_execute_is_executed_again_by_the_next_use(tmp_path):
    assert seen(tmp_path, '''
    if __name__ == '__main__':
        import procession.context
        import multiprocessing.connection as connection
        sys.modules['tempfile'] = None
        try:
            connection.Client
        except ImportError as error:
            print(error.name)
        del sys.modules['tempfile']
        print(connection.Client.__name__)
    ''') == ['tempfile', 'Client']
