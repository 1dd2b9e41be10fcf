//! Connections between processes, under each start method, and with peers that do their worst.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use procession::{Address, Client, Connection, Context, Error, Handle, Listener, Process, Queue, pipe, wait};
use procession_testing::{OneWay, Trial, eventually, for_each_context, long, once, open_fds, run, tests, trial};

const MOMENT: Duration = Duration::from_millis(20);
const SIZES: [usize; 13] = [0, 1, 4, 12, 4095, 16_379, 16_380, 16_384, 65_536, 65_540, 262_144, 300_000, 5 << 20];
const KEY: &[u8] = b"a key that both know";

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            values_go_back_and_forth,
            frames_of_every_size_arrive,
            a_queue_of_frames_keeps_order_and_ends,
            handles_go_over_a_connection,
            files_and_sockets_are_arguments,
            what_was_read_ahead_is_sent_along,
            a_peer_that_is_killed_is_an_end_or_a_cut,
            processes_take_turns_at_one_end,
            a_private_listener_needs_no_address,
        ],
        for_each_address: [listener_and_client_talk],
        once: [
            wrong_keys_are_told_to_both_and_the_listener_goes_on,
            a_listener_that_does_not_know_the_key_is_found_out,
            a_peer_that_says_nothing_does_not_hold_the_listener_up,
            others_are_accepted_beside_one_that_says_nothing,
            more_silent_peers_than_are_authenticated_at_once_delay_no_other,
            socket_files_go_with_their_listener,
            hostile_frames_are_errors_and_cost_no_memory,
            a_timeout_within_a_frame_loses_nothing,
            threads_send_and_receive_at_once,
            wait_tells_what_is_ready,
            handles_that_cannot_go_say_so,
            values_that_do_not_fit_leave_the_connection_whole,
            a_connection_comes_apart,
        ],
    })
}

/// A test for each kind of address, with and without a key. `None` is a file in a folder of the
/// test's own.
fn for_each_address(name: &str, body: fn(Option<Address>, Option<&'static [u8]>)) -> Vec<Trial> {
    let addresses = [
        ("unix", None),
        ("abstract", Some(Address::Abstract(format!("procession test {}", std::process::id()).into_bytes()))),
        ("tcp", Some(Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))),
        ("tcp6", Some(Address::Tcp("[::1]:0".parse().unwrap()))),
    ];
    let mut tests = Vec::new();
    for (kind, address) in addresses {
        for (with, key) in [("without_key", None), ("with_key", Some(KEY))] {
            let address = address.clone();
            tests.push(trial(&format!("{name}::{kind}::{with}"), move || body(address, key)));
        }
    }
    tests
}

fn values_go_back_and_forth(context: Context) {
    let (ours, theirs) = pipe::<(u32, String), Vec<String>>(true).unwrap();
    let mut process = context.process(repeat, theirs).start().unwrap();
    for times in 0..100 {
        ours.send(&(times, format!("word {times}"))).unwrap();
        assert_eq!(ours.recv().unwrap(), vec![format!("word {times}"); times as usize]);
    }
    process.join().unwrap();
}

fn frames_of_every_size_arrive(context: Context) {
    let (ours, theirs) = pipe::<(), ()>(true).unwrap();
    let echo = |end: Connection<(), ()>| SIZES.map(|_| end.send_bytes(&end.recv_bytes().unwrap()).unwrap()).len();
    let mut process = context.process(echo, theirs).start().unwrap();
    for size in SIZES {
        let bytes = pattern(size);
        ours.send_bytes(&bytes).unwrap();
        assert!(ours.recv_bytes_timeout(long()).unwrap() == bytes, "{size} bytes");
    }
    process.join().unwrap();
}

fn a_queue_of_frames_keeps_order_and_ends(context: Context) {
    let (ours, theirs) = pipe::<Infallible, Vec<u8>>(false).unwrap();
    let produce = |end: Connection<Vec<u8>, Infallible>| (0..3000).for_each(|x| end.send(&pattern(x)).unwrap());
    let mut process = context.process(produce, theirs).start().unwrap();
    for size in 0..3000 {
        assert_eq!(ours.recv().unwrap(), pattern(size));
    }
    assert!(ours.recv().unwrap_err().is_closed());
    process.join().unwrap();
}

