"""Modules of the standard library that procession leaves unexecuted: what a program, its children and other imports see of them."""

import pytest
from processes import run

pytestmark = pytest.mark.limit(60)

#: The modules that are loaded and were not before procession was imported, of those that cost time and memory.
HEAVY = '''
    import sys
    before = {name for name in sys.modules}
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
        from multiprocessing.connection import wait
        print(is_executed('subprocess'), is_executed('multiprocessing.connection'))
        print(subprocess.run([sys.executable, '-c', 'print(5)'], capture_output=True).stdout)
        reader, writer = procession.Pipe()
        writer.send(1)
        print(wait([reader], 5) == [reader], 'Client' in dir(connection))
        print(isinstance(multiprocessing_pool := procession.Pool(1), __import__('multiprocessing.pool').pool.Pool))
        multiprocessing_pool.terminate()
        print(is_executed('subprocess'), is_executed('multiprocessing.connection'))
    ''') == ['False False', "b'5\\n'", 'True True', 'True', 'True True']


def test_what_is_set_or_deleted_before_the_first_use_stays_so(tmp_path):
    assert seen(tmp_path, '''
    if __name__ == '__main__':
        import procession.context
        import subprocess
        import multiprocessing.connection
        subprocess._USE_VFORK = 'mine'
        del multiprocessing.connection.Client
        print(subprocess.PIPE, subprocess._USE_VFORK, hasattr(multiprocessing.connection, 'Client'))
        print(hasattr(multiprocessing.connection, 'Listener'))
    ''') == ['-1 mine False', 'True']


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
