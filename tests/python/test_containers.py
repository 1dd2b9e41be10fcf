"""A program that is process 1 of a container, which inherits orphans that nobody else reaps."""

import functools
import shutil
import subprocess
import sys
import textwrap

import pytest
from processes import METHODS, PATIENCE

pytestmark = pytest.mark.limit(120)

IN_CONTAINER = ['unshare', '--pid', '--fork', '--mount-proc']

PROGRAM = """
    import contextlib, os, sys
    import procession

    def use_manager(method):
        with procession.get_context(method).Manager() as manager:
            numbers = manager.list([1])
            numbers.append(2)
            return list(numbers)

    def keep_manager(method):
        global kept
        kept = procession.get_context(method).Manager()
        return list(kept.list([1]))

    def use_pool(method):
        with procession.get_context(method).Pool(2) as pool:
            return pool.map(abs, [-1])

    def others():
        found = []
        for name in os.listdir('/proc'):
            if name.isdigit() and int(name) != os.getpid():
                # It may end meanwhile.
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    with open(f'/proc/{name}/stat') as file:
                        found.append(file.read())
        return found

    if __name__ == '__main__':
        assert os.getpid() == 1
        outer, inner = sys.argv[1:]
        for target in (use_manager, keep_manager, use_pool):
            process = procession.get_context(outer).Process(target=target, args=(inner,))
            process.start()
            process.join()
            assert process.exitcode == 0 and process.result(), process
        from procession import forkserver
        forkserver._forkserver._stop()
        print(others())
"""


@functools.cache
def refusal():
    """Returns why no container can be made here, or nothing."""
    if shutil.which('unshare') is None:
        return 'there is no unshare here'
    done = subprocess.run([*IN_CONTAINER, 'true'], capture_output=True, text=True, timeout=PATIENCE)
    return f'this user may not make a container: {done.stderr.strip()}' if done.returncode else ''


@pytest.mark.parametrize('inner', METHODS)
@pytest.mark.parametrize('outer', METHODS)
def test_a_child_with_a_manager_or_a_pool_leaves_no_process_behind(outer, inner, tmp_path):
    if refusal():
        pytest.skip(refusal())
    path = tmp_path / 'program.py'
    path.write_text(textwrap.dedent(PROGRAM))
    command = [*IN_CONTAINER, sys.executable, str(path), outer, inner]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.stdout, done.stderr) == ('[]\n', '')