fn handles_go_over_a_connection(context: Context) {
    type Handles = (Queue<u32>, Option<Connection<u32, u32>>, Handle<File>, String);
    let (ours, theirs) = pipe::<Handles, u32>(true).unwrap();
    let serve = |end: Connection<u32, Handles>| {
        for _ in 0..100 {
            let (queue, connection, Handle(mut file), word) = end.recv().unwrap();
            queue.put(1).unwrap();
            if let Some(connection) = connection {
                connection.send(&(connection.recv().unwrap() + 1)).unwrap();
            }
            file.write_all(word.as_bytes()).unwrap();
            end.send(&2).unwrap();
        }
    };
    let mut process = context.process(serve, theirs).start().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    let queue = Queue::new().unwrap();
    for turn in 0..50 {
        let (near, far) = pipe::<u32, u32>(true).unwrap();
        near.send(&turn).unwrap();
        let copy = Handle(file.try_clone().unwrap());
        // Without waiting in between: each frame's fds must find their frame.
        ours.send(&(queue.clone(), Some(far), copy, format!("<{turn}>"))).unwrap();
        ours.send(&(queue.clone(), None, Handle(file.try_clone().unwrap()), "-".into())).unwrap();
        assert_eq!(near.recv_timeout(long()).unwrap(), turn + 1);
        assert_eq!((ours.recv().unwrap(), ours.recv().unwrap()), (2, 2));
    }
    assert_eq!(queue.len(), 100);
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, (0..50).map(|turn| format!("<{turn}>-")).collect::<String>());
    process.join().unwrap();
}

fn files_and_sockets_are_arguments(context: Context) {
    type Things = (Handle<File>, Handle<UnixStream>, Handle<TcpListener>, Handle<OwnedFd>);
    let act = |(mut file, mut stream, listener, fd): Things| {
        file.write_all(b"written").unwrap();
        stream.write_all(b"said").unwrap();
        listener.accept().unwrap().0.write_all(b"accepted").unwrap();
        File::from(fd.0).write_all(b" twice").unwrap();
    };
    let mut file = tempfile::tempfile().unwrap();
    let (mut stream, theirs) = UnixStream::pair().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let copies = (file.try_clone().unwrap(), OwnedFd::from(file.try_clone().unwrap()));
    let things = (Handle(copies.0), Handle(theirs), Handle(listener), Handle(copies.1));
    let mut process = context.process(act, things).start().unwrap();
    let mut text = String::new();
    TcpStream::connect(address).unwrap().read_to_string(&mut text).unwrap();
    stream.read_to_string(&mut text).unwrap();
    process.join().unwrap();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "acceptedsaidwritten twice");
}

fn what_was_read_ahead_is_sent_along(context: Context) {
    let (near, far) = pipe::<Vec<u8>, u8>(true).unwrap();
    for size in [100, 7, 8] {
        near.send(&pattern(size)).unwrap();
    }
    let frame = [&300_000u32.to_be_bytes()[..], &pattern(300_000)].concat();
    let mut socket = UnixStream::from(near.as_fd().try_clone_to_owned().unwrap());
    socket.write_all(&frame[..1000]).unwrap();
    assert_eq!(far.recv().unwrap(), pattern(100), "and two and a half are read ahead");
    let finish = |end: Connection<u8, Vec<u8>>| {
        end.send(&1).unwrap();
        (end.recv().unwrap(), end.recv().unwrap(), end.recv_bytes().unwrap() == pattern(300_000))
    };
    let mut process = context.process(finish, far).start().unwrap();
    assert_eq!(near.recv().unwrap(), 1);
    socket.write_all(&frame[1000..]).unwrap();
    assert_eq!(process.join().unwrap(), (pattern(7), pattern(8), true));
}

