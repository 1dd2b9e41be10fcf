"""The manager that carries queues and locks between machines, with a certificate."""

import contextlib
import os
import select
import socket
import ssl
import threading
import time

import procession
import pytest
import tasks
import trustme
from procession.connection import Client

# Text that is nowhere else.
_SECRET = b'the-text-that-nobody-else-may-read'


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Returns the paths of a certificate and its key."""
    return _made(tmp_path_factory.mktemp('identity'))


@pytest.fixture(scope='module')
def secured(cluster, files):
    """Returns a context with a certificate."""
    return procession.get_context(*cluster, certificate=files[0], key=files[1])


def test_processes_elsewhere_use_queues_locks_and_managers(secured):
    queue, lock, namespace = secured.JoinableQueue(), secured.Lock(), secured.Manager().Namespace(value=0)
    processes = [secured.Process(target=tasks.count_under, args=(lock, namespace, 20)) for _ in range(2)]
    processes.append(secured.Process(target=tasks.put_all, args=(queue, ['a', 'b', b'x' * 3_000_000])))
    for process in processes:
        process.start()
    assert [queue.get(timeout=60), queue.get(timeout=60), len(queue.get(timeout=60))] == ['a', 'b', 3_000_000]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert namespace.value == 40


def test_a_waiting_get_is_not_cut_off(secured):
    queue = secured.Queue()
    # Longer than a peer has to prove who it is.
    later = threading.Timer(12, queue.put, ('late',))
    later.start()
    assert queue.get(timeout=60) == 'late'
    later.join()


def test_a_proxy_goes_on_to_a_process_of_a_child(secured):
    queue = secured.Queue()
    process = secured.Process(target=tasks.have_child_put, args=(queue, 'from there'))
    process.start()
    assert queue.get(timeout=60) == 'from there'
    process.join(60)
    assert process.exitcode == 0


def test_an_onlooker_reads_what_is_sent_without_a_certificate_and_nothing_with_one(ctx, secured):
    for context, is_seen in ((ctx, True), (secured, False)):
        with _recorded() as seen:
            queue = context.Queue()
            queue.put(_SECRET)
            assert queue.get(timeout=60) == _SECRET
        assert any(_SECRET in packet for packet in seen) == is_seen
        assert seen


def test_who_has_no_certificate_does_not_get_in(secured):
    address, key = _address_of(secured.Queue()), bytes(procession.current_process().authkey)
    with pytest.raises((OSError, EOFError)):
        Client(address, authkey=key)
    # Nobody waits for one who says nothing.
    with socket.create_connection(address):
        assert secured.Queue().empty()


def test_a_manager_with_another_certificate_is_not_believed(secured, tmp_path):
    certificate, key = _made(tmp_path)
    terms = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    terms.load_cert_chain(certificate, key)
    queue = secured.Queue()
    with socket.create_server(('127.0.0.1', 0)) as listener:
        threading.Thread(target=_serve_handshake, args=(listener, terms), daemon=True).start()
        queue._token.address = listener.getsockname()
        with pytest.raises(procession.AuthenticationError, match='another certificate'):
            queue.empty()


def test_a_client_with_another_key_does_not_get_in(secured):
    queue = secured.Queue()
    queue._authkey = b'another'
    with pytest.raises(procession.AuthenticationError):
        queue.empty()


def test_files_that_are_no_certificate_and_key_are_refused(cluster, files, tmp_path):
    other, other_key = _made(tmp_path)
    text = tmp_path / 'text'
    text.write_text('no certificate')
    with pytest.raises(ValueError, match='no certificate and the key of it'):
        procession.get_context(*cluster, certificate=files[0], key=other_key)
    with pytest.raises(ValueError, match='no certificate and the key of it'):
        procession.get_context(*cluster, certificate=text, key=other_key)
    with pytest.raises(FileNotFoundError, match='nowhere'):
        procession.get_context(*cluster, certificate=tmp_path / 'nowhere', key=other_key)
    with pytest.raises(ValueError, match='without its certificate'):
        procession.get_context(*cluster, key=other_key)
    both = tmp_path / 'both.pem'
    both.write_text(other_key.read_text() + other.read_text())
    assert procession.get_context(*cluster, certificate=both)._identity.serializer.pem in other.read_text()


def _made(folder):
    issued = trustme.CA().issue_cert('program.example')
    issued.cert_chain_pems[0].write_to_path(folder / 'certificate.pem')
    issued.private_key_pem.write_to_path(folder / 'key.pem')
    return folder / 'certificate.pem', folder / 'key.pem'


def _address_of(proxy):
    return proxy._token.address


def _serve_handshake(listener, terms):
    peer, _ = listener.accept()
    with contextlib.suppress(OSError), terms.wrap_socket(peer, server_side=True) as secured:
        secured.recv(1)


@contextlib.contextmanager
def _recorded():
    """Records the packets of the loopback until the end of the block."""
    seen = []
    every_protocol = socket.htons(3)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, every_protocol) as onlooker:
        onlooker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        onlooker.bind(('lo', 0))
        stop, stopped = os.pipe()
        reader = threading.Thread(target=_read_all, args=(onlooker, stop, seen))
        reader.start()
        try:
            yield seen
            # The last message is on its way.
            time.sleep(0.5)
        finally:
            os.close(stopped)
            reader.join()
            os.close(stop)


def _read_all(onlooker, stop, seen):
    while True:
        ready, _, _ = select.select([onlooker, stop], [], [])
        if onlooker in ready:
            seen.append(onlooker.recv(1 << 17))
        elif stop in ready:
            return
