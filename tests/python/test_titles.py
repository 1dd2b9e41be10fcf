"""`ps` and `top` show what a child is and what it runs."""

import subprocess
import sys
import textwrap

import pytest

SHOW = '''
    import functools
    import sys

    if {without}:
        sys.modules['setproctitle'] = None

    import procession


    def shown(pid='self'):
        """Returns the name and the title of a process."""
        with open(f'/proc/{{pid}}/comm') as name, open(f'/proc/{{pid}}/cmdline') as title:
            return name.read().rstrip('\\n'), title.read().rstrip('\\0')


    def also_shown(*_):
        return shown()


    def name_oneself(name):
        with open('/proc/self/comm', 'w') as file:
            file.write(name)


    def main(method):
        ctx = procession.get_context(method)
        for name in (None, 'reader'):
            process = ctx.Process(target=shown, name=name)
            process.start()
            print(process.result(30))
        with ctx.Pool(1) as pool:
            for function in (shown, also_shown, shown, functools.partial(also_shown, 1)):
                print(pool.apply(function))
            print(pool.map(also_shown, [1, 2])[1])
        with ctx.Pool(1, name_oneself, ('mine',)) as pool:
            print(pool.apply(shown))
        if method == 'forkserver':
            print(shown(procession.forkserver._forkserver._forkserver_pid))


    if __name__ == '__main__':
        main(sys.argv[1])
'''
KINDS = {'fork': 'ForkProcess', 'spawn': 'SpawnProcess', 'forkserver': 'ForkServerProcess'}


def test_without_the_package_names_say_it(method, tmp_path):
    shown = _shown(tmp_path, method, without=True)
    names = [name for name, _ in shown]
    server = ['fork server'] if method == 'forkserver' else []
    one, other = 'worker 0: shown', 'worker 0: also_'
    assert names == ['Process-1', 'reader', one, other, one, other, other, 'mine', *server]
    # The command lines are what they were.
    assert not any('procession worker' in title or 'procession reader' in title for _, title in shown)


def test_with_the_package_titles_say_it(method, tmp_path):
    pytest.importorskip('setproctitle')
    titles = [title for _, title in _shown(tmp_path, method, without=False)]
    module = '__main__' if method == 'fork' else '__mp_main__'
    server = ['procession fork server'] if method == 'forkserver' else []
    one, other = f'procession worker 0: {module}.shown', f'procession worker 0: {module}.also_shown'
    processes = [f'procession {KINDS[method]}-1: {module}.shown', f'procession reader: {module}.shown']
    assert titles[:7] == [*processes, one, other, one, other, other]
    # It has given itself another name while it was one of ours.
    assert titles[7:] == ['procession worker 0', *server]


def test_a_program_that_names_itself_keeps_its_name_in_forked_children(tmp_path):
    program = """
        import procession

        def name(text=None):
            if text is not None:
                with open('/proc/self/comm', 'w') as file:
                    file.write(text)
            with open('/proc/self/comm') as file:
                return file.read().strip()

        if __name__ == '__main__':
            name('my-daemon')
            ctx = procession.get_context('fork')
            process = ctx.Process(target=name)
            process.start()
            print(process.result(30))
            with ctx.Pool(1) as pool:
                print(pool.apply(name))
    """
    assert _output(tmp_path, program) == 'my-daemon\nmy-daemon\n'


def test_an_object_without_a_name_runs_as_ever(tmp_path):
    program = """
        import procession

        class Strange:
            def __getattr__(self, name):
                if name in ('__qualname__', 'func'):
                    raise RuntimeError('no name')
                raise AttributeError(name)

            def __call__(self):
                with open('/proc/self/comm') as file:
                    return file.read().strip()

        if __name__ == '__main__':
            with procession.get_context('fork').Pool(1) as pool:
                print(pool.apply(Strange()))
            process = procession.get_context('fork').Process(target=Strange())
            process.start()
            print(process.result(30) is not None)
    """
    assert _output(tmp_path, program) in ('worker 0\nTrue\n', 'procession work\nTrue\n')


def _shown(folder, method, without):
    return [eval(line) for line in _output(folder, SHOW.format(without=without), method).splitlines()]


def _output(folder, program, *arguments):
    path = folder / 'program.py'
    path.write_text(textwrap.dedent(program))
    done = subprocess.run([sys.executable, path, *arguments], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, '')
    return done.stdout
