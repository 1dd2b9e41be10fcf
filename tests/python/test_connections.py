"""Listeners with a key: which peers they let in, beside peers that say nothing or lie."""

import multiprocessing.connection
import signal
import socket
import threading

import procession
import pytest
from processes import PATIENCE, joined, started
from procession.connection import Client, Listener, answer_challenge, deliver_challenge, wait

pytestmark = pytest.mark.limit(60)

KEY = b'a key that both know'
FAMILIES = ['AF_UNIX', 'AF_INET']


@pytest.fixture(params=FAMILIES)
def listener(request):
    """Returns a listener with a key, of each family in turn."""
    with Listener(family=request.param, backlog=128, authkey=KEY) as listener:
        yield listener


def silent(address):
    """Connects as a peer that says nothing."""
    peer = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    peer.connect(address)
    return peer


def greet(address, word, key=KEY):
    with Client(address, authkey=key) as client:
        client.send(word)
        return client.recv()


def answer(listener, turned_away=()):
    """Accepts until a peer is let in, and answers its message."""
    while True:
        try:
            with listener.accept() as peer:
                word = peer.recv()
                peer.send(f'{word} too')
                return word
        except turned_away:
            continue


# More than are authenticated at a time.
@pytest.mark.parametrize('count', [1, 70])
def test_peers_that_say_nothing_delay_no_other(ctx, listener, count):
    peers = [silent(listener.address) for _ in range(count)]
    clients = [started(ctx, greet, listener.address, f'hello {number}') for number in range(3)]
    words = {answer(listener, procession.AuthenticationError) for _ in clients}
    assert words == {'hello 0', 'hello 1', 'hello 2'}
    assert {client.result(PATIENCE) for client in clients} == {f'{word} too' for word in words}
    for peer in peers:
        peer.close()


def test_a_peer_with_another_key_is_turned_away_and_the_next_is_let_in(ctx, listener):
    stranger = started(ctx, greet, listener.address, 'hello', b'another key')
    with pytest.raises(procession.AuthenticationError):
        listener.accept()
    with pytest.raises(procession.AuthenticationError):
        stranger.result(PATIENCE)
    client = started(ctx, greet, listener.address, 'hello')
    assert answer(listener) == 'hello'
    assert client.result(PATIENCE) == 'hello too'


@pytest.mark.parametrize('said', [b'', b'\0\0\0\x05hello', b'\0\0\1\1', b'\xff\xff\xff\xff'])
def test_a_peer_that_is_none_is_turned_away(listener, said):
    peer = silent(listener.address)
    peer.sendall(said)
    peer.shutdown(socket.SHUT_WR)
    with pytest.raises(procession.AuthenticationError):
        listener.accept()
    peer.close()


def test_message_right_behind_the_authentication_is_received(listener):
    def send_all():
        with Client(listener.address, authkey=KEY) as client:
            for number in range(100):
                client.send(number)

    thread = threading.Thread(target=send_all)
    thread.start()
    with listener.accept() as peer:
        assert [peer.recv() for _ in range(100)] == list(range(100))
    thread.join()


def test_the_standard_librarys_listener_and_client_serve_the_other_end():
    for ours, theirs in ((Listener, multiprocessing.connection.Client), (multiprocessing.connection.Listener, Client)):
        with ours(authkey=KEY) as listener:
            thread = threading.Thread(target=lambda call=theirs: call(listener.address, authkey=KEY).send('hello'))
            thread.start()
            with listener.accept() as peer:
                assert type(peer) is multiprocessing.connection.Connection and peer.recv() == 'hello'
            thread.join()


def test_an_empty_key_is_a_key():
    with Listener(authkey=b'') as listener:
        thread = threading.Thread(target=greet, args=(listener.address, 'hello', b''))
        thread.start()
        assert answer(listener) == 'hello'
        thread.join()


def test_closing_a_listener_ends_what_waits_for_it(listener):
    peer = silent(listener.address)
    raised = []

    def accept():
        try:
            listener.accept()
        except OSError as error:
            raised.append(str(error))

    threads = [threading.Thread(target=accept) for _ in range(3)]
    for thread in threads:
        thread.start()
    # The challenge has come: its authentication has begun.
    assert peer.recv(4)
    listener.close()
    for thread in threads:
        thread.join()
    assert raised == ['listener is closed'] * 3
    while peer.recv(1024):
        pass
    with pytest.raises(OSError, match='listener is closed'):
        listener.accept()
    with pytest.raises(OSError, match='listener is closed'):
        listener.fileno()


def test_a_handler_that_raises_ends_accept(listener):
    class Raised(Exception):
        pass

    def handler(*_):
        raise Raised

    before = signal.signal(signal.SIGALRM, handler)
    try:
        peer = silent(listener.address)
        for _ in range(2):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Raised):
                listener.accept()
    finally:
        signal.signal(signal.SIGALRM, before)
    peer.close()


def test_a_listener_is_waited_for_with_others(listener):
    assert wait([listener], 0) == []
    thread = threading.Thread(target=greet, args=(listener.address, 'hello'))
    thread.start()
    assert wait([listener], PATIENCE) == [listener]
    assert answer(listener) == 'hello'
    thread.join()


def test_the_peer_accepted_last_is_told():
    with Listener(family='AF_INET', authkey=KEY) as listener:
        assert listener.last_accepted is None
        with socket.create_server(('127.0.0.1', 0)) as other:
            port = other.getsockname()[1]
        client = socket.socket()
        client.bind(('127.0.0.1', port))

        def connect():
            client.connect(listener.address)
            connection = multiprocessing.connection.Connection(client.detach())
            answer_challenge(connection, KEY)
            deliver_challenge(connection, KEY)
            connection.close()

        thread = threading.Thread(target=connect)
        thread.start()
        listener.accept().close()
        assert listener.last_accepted == ('127.0.0.1', port)
        thread.join()


def test_children_accept_at_the_listener_that_they_were_forked_with(listener):
    context = procession.get_context('fork')
    servers = [started(context, answer, listener) for _ in range(2)]
    assert sorted(greet(listener.address, word) for word in ('one', 'two')) == ['one too', 'two too']
    joined(*servers)


def test_a_listener_without_a_key_lets_all_in(ctx):
    with Listener() as listener:
        client = started(ctx, greet, listener.address, 'hello', None)
        assert answer(listener) == 'hello'
        assert client.result(PATIENCE) == 'hello too'
