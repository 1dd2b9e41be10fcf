"""Shared memory through the public API: the owner of a block, and what is left of it when processes
end or are killed.
"""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time

import procession as mp
import pytest
from procession import heap, resource_tracker, shared_memory
from procession.managers import SharedMemoryManager
from procession.shared_memory import ShareableList, SharedMemory
from waits import until


@pytest.fixture
def block():
    block = SharedMemory(create=True, size=100)
    yield block
    block.close()
    if exists(block.name):
        block.unlink()


def exists(name):
    return os.path.exists(f'/dev/shm/{name}')


def wait_until_gone(name):
    until(lambda: not exists(name))


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, '-c', textwrap.dedent(code), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _write(name_or_block):
    block = SharedMemory(name_or_block) if isinstance(name_or_block, str) else name_or_block
    block.buf[0] += 1
    block.close()


def test_processes_share_a_block(ctx, block):
    for argument in (block.name, block):
        process = ctx.Process(target=_write, args=(argument,))
        process.start()
        process.join()
        assert process.exitcode == 0
    assert block.buf[0] == 2 and exists(block.name)


def test_the_life_of_a_name():
    block = SharedMemory(create=True, size=10)
    assert block.size == 10 == len(block.buf) and block.name.startswith('psm_')
    assert repr(block) == f'SharedMemory({block.name!r}, size=10)'
    with pytest.raises(FileExistsError):
        SharedMemory(block.name, create=True, size=10)
    block.buf[:] = b'0123456789'
    other = pickle.loads(pickle.dumps(block))
    assert bytes(other.buf) == b'0123456789'
    other.close()
    assert other.buf is None
    block.unlink()
    assert block.buf[3] == ord('3')
    with pytest.raises(FileNotFoundError):
        block.unlink()
    with pytest.raises(FileNotFoundError):
        SharedMemory(block.name)
    block.close()


@pytest.mark.parametrize(
    'arguments, error',
    [
        ({'create': True}, ValueError),
        ({'create': True, 'size': -1}, ValueError),
        ({}, ValueError),
        ({'name': 'a/b', 'create': True, 'size': 1}, OSError),
        ({'name': '', 'create': True, 'size': 1}, OSError),
        ({'name': 'a\0b', 'create': True, 'size': 1}, ValueError),
        ({'name': 'a\0b'}, ValueError),
        ({'name': 'a/b'}, OSError),
        ({'name': 'x' * 300, 'create': True, 'size': 1}, OSError),
        ({'name': 'not there'}, FileNotFoundError),
    ],
)
def test_wrong_arguments_are_refused(arguments, error):
    before = set(os.listdir('/dev/shm'))
    with pytest.raises(error):
        SharedMemory(**arguments)
    assert not {name for name in set(os.listdir('/dev/shm')) - before if name.startswith(('a', 'x'))}


def test_the_standard_library_and_we_attach_to_each_others(block):
    block.buf[0] = 9
    reader = start(
        """
        import sys
        from multiprocessing import resource_tracker, shared_memory
        block = shared_memory.SharedMemory(sys.argv[1])
        # As everybody does who knows of the standard library's fault.
        resource_tracker.unregister(block._name, 'shared_memory')
        print(block.buf[0])
        block.close()
        mine = shared_memory.SharedMemory(create=True, size=5)
        mine.buf[0] = 8
        print(mine.name, flush=True)
        sys.stdin.read()
        mine.unlink()
    """,
        block.name,
    )
    assert int(reader.stdout.readline()) == 9
    other = SharedMemory(reader.stdout.readline().strip())
    assert other.buf[0] == 8
    other.close()
    reader.kill()
    reader.communicate()
    wait_until_gone(other.name)
    assert exists(block.name)


READER = """
    import sys
    from procession import resource_tracker
    from procession.shared_memory import SharedMemory
    block = SharedMemory(sys.argv[1])
    block.buf[0] = 7
    if sys.argv[2] == 'unregisters':
        resource_tracker.unregister(block._name, 'shared_memory')
    if sys.argv[2] == 'makes one too':
        mine = SharedMemory(create=True, size=1)
        mine.close()
        mine.unlink()
"""


@pytest.mark.parametrize('how', ['plainly', 'unregisters', 'makes one too'])
def test_a_readers_end_is_no_event(block, how):
    reader = start(READER, block.name, how)
    assert reader.communicate() == ('', '') and reader.returncode == 0
    assert block.buf[0] == 7 and exists(block.name)
    SharedMemory(block.name).close()


MADE_BY_A_CHILD = """
    import os, sys
    import procession as mp
    from procession import shared_memory

    def make(queue):
        block = shared_memory.SharedMemory(create=True, size=10)
        block.buf[0] = 5
        block.close()
        # A tracker of its own would unlink the block once it has ended.
        children = [open(f'/proc/self/task/{task}/children').read() for task in os.listdir('/proc/self/task')]
        queue.put((block.name, ''.join(children)))

    if __name__ == '__main__':
        ctx = mp.get_context(sys.argv[1])
        queue = ctx.Queue()
        process = ctx.Process(target=make, args=(queue,))
        process.start()
        name, trackers = queue.get()
        process.join()
        assert trackers == '', trackers
        block = shared_memory.SharedMemory(name)
        print(block.buf[0])
        block.close()
        block.unlink()
"""


