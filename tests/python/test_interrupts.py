"""Signal handlers that raise at any instant: a process that was started is held or ended, and
nothing is lost or done twice.
"""

import json

import pytest
from processes import METHODS, run

pytestmark = pytest.mark.limit(120)

#: Raises in the main thread at random instants while workers die and are replaced.
STORM = """
    import json, os, random, signal, sys, time
    import procession

    class Raised(BaseException):
        pass

    def task(number):
        if number % 5 == 0:
            os._exit(3)
        return number

    def raise_it(*_):
        raise Raised

    def children():
        found = []
        for name in os.listdir('/proc'):
            try:
                with open(f'/proc/{name}/stat') as file:
                    start, _, fields = file.read().rpartition(')')
            except OSError:
                continue
            command, parent = start.partition('(')[2], int(fields.split()[1])
            if parent == os.getpid() and command != 'forkserver':
                found.append(int(name))
        return found

    if __name__ == '__main__':
        method, seconds = sys.argv[1], float(sys.argv[2])
        context = procession.get_context(method)
        context.Process(target=abs, args=(1,)).start()
        wrong, rounds, raised = [], 0, 0
        end = time.monotonic() + seconds
        signal.signal(signal.SIGALRM, raise_it)
        while time.monotonic() < end:
            rounds += 1
            pool = context.Pool(2)
            try:
                results = []
                for _ in range(6):
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0002, 0.02))
                    try:
                        results += [(number, pool.apply_async(task, (number,))) for number in range(1, 11)]
                        pool.apply(task, (5,))
                    except (Raised, procession.WorkerLost):
                        raised += 1
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
            except Raised:
                raised += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, result in results:
                try:
                    value = result.get(60)
                    if value != number or number % 5 == 0:
                        wrong.append((number, value))
                except procession.WorkerLost as error:
                    if number % 5 or error.exitcode != 3:
                        wrong.append((number, str(error)))
            stats = pool.stats()
            if len(stats['workers']) > 2:
                wrong.append(('workers', len(stats['workers'])))
            pool.close()
            pool.join()
        deadline = time.monotonic() + 20
        while (left := children()) and time.monotonic() < deadline:
            procession.active_children()
            time.sleep(0.05)
        left = left if method != 'forkserver' else []
        print(json.dumps([wrong, left, rounds > 0 and raised > 0]))
"""


@pytest.mark.parametrize('method', METHODS)
def test_a_handler_that_raises_while_workers_are_replaced_loses_nothing(method, tmp_path):
    done = run(tmp_path, STORM, method, '4')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], [], True], done.stderr


def test_a_ctrl_c_while_workers_are_replaced_reaches_the_caller(tmp_path):
    done = run(
        tmp_path,
        """
        import os, subprocess, sys
        import procession

        LATER = 'import os, signal, sys, time; time.sleep(float(sys.argv[1])); os.kill(int(sys.argv[2]), signal.SIGINT)'

        def die(_):
            os._exit(3)

        if __name__ == '__main__':
            seen = 0
            for round in range(12):
                with procession.get_context('fork').Pool(2) as pool:
                    later = subprocess.Popen([sys.executable, '-S', '-c', LATER, str(0.003 * round), str(os.getpid())])
                    try:
                        while True:
                            for result in [pool.apply_async(die, (0,)) for _ in range(4)]:
                                result.wait()
                    except KeyboardInterrupt:
                        seen += 1
                later.wait()
            print(seen, len(procession.active_children()))
    """,
    )
    assert (done.stdout, done.stderr) == ('12 0\n', '')


@pytest.mark.parametrize('method', METHODS)
def test_a_process_that_a_child_forks_has_the_handler_that_the_child_has_set(method, tmp_path):
    done = run(
        tmp_path,
        """
        import signal, sys
        import procession

        def handler(*_):
            pass

        def has_it():
            return signal.getsignal(signal.SIGINT) is handler

        def forking():
            signal.signal(signal.SIGINT, handler)
            process = procession.get_context('fork').Process(target=has_it)
            process.start()
            return process.result(30)

        if __name__ == '__main__':
            process = procession.get_context(sys.argv[1]).Process(target=forking)
            process.start()
            print(process.result(60))
    """,
        method,
    )
    assert (done.stdout, done.stderr) == ('True\n', '')
