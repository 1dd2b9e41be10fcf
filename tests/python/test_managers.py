"""Managers: their locks when a client is killed, their proxies in children, their addresses."""

import os
import signal
import socket
import sys

import pytest
from processes import PATIENCE, run, started
from procession.synchronize import OwnerDiedError

pytestmark = pytest.mark.limit(120)

KINDS = ['Lock', 'RLock', 'Semaphore', 'BoundedSemaphore', 'Condition']


@pytest.fixture
def manager(ctx):
    """Returns a manager of each start method in turn."""
    with ctx.Manager() as manager:
        yield manager


def hold(lock, ready):
    lock.acquire()
    ready.send('held')
    signal.pause()


def hold_twice(lock, ready):
    lock.acquire()
    hold(lock, ready)


def take_and_leave(lock):
    with lock:
        pass
    return 'taken'


@pytest.mark.parametrize('kind', ['Lock', 'RLock', 'Condition'])
def test_a_lock_says_whether_it_is_held(manager, kind):
    lock = getattr(manager, kind)()
    if sys.version_info < (3, 14):
        assert not hasattr(lock, 'locked'), 'the proxies have it from Python 3.14 on'
        return
    assert lock.locked() is False
    with lock:
        assert lock.locked() is True
    assert lock.locked() is False


@pytest.mark.parametrize('kind', KINDS)
def test_a_lock_of_a_manager_outlives_its_killed_owner(ctx, manager, kind):
    lock = getattr(manager, kind)()
    ours, theirs = ctx.Pipe()
    holder = started(ctx, hold_twice if kind == 'RLock' else hold, lock, theirs)
    assert ours.recv() == 'held'
    assert kind == 'Condition' or not lock.acquire(False)
    holder.kill()
    holder.join(PATIENCE)
    with pytest.raises(OwnerDiedError) as caught:
        lock.acquire(True, PATIENCE)
    assert caught.value.pid == holder.pid
    assert lock.acquire(True, PATIENCE)
    lock.release()
    assert started(ctx, take_and_leave, lock).result(PATIENCE) == 'taken'


def test_a_lock_that_its_owner_released_tells_of_no_death(ctx, manager):
    lock = manager.Lock()
    for _ in range(3):
        assert started(ctx, take_and_leave, lock).result(PATIENCE) == 'taken'
    assert lock.acquire(False)
    # Another process may release it.
    assert started(ctx, lock.release).result(PATIENCE) is None
    assert lock.acquire(False)


def hold_until_told(lock, ready, told):
    with lock:
        ready.send('held')
        told.recv()
    return 'released'


def test_of_two_clients_with_a_semaphore_the_killed_one_loses_its_permit(ctx, manager):
    semaphore = manager.Semaphore(2)
    ready, theirs = ctx.Pipe(False)
    told, tell = ctx.Pipe(False)
    survivor = started(ctx, hold_until_told, semaphore, theirs, told)
    assert ready.poll(PATIENCE) and ready.recv() == 'held'
    killed = ctx.Process(target=hold, args=(semaphore, theirs))
    killed.start()
    assert ready.poll(PATIENCE) and ready.recv() == 'held'
    assert not semaphore.acquire(False)
    killed.kill()
    killed.join(PATIENCE)
    with pytest.raises(OwnerDiedError) as caught:
        semaphore.acquire(True, PATIENCE)
    assert caught.value.pid == killed.pid
    assert semaphore.acquire(True, PATIENCE)
    assert not semaphore.acquire(False)
    tell.send('release')
    assert survivor.result(PATIENCE) == 'released'
    assert semaphore.acquire(True, PATIENCE)
    for _ in range(2):
        semaphore.release()


def wait_for(condition, ready):
    with condition:
        ready.send('waiting')
        return condition.wait(PATIENCE)


def test_a_condition_of_a_manager_notifies(ctx, manager):
    condition = manager.Condition()
    ours, theirs = ctx.Pipe()
    waiter = started(ctx, wait_for, condition, theirs)
    assert ours.recv() == 'waiting'
    with condition:
        condition.notify()
    assert waiter.result(PATIENCE) is True


def keys_of(mapping):
    return sorted(mapping), [value for value in iter(mapping)]


def test_a_dict_proxy_is_iterated_in_a_child(ctx, manager):
    mapping = manager.dict(a=1, b=2)
    assert started(ctx, keys_of, mapping).result(PATIENCE) == (['a', 'b'], ['a', 'b'])


def test_clients_that_say_nothing_delay_no_other_of_a_manager_and_are_turned_away(ctx, manager):
    peers = []
    for _ in range(5):
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(manager.address)
        peers.append(peer)
    numbers = manager.list([1])
    assert started(ctx, numbers.append, 2).result(PATIENCE) is None
    assert list(numbers) == [1, 2]
    for peer in peers:
        peer.settimeout(PATIENCE)
        while peer.recv(1024):
            pass
        peer.close()


def test_a_manager_starts_where_temporary_files_have_long_paths(tmp_path):
    folder = tmp_path / ('long' * 20) / ('path' * 20)
    folder.mkdir(parents=True)
    done = run(
        tmp_path,
        """
        import procession

        def add(items):
            items.append(2)

        if __name__ == '__main__':
            context = procession.get_context('spawn')
            with context.Manager() as manager:
                items = manager.list([1])
                process = context.Process(target=add, args=(items,))
                process.start()
                process.join()
                print(items)
    """,
        env={**os.environ, 'TMPDIR': str(folder)},
    )
    assert (done.stdout, done.stderr) == ('[1, 2]\n', '')