fn a_peer_that_is_killed_is_an_end_or_a_cut(context: Context) {
    // Between frames, with something of ours unread: what it sent comes first.
    let (ours, theirs) = pipe::<u8, u8>(true).unwrap();
    let speak = |end: Connection<u8, u8>| {
        end.send(&7).unwrap();
        thread::sleep(long());
    };
    let mut process = context.process(speak, theirs).start().unwrap();
    ours.send(&1).unwrap();
    assert!(ours.poll(long()).unwrap());
    process.kill().unwrap();
    assert_eq!(process.join().unwrap_err().signal(), Some(9));
    assert_eq!(ours.recv_timeout(long()).unwrap(), 7);
    assert!(ours.recv_timeout(long()).unwrap_err().is_closed());
    eventually("sending is refused", || ours.send(&1).is_err_and(|error| error.is_closed()));
    // Within a frame: it is in send(), because nobody receives.
    let (ours, theirs) = pipe::<u8, Vec<u8>>(true).unwrap();
    let speak = |end: Connection<Vec<u8>, u8>| end.send(&pattern(8 << 20)).unwrap();
    let mut process = context.process(speak, theirs).start().unwrap();
    assert!(ours.poll(long()).unwrap());
    process.kill().unwrap();
    assert_eq!(process.join().unwrap_err().signal(), Some(9));
    for _ in 0..2 {
        let error = ours.recv_timeout(long()).unwrap_err();
        assert!(error.is_malformed() && error.to_string().contains("in the middle of a frame"), "{error}");
    }
}

fn processes_take_turns_at_one_end(context: Context) {
    let (receives, sends) = pipe::<(), u32>(false).unwrap();
    (0..100).for_each(|x| sends.send(&x).unwrap());
    let take = |end: Connection<(), u32>| (0..10).map(|_| end.recv().unwrap()).collect::<Vec<_>>();
    for turn in 0..10 {
        let end = Connection::try_from(receives.as_fd().try_clone_to_owned().unwrap()).unwrap();
        end.set_read_ahead(false);
        let mut process = context.process(take, end).start().unwrap();
        assert_eq!(process.join().unwrap(), (turn * 10..turn * 10 + 10).collect::<Vec<_>>());
    }
}

/// Two threads of this process meet at an address, and say who is who.
fn listener_and_client_talk(address: Option<Address>, key: Option<&'static [u8]>) {
    let folder = tempfile::tempdir().unwrap();
    let address = address.unwrap_or_else(|| Address::Unix(folder.path().join("socket")));
    let mut listener = Listener::bind(&address).unwrap();
    if let Some(key) = key {
        listener = listener.authkey(key).unwrap();
    }
    assert!(listener.last_accepted().is_none());
    let address = listener.address();
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let client: Connection<String, Vec<u8>> = match key {
                Some(key) => Client::connect_with(&address, key).unwrap(),
                None => Client::connect(&address).unwrap(),
            };
            client.send(&"hello".to_owned()).unwrap();
            assert_eq!(client.recv().unwrap(), pattern(1 << 20));
            assert!(client.recv().unwrap_err().is_closed());
        });
        let server: Connection<Vec<u8>, String> = listener.accept().unwrap();
        assert_eq!(server.recv().unwrap(), "hello");
        server.send(&pattern(1 << 20)).unwrap();
        drop(server);
        client.join().unwrap();
    });
    match (&address, listener.last_accepted()) {
        (Address::Tcp(ours), Some(Address::Tcp(theirs))) => assert!(theirs.ip() == ours.ip() && theirs.port() != 0),
        (Address::Unix(_) | Address::Abstract(_), None) => {}
        (ours, theirs) => panic!("{ours} accepted from {theirs:?}"),
    }
}

fn a_private_listener_needs_no_address(context: Context) {
    let listener = Listener::private().unwrap().authkey(KEY).unwrap().backlog(5).unwrap();
    let call = |address: Address| -> u8 { Client::connect_with::<(), u8>(&address, KEY).unwrap().recv().unwrap() };
    let mut processes: Vec<_> = (0..3).map(|_| context.process(call, listener.address()).start().unwrap()).collect();
    for _ in 0..3 {
        listener.accept::<u8, ()>().unwrap().send(&9).unwrap();
    }
    assert!(processes.iter_mut().all(|process| process.join().unwrap() == 9));
    assert_ne!(listener.address(), Listener::private().unwrap().address());
}

