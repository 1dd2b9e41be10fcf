"""Storms of Ctrl-C, SIGSTOP and SIGKILL over Python programs, under each start method.

`cargo xtask stress` runs it. This process starts a program, its *subject*, and strikes it and its
processes. The subject does what such programs do, and checks its results. A subject that prints
nothing for `PATIENCE` seconds hangs: then the storm prints the subject's stacks and the seed.

| storm | target and signal | what is checked |
|---|---|---|
| interrupts | the subject and all its processes, SIGINT, as a terminal does | `KeyboardInterrupt` reaches it; no process or zombie is left; the next pool works |
| stops | workers, SIGSTOP, and later SIGCONT | results are right or their worker was lost; `get(timeout)`, `stats` and `terminate` return |
| servers | fork servers, SIGSTOP or SIGKILL | starts succeed or say why; results are right |
"""

import argparse
import faulthandler
import os
import random
import select
import signal
import subprocess
import sys
import time

PATIENCE = 60.0
# Seconds in which the subject must answer an interrupt, and in which the processes that the
# interrupt ended must be gone before that.
HEARD, GONE = 30.0, 20.0
METHODS = ('fork', 'spawn', 'forkserver')
STORMS = {'interrupts': METHODS, 'stops': METHODS, 'servers': ('forkserver',)}


# --- the weather ----------------------------------------------------------------------------------


