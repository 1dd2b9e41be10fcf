"""Programs that were started with a standard stream closed (`program >&-`): none of the engine's
file descriptors has its number, in the program and in its children, so that nothing printed gets
into them.
"""

import subprocess
import sys
import textwrap

import pytest
from waits import SCALE

PROGRAM = """
    import ctypes
    import os
    import sys
    import procession
    from procession.shared_memory import SharedMemory

    def streams():
        'Which file has the number of each standard stream, or None.'
        files = []
        for number in range(3):
            try:
                files.append(os.readlink(f'/proc/self/fd/{number}'))
            except FileNotFoundError:
                files.append(None)
        return files

    def print_much():
        'As C code prints that knows nothing of closed streams.'
        libc = ctypes.CDLL(None)
        libc.printf(b'x' * 20000)
        libc.fflush(None)
        for number in (1, 2):
            try:
                os.write(number, b'x' * 20000)
            except OSError:
                pass

    # The kinds of files that the engine, or the package, makes.
    KINDS = ['memfd', 'socket', 'anon_inode', 'pipe', '/dev/']

    def work(x):
        print_much()
        return x + 1, streams()

    def child(queue, lock, event, numbers, name):
        event.wait()
        with lock:
            print_much()
            numbers[0] += 1
            block = SharedMemory(name)
            block.buf[0] += 1
            block.close()
        queue.put(streams())

    def main(method, closed, kind):
        ctx = procession.get_context(method)
        seen = []
        if kind == 'pool':
            with ctx.Pool(2) as pool:
                for x, (y, files) in enumerate(pool.map(work, range(20), chunksize=1)):
                    assert y == x + 1
                    seen.append(files)
                print_much()
                y, files = pool.apply(work, (1,))
                seen += [files, streams()]
        elif kind == 'processes':
            block = SharedMemory(create=True, size=8)
            numbers = ctx.Array('q', 2)
            queue, lock, event = ctx.Queue(), ctx.Lock(), ctx.Event()
            arguments = queue, lock, event, numbers, block.name
            children = [ctx.Process(target=child, args=arguments) for _ in range(2)]
            for process in children:
                process.start()
            print_much()
            event.set()
            seen += [queue.get(timeout=40), queue.get(timeout=40), streams()]
            for process in children:
                process.join()
                assert process.exitcode == 0, process.exitcode
            assert list(numbers) == [2, 0] and bytes(block.buf[:8]) == bytes([2] + 7 * [0])
            block.close()
            block.unlink()
        for files in seen:
            # Another library may have taken it: libffi keeps its own file open.
            assert not any(kind in (files[closed] or '') for kind in KINDS), files
            assert not any('memfd' in (file or '') or 'socket' in (file or '') for file in files), files
        return 'all is well'

    if __name__ == '__main__':
        method, closed, kind, verdict = sys.argv[1:]
        try:
            said = main(method, int(closed), kind)
        except BaseException:
            import traceback
            said = traceback.format_exc()
        with open(verdict, 'w') as file:
            file.write(said)
"""


@pytest.mark.parametrize('kind', ['pool', 'processes'])
@pytest.mark.parametrize('redirection', ['0<&-', '1>&-', '2>&-'])
def test_nothing_of_the_engine_has_the_number_of_a_closed_stream(method, redirection, kind, tmp_path):
    path, verdict = tmp_path / 'program.py', tmp_path / 'verdict'
    path.write_text(textwrap.dedent(PROGRAM))
    shell = f'exec "$@" {redirection}'
    command = ['sh', '-c', shell, 'sh', sys.executable, str(path), method, redirection[0], kind, str(verdict)]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=50 * SCALE, check=False)
    assert verdict.exists(), (ended.returncode, ended.stderr[-2000:])
    assert verdict.read_text() == 'all is well'
    assert ended.returncode == 0
