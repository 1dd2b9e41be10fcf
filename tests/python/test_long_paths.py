"""Programs whose folder for temporary files has so long a path that no socket can be in it."""

import os
import subprocess
import sys
import textwrap

import pytest
from processes import PATIENCE, run

pytestmark = pytest.mark.limit(120)

PROGRAM = """
    import os, socket, sys, tempfile
    import procession
    from procession import connection

    def take(queue, answers):
        thing = queue.get()
        if isinstance(thing, socket.socket):
            answers.put(thing.recv(100))
        elif hasattr(thing, 'recv'):
            answers.put(thing.recv())
        else:
            answers.put(sorted((key, thing[key]) for key in thing))

    def pass_on(inlet, outlet):
        outlet.send(inlet.recv().recv())

    def connect(address, key):
        with connection.Client(address, authkey=key) as client:
            client.send('hello')

    def main(method):
        context = procession.get_context(method)
        assert len(tempfile.gettempdir()) >= 150
        # A connection and a socket in a queue.
        queue, answers = context.Queue(), context.Queue()
        for send, receive in (context.Pipe(), socket.socketpair()):
            process = context.Process(target=take, args=(queue, answers))
            process.start()
            queue.put(receive)
            send.send('sent') if hasattr(send, 'recv_bytes') else send.send(b'sent')
            print(answers.get())
            process.join()
        # A connection over a connection.
        (ours, theirs), (inlet, outlet) = context.Pipe(), context.Pipe()
        process = context.Process(target=pass_on, args=(theirs, outlet))
        process.start()
        send, receive = context.Pipe()
        ours.send(receive)
        send.send('passed')
        print(inlet.recv())
        process.join()
        # A manager's proxy in a queue, iterated there; and a manager that its user starts.
        own = procession.managers.SyncManager(ctx=context)
        own.start()
        with context.Manager() as manager, own:
            for mapping in (manager.dict(a=1, b=2), own.dict(a=3)):
                process = context.Process(target=take, args=(queue, answers))
                process.start()
                queue.put(mapping)
                print(answers.get())
                process.join()
        # Listeners that choose their address.
        for key in (None, b'key'):
            with connection.Listener(authkey=key) as listener:
                process = context.Process(target=connect, args=(listener.address, key))
                process.start()
                with listener.accept() as client:
                    print(client.recv())
                process.join()
        with context.Pool(1) as pool:
            print(pool.apply(len, ('pool',)))

    if __name__ == '__main__':
        import procession.managers
        main(sys.argv[1])
"""
SAID = "sent\nb'sent'\npassed\n[('a', 1), ('b', 2)]\n[('a', 3)]\nhello\nhello\n4\n"


@pytest.fixture
def environment(tmp_path):
    """Returns an environment whose temporary files' folder has a path of 150 or more bytes."""
    folder = tmp_path
    while len(str(folder)) < 150:
        folder /= 'long' * 5
    folder.mkdir(parents=True)
    return {**os.environ, 'TMPDIR': str(folder)}


def test_connections_managers_and_listeners_work_with_a_long_tmpdir(method, environment, tmp_path):
    done = run(tmp_path, PROGRAM, method, env=environment)
    assert (done.stdout, done.stderr) == (SAID, '')
    assert os.listdir(environment['TMPDIR']) == []


def test_an_unedited_program_works_with_a_long_tmpdir(method, environment, tmp_path):
    program = PROGRAM.replace('procession', 'multiprocessing')
    path = tmp_path / 'program.py'
    path.write_text(textwrap.dedent(program))
    command = [sys.executable, '-m', 'procession', str(path), method]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.stdout, done.stderr) == (SAID, '')


def test_a_process_of_another_user_is_turned_away_from_a_listener_without_a_path(environment, tmp_path):
    if os.geteuid() != 0:
        pytest.skip('only root can become another user')
    done = run(
        tmp_path,
        """
        import os
        import procession
        from procession import connection

        def connect(address):
            os.setuid(65534)
            with connection.Client(address) as client:
                try:
                    client.recv()
                except EOFError:
                    return 'turned away'

        if __name__ == '__main__':
            with connection.Listener() as listener:
                process = procession.get_context('fork').Process(target=connect, args=(listener.address,))
                process.start()
                try:
                    listener.accept()
                except procession.AuthenticationError as error:
                    print(error)
                print(process.result())
    """,
        env=environment,
    )
    expected = 'a process of user 65534 connected to a listener of user 0\nturned away\n'
    assert (done.stdout, done.stderr) == (expected, '')