fn wrong_keys_are_told_to_both_and_the_listener_goes_on() {
    let listener = Listener::private().unwrap().authkey(KEY).unwrap();
    let address = &listener.address();
    thread::scope(|scope| {
        let wrong = scope.spawn(|| Client::connect_with::<u8, u8>(address, b"another").unwrap_err());
        let error = listener.accept::<u8, u8>().unwrap_err();
        assert!(error.is_authentication() && error.to_string().contains("does not know the key"), "{error}");
        let error = wrong.join().unwrap();
        assert!(error.is_authentication() && error.to_string().contains("has another key"), "{error}");
        // A client without a key takes the challenge for a message, and hangs up.
        let without = scope.spawn(|| drop(Client::connect::<u8, u8>(address).unwrap()));
        assert!(listener.accept::<u8, u8>().unwrap_err().is_authentication());
        without.join().unwrap();
        let right = scope.spawn(|| Client::connect_with::<u8, u8>(address, KEY).unwrap().recv().unwrap());
        listener.accept::<u8, u8>().unwrap().send(&3).unwrap();
        assert_eq!(right.join().unwrap(), 3);
    });
    assert!(listener.authkey(b"").unwrap_err().is_invalid());
}

fn a_listener_that_does_not_know_the_key_is_found_out() {
    // It takes any answer, and cannot answer itself.
    let listener = Listener::private().unwrap();
    let address = &listener.address();
    thread::scope(|scope| {
        let client = scope.spawn(|| Client::connect_with::<u8, u8>(address, KEY).unwrap_err());
        let peer = listener.accept::<u8, u8>().unwrap();
        peer.send_bytes(&[&b"#CHALLENGE#"[..], &[7; 20]].concat()).unwrap();
        assert_eq!(peer.recv_bytes().unwrap().len(), 16);
        peer.send_bytes(b"#WELCOME#").unwrap();
        let challenge = peer.recv_bytes().unwrap();
        assert!(challenge.starts_with(b"#CHALLENGE#{sha256}"));
        peer.send_bytes(&[0; 16]).unwrap();
        assert_eq!(peer.recv_bytes().unwrap(), b"#FAILURE#");
        let error = client.join().unwrap();
        assert!(error.is_authentication() && error.to_string().contains("does not know the key"), "{error}");
    });
}

fn a_peer_that_says_nothing_does_not_hold_the_listener_up() {
    let listener = Listener::private().unwrap().authkey(KEY).unwrap().authentication_time(MOMENT * 5);
    let silent = Client::connect::<u8, u8>(&listener.address()).unwrap();
    let error = listener.accept::<u8, u8>().unwrap_err();
    assert!(error.is_authentication() && error.to_string().contains("in time"), "{error}");
    assert_eq!(silent.recv_bytes().unwrap().len(), 11 + 8 + 40, "it was challenged");
    assert!(silent.recv_bytes().unwrap_err().is_closed());
    // One that drips bytes is no better off: the time is for all of it.
    let drips = Client::connect::<u8, u8>(&listener.address()).unwrap();
    let mut socket = UnixStream::from(drips.as_fd().try_clone_to_owned().unwrap());
    thread::scope(|scope| {
        scope.spawn(move || {
            while socket.write_all(&[0]).is_ok() {
                thread::sleep(MOMENT);
            }
        });
        assert!(listener.accept::<u8, u8>().unwrap_err().is_authentication());
    });
    // Nor is one that sends more than a challenge can have.
    let listener = Listener::private().unwrap().authkey(KEY).unwrap().authentication_time(long());
    let floods = Client::connect::<u8, u8>(&listener.address()).unwrap();
    floods.send_bytes(&[0; 257]).unwrap();
    let error = listener.accept::<u8, u8>().unwrap_err();
    assert!(error.is_authentication() && error.to_string().contains("256"), "{error}");
}

