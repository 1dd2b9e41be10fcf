//! The row of connections: a typed round trip beside the bare socket's of the same bytes, between
//! the same two processes.

use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use procession::{Connection, Context, Handle, pipe};

use crate::pool::median_micros;
use crate::report::{Must, Row};

/// Trips of one run. The other process answers this many over one connection, then as many over the
/// other.
const TRIPS: usize = 5_000;

type Bytes = [u8; 32];

pub(crate) fn round_trip(pairs: usize) -> Row {
    let (ours, far) = pipe::<Bytes, Bytes>(true).expect("a pipe is made");
    let (mut theirs, bare) = UnixStream::pair().expect("a socketpair is made");
    let mut server = Context::spawn().process(serve, (far, Handle(bare))).start().expect("a process starts");
    let bytes = [7; 32];
    let our_trip = || {
        median_micros(TRIPS, || {
            ours.send(black_box(&bytes)).expect("it is sent");
            black_box(ours.recv().expect("it comes back"));
        })
    };
    let mut their_trip = || {
        median_micros(TRIPS, || {
            theirs.write_all(black_box(&bytes)).expect("it is sent");
            let mut back = [0; 32];
            theirs.read_exact(&mut back).expect("it comes back");
            black_box(back);
        })
    };
    let pairs = (0..pairs).map(|_| (our_trip(), their_trip())).collect();
    drop(ours);
    server.join().expect("the other process ends with its connection");
    Row::new("connection: 32 B round trip, p50", "us", "bare socketpair", Must::AtMost(1.1), pairs)
}

fn serve((ours, Handle(mut theirs)): (Connection<Bytes, Bytes>, Handle<UnixStream>)) {
    loop {
        for _ in 0..TRIPS {
            match ours.recv() {
                Ok(bytes) => ours.send(&bytes).expect("it is sent back"),
                Err(error) if error.is_closed() => return,
                Err(error) => panic!("{error}"),
            }
        }
        for _ in 0..TRIPS {
            let mut bytes = [0; 32];
            theirs.read_exact(&mut bytes).expect("it comes");
            theirs.write_all(&bytes).expect("it is sent back");
        }
    }
}
