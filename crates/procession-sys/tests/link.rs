//! `Link` between threads of one process and between processes.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use procession_sys::fork::fork;
use procession_sys::link::{Link, MAX_FDS, MAX_MESSAGE, Received};
use procession_testing::{end_of, eventually, in_time, once, run, tests};

fn main() {
    run(tests! {
        once: [
            parts_become_one_message,
            fds_come_along_cloexec,
            too_much_is_refused,
            cut_message_is_an_error,
            closed_peer_is_seen_by_send_and_receive,
            messages_outlive_their_sender,
            messages_outlive_a_reset,
            deadline_passes,
            message_in_time_is_received,
            full_link_would_block,
            other_fds_are_no_links,
            lifeline_kills,
            lifeline_of_a_closed_peer_kills,
            lifeline_spares_while_a_copy_is_open,
            lifeline_spares_grandchildren,
        ],
    })
}

fn bytes(link: &Link) -> Vec<u8> {
    link.recv(Some(in_time())).unwrap().expect("a message").bytes
}

fn say(link: &Link, what: &[u8]) {
    link.send(&[IoSlice::new(what)], &[]).unwrap();
}

fn parts_become_one_message() {
    let (ours, theirs) = Link::pair().unwrap();
    ours.send(&[IoSlice::new(b"a"), IoSlice::new(b""), IoSlice::new(b"bc")], &[]).unwrap();
    ours.send_now(&[IoSlice::new(&vec![7; MAX_MESSAGE])], &[]).unwrap();
    assert_eq!(bytes(&theirs), b"abc");
    assert_eq!(bytes(&theirs), vec![7; MAX_MESSAGE]);
    assert!(matches!(theirs.recv_now().unwrap(), Received::Nothing));
}

fn fds_come_along_cloexec() {
    let (ours, theirs) = Link::pair().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    ours.send(&[IoSlice::new(b"x")], &[writer.as_fd(); MAX_FDS]).unwrap();
    drop(writer);
    let Received::Message(message) = theirs.recv_now().unwrap() else { panic!("a message was sent") };
    assert_eq!(message.fds.len(), MAX_FDS);
    for (number, fd) in message.fds.into_iter().enumerate() {
        assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        write!(std::fs::File::from(fd), "{number}").unwrap();
    }
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, (0..MAX_FDS).map(|number| number.to_string()).collect::<String>());
}

