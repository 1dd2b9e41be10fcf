//! A process whose standard streams are closed: each fd that this crate makes or receives has
//! another number. (A Rust program opens `/dev/null` for them at its start, so these tests close
//! the streams themselves.)

#![allow(unsafe_code)] // Closes the streams by their numbers, and puts them back.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use procession_sys::descriptor::{self, HeldStreams};
use procession_sys::link::Link;
use procession_sys::pidfd::PidFd;
use procession_sys::poller::{Poller, Waker};
use procession_sys::{abstract_name, memfd, named, socket};
use procession_testing::{in_time, once, run, tests};

fn main() {
    run(tests! {
        once: [
            new_fds_are_above_closed_streams,
            received_fds_are_above_closed_streams,
            held_streams_keep_the_fds_of_others_above_them,
        ],
    })
}

/// Runs `body` with the standard streams closed.
fn with_closed_streams<R>(body: impl FnOnce() -> R) -> R {
    let kept: Vec<OwnedFd> = (0..3).map(|number| descriptor::duplicate(number).unwrap()).collect();
    // SAFETY: closes three numbers that no owner in this process closes, and puts the same files
    // back under them. The body runs in the only thread that uses files, but for the watchdog's,
    // which is silent unless the test hangs.
    let result = unsafe {
        (0..3).for_each(|number| assert_eq!(libc::close(number), 0));
        let result = body();
        for (number, file) in (0..3).zip(&kept) {
            libc::dup2(file.as_raw_fd(), number);
        }
        result
    };
    drop(kept);
    result
}

fn new_fds_are_above_closed_streams() {
    let name = format!("procession-sys-test-{}", std::process::id());
    let made = with_closed_streams(|| {
        // One call at a time, so that each is the first to find the numbers free.
        let number = |fd: OwnedFd| fd.as_raw_fd();
        let of = |fd: &dyn AsFd| fd.as_fd().as_raw_fd();
        let link = Link::pair().map(|(one, other)| [of(&one), of(&other)]);
        let sockets = socket::pair().map(|(one, other)| [of(&one), of(&other)]);
        let accepted = abstract_name::listen(name.as_bytes()).and_then(|listener| {
            let stream = abstract_name::connect(name.as_bytes())?;
            Ok([of(&listener), of(&stream)])
        });
        let file = named::make(8).and_then(|file| {
            named::link(file.as_fd(), &name)?;
            let first = number(file);
            let again = named::attach(&name).map(|(file, _)| (named::identity(file.as_fd()), number(file)))?;
            named::unlink(&name, again.0?)?;
            Ok([first, again.1])
        });
        let one = |made: std::io::Result<i32>| made.map(|number| [number; 2]);
        [
            ("link", link),
            ("sockets", sockets),
            ("listener", accepted),
            ("named file", file),
            ("memory", one(memfd::create("test", 8).map(number))),
            ("bytes", one(memfd::from_bytes("test", b"bytes").map(number))),
            ("process", one(PidFd::of_self().map(|process| of(&process)))),
            ("copy of a process", one(PidFd::of_self().and_then(|process| Ok(of(&process.try_clone()?))))),
            ("poller", one(Poller::new().map(|poller| of(&poller)))),
            ("waker", one(Waker::new().map(|waker| of(&waker)))),
        ]
    });
    for (what, numbers) in made {
        let numbers = numbers.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(numbers.iter().all(|number| *number > 2), "{what}: {numbers:?}");
    }
}

fn received_fds_are_above_closed_streams() {
    let (ours, theirs) = Link::pair().unwrap();
    let (one, other) = socket::pair().unwrap();
    let fds = [memfd::create("test", 8).unwrap(), memfd::create("test", 16).unwrap()];
    let fds = fds.each_ref().map(AsFd::as_fd);
    ours.send(&[IoSlice::new(b"x")], &fds).unwrap();
    socket::send_all(one.as_fd(), b"", b"x", &fds, None).unwrap();
    let (by_link, by_stream) = with_closed_streams(|| {
        (theirs.recv(Some(in_time())), socket::receive(other.as_fd(), &mut [0; 8], Some(in_time())))
    });
    let socket::Incoming::Bytes(1, by_stream) = by_stream.unwrap() else { panic!("one byte was sent") };
    for fds in [by_link.unwrap().unwrap().fds, by_stream] {
        let numbers: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        assert!(numbers.len() == 2 && numbers.iter().all(|number| *number > 2), "{numbers:?}");
        let lens = fds.iter().map(|fd| memfd::sealed_len(fd.as_fd()).unwrap());
        assert_eq!(lens.collect::<Vec<_>>(), [8, 16]);
    }
}

fn held_streams_keep_the_fds_of_others_above_them() {
    let (held, free) = with_closed_streams(|| {
        let held = HeldStreams::new().unwrap();
        let of_others = std::fs::File::open("/dev/null").unwrap();
        let number = of_others.as_raw_fd();
        // SAFETY: a write of no memory's bytes to a number.
        let refused = unsafe { libc::write(1, b"x".as_ptr().cast(), 1) };
        let error = std::io::Error::last_os_error();
        drop((of_others, held));
        // SAFETY: asks for a flag of numbers that may or may not be fds.
        let free = unsafe { [0, 1, 2].map(|number| libc::fcntl(number, libc::F_GETFD)) };
        ((number, refused, error.raw_os_error()), free)
    });
    assert!(held.0 > 2, "{held:?}");
    assert_eq!((held.1, held.2), (-1, Some(libc::EBADF)), "a closed stream is as good as closed");
    assert_eq!(free, [-1; 3], "the numbers are free again");
}