fn others_are_accepted_beside_one_that_says_nothing() {
    let listener = Listener::private().unwrap().authkey(KEY).unwrap().authentication_time(long() * 2);
    let silent: Vec<_> = (0..5).map(|_| Client::connect::<u8, u8>(&listener.address()).unwrap()).collect();
    let address = listener.address();
    thread::scope(|scope| {
        for number in 0..5 {
            let address = &address;
            scope.spawn(move || {
                let client = Client::connect_with::<u8, u8>(address, KEY).unwrap();
                client.send(&number).unwrap();
            });
        }
        let mut numbers: Vec<u8> = (0..5)
            .map(|_| {
                wait(&[&listener], None).unwrap();
                listener.accept::<u8, u8>().unwrap().recv().unwrap()
            })
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
    });
    drop(silent);
}

fn more_silent_peers_than_are_authenticated_at_once_delay_no_other() {
    let listener = Listener::private().unwrap().authkey(KEY).unwrap().authentication_time(long() * 2);
    let silent: Vec<_> = (0..100).map(|_| Client::connect::<u8, u8>(&listener.address()).unwrap()).collect();
    let address = listener.address();
    thread::scope(|scope| {
        scope.spawn(|| Client::connect_with::<u8, u8>(&address, KEY).unwrap().send(&7).unwrap());
        let accepted = loop {
            match listener.accept::<u8, u8>() {
                Ok(connection) => break connection,
                Err(error) => assert!(error.is_authentication(), "{error}"),
            }
        };
        assert_eq!(accepted.recv().unwrap(), 7);
    });
    drop(listener);
    for peer in silent {
        while !peer.recv_bytes().is_err_and(|error| error.is_closed()) {}
    }
}

fn socket_files_go_with_their_listener() {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Unix(folder.path().join("socket"));
    let listener = Listener::bind(&address).unwrap();
    let error = Listener::bind(&address).unwrap_err().to_string();
    assert!(error.contains("socket") && error.contains("in use") && error.contains("remove it"), "{error}");
    let listener = RefCell::new(Some(listener));
    Process::fork(|| drop(listener.take())).start().unwrap().join().unwrap();
    assert!(folder.path().join("socket").exists(), "the copy of a forked child does not count");
    std::fs::remove_file(folder.path().join("socket")).unwrap();
    let (one, again) = (Listener::bind(&address).unwrap(), folder.path().join("moved"));
    std::fs::rename(folder.path().join("socket"), &again).unwrap();
    let other = Listener::bind(&address).unwrap();
    drop((one, listener));
    assert!(folder.path().join("socket").exists(), "it is another's by now");
    drop(other);
    assert!(!folder.path().join("socket").exists());
    let error = Client::connect::<u8, u8>(&address).unwrap_err().to_string();
    assert!(error.contains("socket") && error.contains("is a listener there?"), "{error}");
}

fn hostile_frames_are_errors_and_cost_no_memory() {
    let hostile: [(&[u8], &str); 6] = [
        (&[0x80, 0, 0, 0], "-2147483648"),
        (&[0xff, 0xff, 0xff, 0xfe], "-2"),
        (&[0x40, 0, 0, 1], "1073741825"),
        (&[0xff; 12], "18446744073709551615"),
        (&[0, 0, 0, 9, 1, 2], "in the middle"),
        (&[0xff, 0xff, 0xff, 0xff, 0], "in the middle"),
    ];
    for (bytes, said) in hostile {
        let (mut raw, end) = raw();
        raw.write_all(bytes).unwrap();
        drop(raw);
        let error = end.recv_timeout(long()).unwrap_err();
        assert!(error.is_malformed() && error.to_string().contains(said), "{bytes:x?}: {error}");
        assert!(end.recv_timeout(long()).unwrap_err().is_malformed(), "and it stays so");
    }
    let (mut raw, end) = raw();
    raw.write_all(&[0x3f, 0xff, 0xff, 0xff, 1]).unwrap();
    let before = peak_memory();
    assert!(end.recv_timeout(MOMENT).unwrap_err().is_timeout());
    assert!(peak_memory() - before < 16 << 20, "a promise of 1 GiB is not taken at its word");
    let (near, far) = pipe::<(), ()>(true).unwrap();
    far.set_max_frame(100);
    near.send_bytes(&[1; 100]).unwrap();
    near.send_bytes(&[1; 101]).unwrap();
    assert_eq!(far.recv_bytes().unwrap().len(), 100);
    let error = far.recv_bytes().unwrap_err();
    assert!(error.is_malformed() && error.to_string().contains("set_max_frame"), "{error}");
}