fn too_much_is_refused() {
    let (ours, theirs) = Link::pair().unwrap();
    let (null, byte) = (std::fs::File::open("/dev/null").unwrap(), IoSlice::new(b"x"));
    let too_long = vec![0; MAX_MESSAGE + 1];
    let tries: [(&[IoSlice<'_>], &[BorrowedFd<'_>]); 4] = [
        (&[], &[]),
        (&[IoSlice::new(b"")], &[null.as_fd()]),
        (&[IoSlice::new(&too_long)], &[]),
        (&[byte], &[null.as_fd(); MAX_FDS + 1]),
    ];
    for (parts, fds) in tries {
        assert_eq!(ours.send(parts, fds).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(ours.send_now(parts, fds).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert!(matches!(theirs.recv_now().unwrap(), Received::Nothing));
}

fn cut_message_is_an_error() {
    let (ours, theirs) = Link::pair().unwrap();
    rustix::net::send(&ours, &vec![0; MAX_MESSAGE + 1], rustix::net::SendFlags::empty()).unwrap();
    assert_eq!(theirs.recv(Some(in_time())).unwrap_err().kind(), ErrorKind::InvalidData);

    let fds = [ours.as_fd(); MAX_FDS + 3];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS + 3))];
    let mut beside = rustix::net::SendAncillaryBuffer::new(&mut space);
    assert!(beside.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
    let flags = rustix::net::SendFlags::empty();
    rustix::net::sendmsg(&ours, &[IoSlice::new(b"x")], &mut beside, flags).unwrap();
    assert_eq!(theirs.recv(Some(in_time())).unwrap_err().kind(), ErrorKind::InvalidData);

    say(&ours, b"fine");
    assert_eq!(bytes(&theirs), b"fine");
    drop(ours);
    assert!(theirs.recv(Some(in_time())).unwrap().is_none(), "the fds of the cut message were closed");
}

fn closed_peer_is_seen_by_send_and_receive() {
    let (ours, theirs) = Link::pair().unwrap();
    say(&ours, b"never read");
    drop(theirs);
    assert_eq!(ours.send(&[IoSlice::new(b"x")], &[]).unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert!(ours.recv(None).unwrap().is_none());
    assert!(ours.recv(Some(in_time())).unwrap().is_none());
    assert!(matches!(ours.recv_now().unwrap(), Received::Closed));
}

fn messages_outlive_a_reset() {
    for now in [false, true] {
        let (ours, theirs) = Link::pair().unwrap();
        say(&ours, b"never read");
        say(&theirs, b"last words");
        drop(theirs);
        if now {
            assert!(matches!(ours.recv_now().unwrap(), Received::Message(last) if last.bytes == b"last words"));
        } else {
            assert_eq!(bytes(&ours), b"last words");
        }
        assert!(matches!(ours.recv_now().unwrap(), Received::Closed));
    }
}

fn messages_outlive_their_sender() {
    let (ours, theirs) = Link::pair().unwrap();
    let child = fork(None, || {
        say(&theirs, b"last ");
        say(&theirs, b"words");
        0
    });
    drop(theirs);
    assert!(end_of(&child.unwrap()).success());
    assert_eq!([bytes(&ours), bytes(&ours)].concat(), b"last words");
    assert!(ours.recv(None).unwrap().is_none());
}

fn deadline_passes() {
    let (ours, _theirs) = Link::pair().unwrap();
    let deadline = Instant::now() + Duration::from_millis(30);
    assert_eq!(ours.recv(Some(deadline)).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(ours.recv(Some(deadline)).unwrap_err().kind(), ErrorKind::TimedOut, "and is past");
}

fn message_in_time_is_received() {
    let (ours, theirs) = Link::pair().unwrap();
    let child = fork(None, || {
        std::thread::sleep(Duration::from_millis(20));
        say(&theirs, b"late");
        0
    });
    assert_eq!(bytes(&ours), b"late");
    assert!(end_of(&child.unwrap()).success());
}

fn full_link_would_block() {
    let (ours, theirs) = Link::pair().unwrap();
    let message = [IoSlice::new(&[1; 4096])];
    let mut sent = 0;
    let refused = loop {
        match ours.send_now(&message, &[]) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 100_000, "it never fills");
    };
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    for _ in 0..sent {
        assert_eq!(bytes(&theirs).len(), 4096);
    }
    assert!(matches!(theirs.recv_now().unwrap(), Received::Nothing));
}

fn other_fds_are_no_links() {
    let (one, _other) = Link::pair().unwrap();
    assert!(one.is_seqpacket().unwrap());
    let stream = OwnedFd::from(std::os::unix::net::UnixStream::pair().unwrap().0);
    let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    for fd in [stream, file] {
        assert!(!Link::from(fd).is_seqpacket().unwrap());
    }
}

/// Ends only by a signal.
fn sleep_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

/// Child: sends back whatever comes, so that its parent sees it alive.
fn echo_for_ever(probe: &Link) -> ! {
    loop {
        say(probe, &bytes(probe));
    }
}

fn assert_echoes(probe: &Link) {
    say(probe, b"alive?");
    assert_eq!(bytes(probe), b"alive?");
}

fn lifeline_kills() {
    let (ours, theirs) = Link::pair().unwrap();
    let (probe, their_probe) = Link::pair().unwrap();
    let mut inherited = Some((ours, probe));
    let child = fork(None, || {
        inherited = None;
        theirs.kill_me_when_peer_closes().unwrap();
        say(&theirs, b"armed");
        echo_for_ever(&their_probe)
    });
    let (child, (ours, probe)) = (child.unwrap(), inherited.unwrap());
    drop(theirs);
    assert_eq!(bytes(&ours), b"armed");
    assert_echoes(&probe);
    drop(ours);
    assert_eq!(end_of(&child).signal(), Some(9));
}

fn lifeline_of_a_closed_peer_kills() {
    let (ours, theirs) = Link::pair().unwrap();
    drop(ours);
    let child = fork(None, || {
        theirs.kill_me_when_peer_closes().unwrap();
        3
    });
    assert_eq!(end_of(&child.unwrap()).signal(), Some(9));
}

fn lifeline_spares_while_a_copy_is_open() {
    let (ours, theirs) = Link::pair().unwrap();
    let (probe, their_probe) = Link::pair().unwrap();
    let copy = ours.as_fd().try_clone_to_owned().unwrap();
    let mut inherited = Some((ours, copy, probe));
    let child = fork(None, || {
        inherited = None;
        theirs.kill_me_when_peer_closes().unwrap();
        say(&theirs, b"armed");
        echo_for_ever(&their_probe)
    });
    let (child, (ours, copy, probe)) = (child.unwrap(), inherited.unwrap());
    assert_eq!(bytes(&ours), b"armed");
    drop((theirs, ours));
    assert_echoes(&probe);
    drop(copy);
    assert_eq!(end_of(&child).signal(), Some(9));
}

fn lifeline_spares_grandchildren() {
    let (ours, theirs) = Link::pair().unwrap();
    let (probe, their_probe) = Link::pair().unwrap();
    let mut inherited = Some((ours, probe));
    let child = fork(None, || {
        inherited = None;
        theirs.kill_me_when_peer_closes().unwrap();
        // It has a copy of the armed end, but does not own it.
        let grandchild = fork(None, || {
            say(&their_probe, b"alive");
            let last = bytes(&their_probe);
            say(&their_probe, &last);
            0
        });
        grandchild.unwrap();
        sleep_for_ever()
    });
    let (child, (ours, probe)) = (child.unwrap(), inherited.unwrap());
    drop(their_probe);
    assert_eq!(bytes(&probe), b"alive");
    drop((theirs, ours));
    assert_eq!(end_of(&child).signal(), Some(9));
    assert_echoes(&probe);
    eventually("the grandchild leaves", || matches!(probe.recv_now().unwrap(), Received::Closed));
}
