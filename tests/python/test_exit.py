"""The end of a program whose daemon threads wait: nothing is printed, as is usual."""

import pytest
from processes import run

pytestmark = pytest.mark.limit(120)

PROGRAM = """
    import asyncio, sys, threading, time
    import procession
    from procession.connection import Listener

    def slow(number):
        time.sleep(300)

    def in_thread(act):
        begun = threading.Event()
        def thread():
            begun.set()
            act()
        threading.Thread(target=thread, daemon=True).start()
        begun.wait()

    def again(act):
        def repeat():
            while True:
                act()
        in_thread(repeat)

    def wait_in(condition):
        with condition:
            condition.wait()

    async def waits_for(result):
        await result

    async def gives_up(pool):
        task = asyncio.create_task(waits_for(pool.apply_async(slow, (1,))))
        done = asyncio.create_task(waits_for(pool.apply_async(abs, (1,))))
        await done

    def wait_for_locks(context):
        lock, rlock, none = context.Lock(), context.RLock(), context.Semaphore(0)
        event, condition, barrier = context.Event(), context.Condition(), context.Barrier(2)
        lock.acquire()
        rlock.acquire()
        for act in (lock.acquire, rlock.acquire, none.acquire, event.wait, barrier.wait):
            in_thread(act)
        in_thread(lambda: wait_in(condition))
        free = context.Lock()
        again(lambda: free.acquire() and free.release())
        return lock, rlock, none, event, condition, barrier, free

    def wait_for_queues(context):
        queue, full, simple, joinable = context.Queue(), context.Queue(1), context.SimpleQueue(), context.JoinableQueue()
        ours, theirs = context.Pipe()
        listener = Listener(authkey=b'key')
        full.put(1)
        joinable.put(1)
        for act in (queue.get, lambda: full.put(2), simple.get, joinable.join, ours.recv, listener.accept):
            in_thread(act)
        busy = context.Queue()
        again(lambda: (busy.put(1), busy.get()))
        return queue, full, simple, joinable, ours, theirs, listener, busy

    def wait_for_pools(context):
        pool, busy, closed = context.Pool(2), context.Pool(2), context.Pool(1)
        asyncio.run(gives_up(pool))
        result, many, lazy = pool.apply_async(slow, (1,)), pool.map_async(slow, range(10)), pool.imap(slow, range(10))
        acts = (result.get, result.wait, many.get, lambda: next(lazy), lambda: pool.apply(slow, (1,)),
                lambda: pool.map(slow, range(9)), lambda: asyncio.run(waits_for(result)))
        for act in acts:
            in_thread(act)
        again(lambda: busy.apply(abs, (1,)))
        again(lambda: busy.apply_async(abs, (1,), callback=str).get())
        again(lambda: list(busy.imap(abs, range(10))))
        closed.apply_async(slow, (1,))
        closed.close()
        in_thread(closed.join)
        return pool, busy, closed

    def wait_for_processes(context):
        process = context.Process(target=slow, args=(1,), daemon=True)
        process.start()
        in_thread(process.join)
        again(lambda: busy_start(context))
        return process

    def busy_start(context):
        process = context.Process(target=abs, args=(1,))
        process.start()
        process.join()

    if __name__ == '__main__':
        waits = {'locks': wait_for_locks, 'queues': wait_for_queues, 'pools': wait_for_pools, 'processes': wait_for_processes}
        kept = waits[sys.argv[1]](procession.get_context(sys.argv[2]))
        # Some of the threads are to be asleep, and others not.
        time.sleep(0.3)
        print('end')
"""


@pytest.mark.parametrize('waits_for', ['locks', 'queues', 'pools', 'processes'])
def test_daemon_threads_that_wait_are_silent_at_the_programs_end(method, waits_for, tmp_path):
    if method == 'fork' and waits_for == 'processes':
        method = 'spawn'  # Python advises against forks beside threads.
    done = run(tmp_path, PROGRAM, waits_for, method)
    assert (done.returncode, done.stdout, done.stderr) == (0, 'end\n', '')