fn a_timeout_within_a_frame_loses_nothing() {
    let (mut raw, end) = raw();
    let frame = [&[0, 4, 0, 0][..], &pattern(0x40000)].concat();
    assert!(end.try_recv().unwrap().is_none() && !end.poll(MOMENT).unwrap());
    for piece in [&frame[..2], &frame[2..4], &frame[4..100], &frame[100..50_000], &frame[50_000..frame.len() - 1]] {
        raw.write_all(piece).unwrap();
        assert!(end.recv_bytes_timeout(MOMENT).unwrap_err().is_timeout());
    }
    raw.write_all(&frame[frame.len() - 1..]).unwrap();
    assert!(end.recv_bytes().unwrap() == frame[4..]);
}

fn threads_send_and_receive_at_once() {
    const EACH: usize = 300;
    let (near, far) = pipe::<(u8, Vec<u8>), u8>(true).unwrap();
    let mut seen = [0; 4];
    let received = thread::scope(|scope| {
        for id in 0..4 {
            let near = &near;
            scope.spawn(move || (0..EACH).for_each(|x| near.send(&(id, pattern(x * 97))).unwrap()));
        }
        let far = &far;
        let receivers: Vec<_> = (0..3)
            .map(|_| scope.spawn(move || (0..EACH * 4 / 3).map(|_| far.recv().unwrap()).collect::<Vec<_>>()))
            .collect();
        receivers.into_iter().flat_map(|receiver| receiver.join().unwrap()).collect::<Vec<_>>()
    });
    for (id, bytes) in received {
        assert_eq!(bytes, pattern(bytes.len()));
        seen[usize::from(id)] += bytes.len();
    }
    assert_eq!(seen, [(0..EACH).map(|x| x * 97).sum::<usize>(); 4]);
    // A thread that waits for ever holds up no other's timeout, nor the other direction.
    thread::scope(|scope| {
        let waits = scope.spawn(|| near.recv().unwrap());
        while near.recv_timeout(MOMENT).is_ok_and(|early| panic!("{early}")) {}
        assert!(near.try_recv().unwrap().is_none() && !near.poll(MOMENT).unwrap());
        near.send(&(0, Vec::new())).unwrap();
        far.send(&5).unwrap();
        assert_eq!(waits.join().unwrap(), 5);
    });
}

fn wait_tells_what_is_ready() {
    let (ours, theirs) = pipe::<u8, u8>(true).unwrap();
    let listener = Listener::private().unwrap();
    let (mut raw, socket) = UnixStream::pair().unwrap();
    let (hold, held) = pipe::<u8, u8>(true).unwrap();
    let mut process = Context::fork().process(|end: Connection<u8, u8>| end.recv().unwrap(), held).start().unwrap();
    let ready = |timeout| wait(&[&ours, &listener, &socket.as_fd(), &process], timeout).unwrap();
    assert_eq!(ready(Some(MOMENT)), []);
    thread::scope(|scope| {
        scope.spawn(|| theirs.send(&1).unwrap());
        assert_eq!(ready(None), [0]);
    });
    let client = Client::connect::<u8, u8>(&listener.address()).unwrap();
    assert_eq!(ready(None), [0, 1]);
    raw.write_all(b"x").unwrap();
    assert_eq!(ready(Some(long())), [0, 1, 2]);
    hold.send(&4).unwrap();
    eventually("the process has ended", || ready(Some(long())) == [0, 1, 2, 3]);
    assert_eq!(process.join().unwrap(), 4);
    // Two at once: the second is read ahead, out of the kernel's sight.
    theirs.send(&2).unwrap();
    assert_eq!((ours.recv().unwrap(), wait(&[&ours], None).unwrap()), (1, vec![0]));
    assert!(ours.poll(Duration::ZERO).unwrap());
    assert_eq!((ours.recv().unwrap(), wait(&[&ours], Some(MOMENT)).unwrap()), (2, vec![]));
    drop(theirs);
    assert_eq!(wait(&[&ours], None).unwrap(), [0], "an end is news");
    drop(client);
}