class Subject:
    """The program that is struck, in a group of its own."""

    def __init__(self, storm, method, seed):
        command = [sys.executable, os.path.abspath(__file__), '--subject', storm, '--method', method, '--seed', str(seed)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.unread = b''
        self.what = f'{storm} under {method}, seed {seed}'

    def says(self, within=PATIENCE):
        """Returns the next line that it prints; nothing if it prints none in this many seconds."""
        end = time.monotonic() + within
        while b'\n' not in self.unread:
            ready, _, _ = select.select([self.process.stdout], [], [], max(end - time.monotonic(), 0))
            if not ready:
                return None
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                raise SystemExit(f'the subject of {self.what} ended with {self.process.wait()}')
            self.unread += piece
        line, self.unread = self.unread.split(b'\n', 1)
        return line.decode()

    def must_say(self):
        """Returns the next line that it prints. Ends the storm if it hangs."""
        line = self.says()
        if line is None:
            self.hangs()
        return line

    def hangs(self):
        processes = [f'{pid} {state} {command}' for pid, (_, state, command) in descendants(self.process.pid).items()]
        self.process.send_signal(signal.SIGUSR1)
        time.sleep(1)
        os.killpg(self.process.pid, signal.SIGKILL)
        raise SystemExit('\n'.join([f'{self.what}: HANGS. Its processes:', *processes]))

    def ask(self, word):
        self.process.stdin.write(word.encode() + b'\n')
        self.process.stdin.flush()

    def end(self):
        """Lets it end, and returns what it has counted."""
        self.ask('end')
        while (line := self.must_say()).startswith('.'):
            pass
        code = self.process.wait(PATIENCE)
        if code != 0:
            raise SystemExit(f'the subject of {self.what} ended with {code}: {line}')
        return line


def descendants(pid):
    """Returns the processes below `pid`: for each its role, its state, and its command line. The
    children of a fork server have its command line, too.
    """
    found = {}
    for name in os.listdir('/proc'):
        if name.isdigit():
            try:
                with open(f'/proc/{name}/stat') as file:
                    fields = file.read().rpartition(')')[2].split()
                with open(f'/proc/{name}/cmdline') as file:
                    found[int(name)] = int(fields[1]), fields[0], file.read().replace('\0', ' ').strip()
            except (FileNotFoundError, ProcessLookupError):
                continue
    below, parents = {}, [pid]
    while parents:
        parent = parents.pop()
        for child, (of, state, command) in found.items():
            if of == parent:
                below[child] = role(command, of == pid), state, command
                parents.append(child)
    return below


def role(command, is_child):
    if 'resource_tracker' in command:
        return 'tracker'
    # Its command line, or its title where `setproctitle` is installed.
    is_server = 'procession.forkserver' in command or command == 'procession fork server'
    return 'server' if is_child and is_server else 'worker'


def strike(subject, sig, wanted, chance):
    """Sends a signal to one of the subject's processes. Returns its pidfd, or nothing if there is
    none.
    """
    victims = [pid for pid, (role, _, _) in descendants(subject.process.pid).items() if role == wanted]
    if not victims:
        return None
    try:
        victim = os.pidfd_open(chance.choice(victims))
        signal.pidfd_send_signal(victim, sig)
        return victim
    except ProcessLookupError:
        return None


def interrupts(subject, end, chance):
    struck = again = 0
    while time.monotonic() < end:
        subject.ask('go')
        if subject.must_say() != 'begun':
            raise SystemExit(f'{subject.what}: no round has begun')
        time.sleep(chance.choice((0.005, 0.05, 0.5)) * chance.random())
        os.killpg(subject.process.pid, signal.SIGINT)
        struck += 1
        line = subject.says(HEARD)
        if line is None:
            # Python ignores an exception that a handler raises in a callback of a weak reference,
            # and prints it. Users strike again.
            os.killpg(subject.process.pid, signal.SIGINT)
            again += 1
            line = subject.must_say()
        if line != 'interrupted':
            raise SystemExit(f'{subject.what}: {line}')
    return f'{struck} SIGINT, {again} of them ignored'


def stops(subject, end, chance):
    return strikes(subject, end, chance, 'worker', (signal.SIGSTOP,), 0.02)


def servers(subject, end, chance):
    return strikes(subject, end, chance, 'server', (signal.SIGSTOP, signal.SIGKILL), 1.0)


def strikes(subject, end, chance, wanted, signals, pause):
    subject.ask('go')
    counts, stopped = dict.fromkeys(signals, 0), []
    while time.monotonic() < end:
        time.sleep(pause * chance.random())
        victim = strike(subject, sig := chance.choice(signals), wanted, chance)
        if victim is not None:
            counts[sig] += 1
            # Most are stopped for a moment, some for longer than anybody waits for them.
            length = chance.choice((0.001, 0.01, 0.05, 0.2, 3.0)) if chance.random() < 0.9 else 5.0
            stopped.append((time.monotonic() + length, victim))
        stopped = goes_on(stopped, time.monotonic())
        while (line := subject.says(0)) is not None:
            if not line.startswith('.'):
                raise SystemExit(f'{subject.what}: {line}')
            subject.heard = time.monotonic()
        if time.monotonic() > getattr(subject, 'heard', end) + PATIENCE:
            subject.hangs()
    goes_on(stopped, float('inf'))
    return ', '.join(f'{count} {sig.name}' for sig, count in counts.items())


def goes_on(stopped, now):
    for until, victim in stopped:
        if until <= now:
            try:
                signal.pidfd_send_signal(victim, signal.SIGCONT)
            except ProcessLookupError:
                pass
            os.close(victim)
    return [(until, victim) for until, victim in stopped if until > now]


# --- the subject ----------------------------------------------------------------------------------


def say(line):
    os.write(1, line.encode() + b'\n')


def square(number):
    if number % 50 == 0:
        time.sleep(0.0003)
    return number * number


def leave(number):
    os._exit(3)


def work_until_interrupted(context, chance):
    """Does what programs do with processes, again and again."""
    with context.Pool(2) as pool:
        while True:
            count = chance.randrange(1, 200)
            squares = [number * number for number in range(count)]
            match chance.randrange(7):
                case 0:
                    assert pool.map(square, range(count)) == squares
                case 1:
                    results = [pool.apply_async(square, (number,)) for number in range(count)]
                    assert [result.get() for result in results] == squares
                case 2:
                    assert list(pool.imap(square, range(count), chance.randrange(1, 9))) == squares
                case 3:
                    # Its worker is replaced.
                    pool.apply_async(leave, (1,)).wait()
                case 4:
                    queue = context.Queue()
                    process = context.Process(target=queue.put, args=(count,))
                    process.start()
                    assert queue.get() == count
                    process.join()
                case 5:
                    lock, event = context.Lock(), context.Event()
                    with lock:
                        event.wait(0.001)
                        lock.acquire(timeout=0.001)
                case 6:
                    assert sorted(pool.imap_unordered(square, range(count))) == squares


def be_interrupted(context, chance):
    rounds = 0
    for _ in iter(sys.stdin.readline, 'end\n'):
        try:
            say('begun')
            work_until_interrupted(context, chance)
        except KeyboardInterrupt:
            rounds += 1
        else:
            say('the work has ended')
        expect_nobody()
        with context.Pool(2) as pool:
            assert pool.map(square, range(10)) == [number * number for number in range(10)]
        say('interrupted')
    expect_nobody()
    say(f'{rounds} KeyboardInterrupt')


def expect_nobody():
    """Checks that no process is left but those that the program keeps."""
    import procession

    end = time.monotonic() + GONE
    while True:
        procession.active_children()
        found = descendants(os.getpid())
        left = {pid: known for pid, known in found.items() if known[0] == 'worker'}
        servers = [pid for pid, known in found.items() if known[0] == 'server']
        if not left and len(servers) <= 1:
            return
        if time.monotonic() > end:
            for pid in left:
                # Prints the stack.
                os.kill(pid, signal.SIGUSR1)
            time.sleep(1)
            say(f'left: {left}, servers {servers}')
            os._exit(1)
        time.sleep(0.005)


def bear_stops(context, chance):
    from procession import TimeoutError, WorkerLost

    right = lost = late = 0
    while not ends():
        pool = context.Pool(3)
        jobs = []
        for _ in range(chance.randrange(1, 30)):
            count = chance.randrange(1, 300)
            jobs.append((count, pool.map_async(square, range(count), chance.choice((None, 1, 10)))))
            for _, job in jobs[-3:]:
                try:
                    job.get(timeout=chance.choice((0, 0.001, 0.02)))
                except (TimeoutError, WorkerLost):
                    late += 1
            stats = pool.stats()
            assert len(stats['workers']) <= 3, stats
            if chance.random() < 0.1:
                assert pool.apply(square, (3,), retries=100) == 9
            say('.')
        if chance.random() < 0.5:
            pool.terminate()
            pool.join()
            say('.')
            continue
        for count, job in jobs:
            try:
                assert job.get(PATIENCE) == [number * number for number in range(count)]
                right += 1
            except WorkerLost:
                lost += 1
        pool.close()
        pool.join()
        say('.')
    expect_nobody()
    say(f'{right} maps right, {lost} lost a worker, {late} not there in time')


def bear_servers(context, chance):
    right = lost = refused = 0
    while not ends():
        number = chance.randrange(1000)
        try:
            if chance.random() < 0.2:
                with context.Pool(2) as pool:
                    assert pool.map(square, range(number)) == [x * x for x in range(number)]
            else:
                processes = [context.Process(target=square, args=(number,)) for _ in range(chance.randrange(1, 4))]
                for process in processes:
                    process.start()
                for process in processes:
                    assert process.result(PATIENCE) == number * number
                    assert process.exitcode in (0, 255), process
                    lost += process.exitcode == 255
            right += 1
        except RuntimeError as error:
            if 'could not start a process' not in str(error):
                raise
            refused += 1
        say('.')
    # The next start reaps a server that was killed last.
    context.Process(target=abs, args=(1,)).start()
    expect_nobody()
    say(f'{right} rounds right, {refused} starts refused, {lost} exit codes lost')


def ends():
    return bool(select.select([sys.stdin], [], [], 0)[0])


SUBJECTS = {'interrupts': be_interrupted, 'stops': bear_stops, 'servers': bear_servers}


def be_subject(storm, method, seed):
    import procession

    faulthandler.register(signal.SIGUSR1, all_threads=True)
    context = procession.get_context(method)
    context.Process(target=abs, args=(1,)).start()
    if storm != 'interrupts':
        sys.stdin.readline()
    SUBJECTS[storm](context, random.Random(seed))


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seconds', type=float, default=70, help='for all storms together; 70')
    parser.add_argument('--seed', type=int, default=time.time_ns() >> 8, help='what is done to whom')
    parser.add_argument('--storm', choices=STORMS, help='one of them; all')
    parser.add_argument('--method', choices=METHODS, help='a start method; all')
    parser.add_argument('--subject', choices=SUBJECTS, help=argparse.SUPPRESS)
    terms = parser.parse_args(arguments)
    if terms.subject:
        be_subject(terms.subject, terms.method, terms.seed)
        return
    print(f'seed {terms.seed}, {terms.seconds} s', flush=True)
    storms = [
        (storm, method)
        for storm, methods in STORMS.items()
        if terms.storm in (None, storm)
        for method in methods
        if terms.method in (None, method)
    ]
    for storm, method in storms:
        subject = Subject(storm, method, terms.seed)
        did = globals()[storm](subject, time.monotonic() + terms.seconds / len(storms), random.Random(terms.seed))
        print(f'{storm:<12} {method:<12} {did}: {subject.end()}', flush=True)


if __name__ == '__main__':
    main(sys.argv[1:])
