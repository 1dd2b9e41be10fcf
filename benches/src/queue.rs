//! Rows of queues: messages one way, from one process to another.

use std::time::Instant;

use procession::{Process, Queue};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use crate::report::{Must, Row};

const MESSAGES: usize = 200_000;

pub(crate) fn of_64_bytes(pairs: usize) -> Row {
    let pairs = (0..pairs).map(|_| (ours(64), by_ipc_channel(64))).collect();
    Row::new("queue: 64 B messages one way", "msg/s", "ipc-channel", Must::AtLeast(4.0), pairs)
}

pub(crate) fn of_1_kib(pairs: usize) -> Row {
    let pairs = (0..pairs).map(|_| (ours(1024), by_ipc_channel(1024))).collect();
    Row::new("queue: 1 KiB messages one way", "msg/s", "ipc-channel", Must::AtLeast(4.0), pairs)
}

pub(crate) fn beside_a_socket(pairs: usize) -> Row {
    let pairs = (0..pairs).map(|_| (ours(64), by_socket(64))).collect();
    Row::new("queue: 64 B messages one way", "msg/s", "bare SEQPACKET", Must::AtLeast(2.0), pairs)
}

fn ours(size: usize) -> f64 {
    let queue = Queue::<Vec<u8>>::new().expect("a queue is made");
    let put = |message| queue.put(message).expect("it is open");
    rate(size, put, || queue.get().expect("it is open"))
}

fn by_ipc_channel(size: usize) -> f64 {
    let (sender, receiver) = ipc_channel::ipc::channel::<Vec<u8>>().expect("a channel is made");
    rate(size, |message| sender.send(message).expect("it is open"), || receiver.recv().expect("it is open"))
}

/// crossmist's channels are made of such sockets. crossmist itself (1.1.2) panics in its first
/// message when Rust 1.95 compiles it: it recognises plain data by how the standard library clones
/// an array, which has changed.
fn by_socket(size: usize) -> f64 {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socketpair is made");
    let put = |message: Vec<u8>| assert_eq!(send(&theirs, &message, SendFlags::empty()), Ok(size));
    rate(size, put, || {
        let mut message = vec![0; size];
        let (len, _) = recv(&ours, &mut message[..], RecvFlags::empty()).expect("there are more");
        message.truncate(len);
        message
    })
}

/// Returns how many messages a second pass through `put` and `get`.
fn rate(size: usize, mut put: impl FnMut(Vec<u8>), mut get: impl FnMut() -> Vec<u8>) -> f64 {
    let message = vec![7; size];
    let produce = || (0..MESSAGES).for_each(|_| put(message.clone()));
    let mut producer = Process::fork(produce).start().expect("a process starts");
    // The first message says that the process has begun.
    get();
    let begun = Instant::now();
    (1..MESSAGES).for_each(|_| assert_eq!(get().len(), size));
    let rate = (MESSAGES - 1) as f64 / begun.elapsed().as_secs_f64();
    producer.join().expect("it produces");
    rate
}