fn handles_that_cannot_go_say_so() {
    let listener = Listener::bind(&Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).unwrap();
    let client = Client::connect::<Vec<Handle<File>>, u8>(&listener.address()).unwrap();
    let server = listener.accept::<u8, Vec<Handle<File>>>().unwrap();
    let null = || Handle(File::open("/dev/null").unwrap());
    let error = client.send(&vec![null()]).unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("unix sockets only"), "{error}");
    client.send(&Vec::new()).unwrap();
    assert_eq!(server.recv().unwrap().len(), 0, "and nothing was sent of what was refused");
    let (near, far) = pipe::<Vec<Handle<File>>, u8>(true).unwrap();
    let many = |count| (0..count).map(|_| null()).collect::<Vec<_>>();
    let error = near.send(&many(200)).unwrap_err();
    assert!(error.is_encode() && error.to_string().contains("handles"), "{error}");
    let before = open_fds();
    near.send(&many(124)).unwrap();
    assert_eq!(far.recv().unwrap().len(), 124);
    near.send(&many(3)).unwrap();
    let error = far.recv_bytes().unwrap_err();
    assert!(error.is_decode() && error.to_string().contains("handles"), "{error}");
    near.send(&many(1)).unwrap();
    near.send(&many(2)).unwrap();
    assert_eq!(far.recv().unwrap().len(), 1);
    assert_eq!(far.recv().unwrap().len(), 2);
    assert_eq!(open_fds(), before, "none is left open");
    let error = Error::from(Queue::new().unwrap().put(null()).unwrap_err());
    assert!(error.is_encode() && error.to_string().contains("std::fs::File"), "{error}");
}

fn values_that_do_not_fit_leave_the_connection_whole() {
    let (near, far) = pipe::<Option<OneWay>, u8>(true).unwrap();
    near.send(&Some(OneWay)).unwrap();
    near.send(&None).unwrap();
    assert!(far.recv().unwrap_err().is_decode());
    assert!(far.recv().unwrap().is_none());
    let (receives, sends) = pipe::<u8, u8>(false).unwrap();
    sends.send(&1).unwrap();
    assert_eq!(receives.recv().unwrap(), 1);
    assert!(receives.send(&1).unwrap_err().is_invalid() && sends.recv().unwrap_err().is_invalid());
    let file = OwnedFd::from(File::open("/dev/null").unwrap());
    assert!(Connection::<u8, u8>::try_from(file).unwrap_err().to_string().contains("stream socket"));
}

fn a_connection_comes_apart() {
    let (near, far) = pipe::<u8, u8>(true).unwrap();
    near.send(&1).unwrap();
    near.send(&2).unwrap();
    assert_eq!(far.recv().unwrap(), 1);
    let (socket, unread) = far.into_parts();
    assert_eq!(unread, [0, 0, 0, 1, 2]);
    UnixStream::from(socket).write_all(&[0, 0, 0, 1, 3]).unwrap();
    assert_eq!(near.recv().unwrap(), 3);
}

/// Serves a hundred requests to say a word so many times.
fn repeat(end: Connection<Vec<String>, (u32, String)>) {
    for _ in 0..100 {
        let (times, word) = end.recv().unwrap();
        end.send(&vec![word; times as usize]).unwrap();
    }
}

/// A socket, and a connection over its other end.
fn raw() -> (UnixStream, Connection<u8, u8>) {
    let (raw, end) = UnixStream::pair().unwrap();
    (raw, Connection::try_from(OwnedFd::from(end)).unwrap())
}

/// Bytes in which a shift or a mix-up shows.
fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|x| (x * 7 + x / 251 + size) as u8).collect()
}

/// The most address space that this process has had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