def test_block_of_a_child_outlives_it(tmp_path, method):
    program = tmp_path / 'program.py'
    program.write_text(textwrap.dedent(MADE_BY_A_CHILD))
    ran = subprocess.run([sys.executable, program, method], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ('5\n', '')


UNLINKED_BY_A_CHILD = """
    import procession as mp
    from procession.shared_memory import SharedMemory

    def unlink(name):
        block = SharedMemory(name)
        block.close()
        block.unlink()

    ctx = mp.get_context('fork')
    block = SharedMemory(create=True, size=10)
    process = ctx.Process(target=unlink, args=(block.name,))
    process.start()
    process.join()
    block.close()
    try:
        SharedMemory(block.name)
    except FileNotFoundError:
        print('gone')
"""


def test_a_child_may_unlink():
    program = start(UNLINKED_BY_A_CHILD)
    assert program.communicate() == ('gone\n', '')


KILLED = """
    import os, sys, time
    import procession as mp
    from procession.shared_memory import SharedMemory

    def hold(name):
        block = SharedMemory(name)
        print(os.getpid(), flush=True)
        time.sleep(100)

    block = SharedMemory(create=True, size=10)
    print(block.name, flush=True)
    process = mp.get_context('fork').Process(target=hold, args=(block.name,))
    process.start()
    time.sleep(100)
"""


def test_killing_everybody_leaves_nothing():
    program = start(KILLED)
    name = program.stdout.readline().strip()
    child = int(program.stdout.readline())
    assert exists(name)
    program.kill()
    os.kill(child, signal.SIGKILL)
    _, told = program.communicate()
    wait_until_gone(name)
    assert 'There appear to be 1 leaked shared_memory objects to clean up at shutdown' in told


CREATES = """
    import sys
    from procession.shared_memory import SharedMemory
    print('ready', flush=True)
    while True:
        block = SharedMemory(sys.argv[1] + str(id(block) if 'block' in globals() else 0), create=True, size=4096)
        block.close()
        block.unlink()
"""


def test_no_moment_to_be_killed_in_leaves_a_block():
    prefix = f'storm{os.getpid()}_'
    for round in range(12):
        program = start(CREATES, prefix)
        assert program.stdout.readline() == 'ready\n'
        time.sleep(0.03 + 0.007 * round)
        program.kill()
        program.communicate()
        until(lambda: not any(name.startswith(prefix) for name in os.listdir('/dev/shm')))


UNTRACKED = """
    from procession.shared_memory import SharedMemory
    block = SharedMemory(create=True, size=10, track=False)
    print(block.name)
"""


def test_an_untracked_block_stays():
    program = start(UNTRACKED)
    name, told = program.communicate()
    block = SharedMemory(name.strip())
    block.unlink()
    block.close()
    assert told == ''


TRACKER_KILLED = """
    import os, signal, sys, warnings
    from procession.resource_tracker import _resource_tracker as tracker
    from procession.shared_memory import SharedMemory
    warnings.simplefilter('ignore')
    first = SharedMemory(create=True, size=10)
    os.kill(tracker._pid, signal.SIGKILL)
    os.waitid(os.P_PID, tracker._pid, os.WEXITED | os.WNOWAIT)
    second = SharedMemory(create=True, size=10)
    print(first.name, second.name, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_trackers_successor_knows_all():
    program = start(TRACKER_KILLED)
    names, told = program.communicate()
    for name in names.split():
        wait_until_gone(name)
    assert len(names.split()) == 2 and '2 leaked shared_memory objects' in told


def test_lists(ctx):
    shared = ShareableList(['a', b'b', 1, 2.5, None, True])
    process = ctx.Process(target=_change, args=(shared,))
    process.start()
    process.join()
    assert list(shared) == ['a', b'b', 2, 2.5, None, True]
    shared.shm.close()
    shared.shm.unlink()


def _change(shared):
    shared[2] += 1
    shared.shm.close()


def test_a_manager_unlinks_its_own():
    with SharedMemoryManager(ctx=mp.get_context('fork')) as manager:
        names = [manager.SharedMemory(10).name, manager.ShareableList([1]).shm.name]
        assert all(exists(name) for name in names)
    for name in names:
        assert not exists(name)


def _count(value, array):
    with value.get_lock():
        value.value += 1
        array[0] += 2.5


def test_values_take_no_files(ctx):
    before = {name for name in os.listdir('/dev/shm') if name.startswith('pym-')}
    value, array = ctx.Value('i', 1), ctx.Array('d', 100_000)
    process = ctx.Process(target=_count, args=(value, array))
    process.start()
    process.join()
    assert value.value == 2 and array[0] == 2.5
    arena = heap.Arena(4096)
    assert os.readlink(f'/proc/self/fd/{arena.fd}').startswith('/memfd:')
    assert {name for name in os.listdir('/dev/shm') if name.startswith('pym-')} <= before


def test_private_names_that_others_read():
    assert shared_memory._USE_POSIX and shared_memory._make_filename().startswith(shared_memory._SHM_NAME_PREFIX)
    assert resource_tracker.getfd() == resource_tracker._resource_tracker._fd
