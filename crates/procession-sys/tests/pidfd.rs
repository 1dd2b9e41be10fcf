//! `PidFd` of children, of other processes and of this one.

#![allow(unsafe_code)] // A signal handler.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use procession_sys::fork::fork;
use procession_sys::pidfd::{PidFd, current_pid};
use procession_sys::poller::{Poller, wait_readable};
use procession_sys::{ExitStatus, Signal};
use procession_testing::{end_of, in_time, once, run, tests};

fn main() {
    run(tests! {
        once: [
            signal_kills_and_is_reported,
            signal_after_the_end_reaches_nobody,
            nonsense_signal_is_an_error,
            wait_passes_its_deadline,
            wait_resumes_after_a_signal,
            stopped_child_has_not_ended,
            reap_blocks_and_happens_once,
            end_is_known_whoever_reaps,
            non_child_can_be_waited_for,
            clone_outlives_the_original,
            own_pidfd_has_not_ended,
            group_is_killed_with_the_fd_of_its_leader, sentinels_are_pollable,
        ],
    })
}

fn sleeper() -> PidFd {
    let child = fork(None, || {
        loop {
            std::thread::park();
        }
    });
    child.unwrap()
}

fn signal_kills_and_is_reported() {
    for signal in [Signal::TERM, Signal::KILL, Signal::ABRT, Signal::from_raw(40)] {
        let child = sleeper();
        assert!(child.signal(signal).unwrap());
        assert_eq!(end_of(&child), ExitStatus::signaled(signal.as_raw()));
    }
}

fn signal_after_the_end_reaches_nobody() {
    let child = fork(None, || 0).unwrap();
    assert!(child.wait_ended(Some(in_time())).unwrap());
    assert!(!child.signal(Signal::KILL).unwrap(), "a zombie");
    assert_eq!(child.reap().unwrap().code(), 0);
    assert!(!child.signal(Signal::KILL).unwrap(), "reaped");
    assert!(child.has_ended().unwrap());
}

fn nonsense_signal_is_an_error() {
    let me = PidFd::of_self().unwrap();
    assert!(me.signal(Signal::from_raw(0)).unwrap(), "0 only asks");
    for raw in [-1, 65, i32::MAX] {
        assert_eq!(me.signal(Signal::from_raw(raw)).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}

fn wait_passes_its_deadline() {
    let child = sleeper();
    assert!(!child.wait_ended(Some(Instant::now() + Duration::from_millis(30))).unwrap());
    assert_eq!(child.try_reap().unwrap(), None);
    assert!(child.signal(Signal::KILL).unwrap());
    assert!(child.wait_ended(None).unwrap());
    assert_eq!(end_of(&child).signal(), Some(9));
}

fn wait_resumes_after_a_signal() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the handler does nothing; without SA_RESTART it interrupts system calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    let parent = PidFd::of_self().unwrap();
    let child = fork(None, || {
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(2));
            parent.signal(Signal::USR1).unwrap();
        }
        9
    });
    let child = child.unwrap();
    assert!(child.wait_ended(Some(in_time())).unwrap(), "interrupted, but not ended by it");
    assert_eq!(child.reap().unwrap().code(), 9);
}

fn stopped_child_has_not_ended() {
    let child = sleeper();
    assert!(child.signal(Signal::STOP).unwrap());
    assert!(!child.wait_ended(Some(Instant::now() + Duration::from_millis(20))).unwrap());
    assert_eq!(child.try_reap().unwrap(), None);
    assert!(child.signal(Signal::KILL).unwrap());
    assert_eq!(end_of(&child).signal(), Some(9));
}

fn reap_blocks_and_happens_once() {
    let child = fork(None, || {
        std::thread::sleep(Duration::from_millis(20));
        8
    });
    let child = child.unwrap();
    assert_eq!(child.reap().unwrap(), ExitStatus::exited(8));
    assert_eq!(child.try_reap().unwrap_err().raw_os_error(), Some(libc::ECHILD));
    assert_eq!(PidFd::open(child.pid()).unwrap_err().raw_os_error(), Some(libc::ESRCH));
}

fn end_is_known_whoever_reaps() {
    let ways: [(fn() -> i32, i32); 2] = [(|| 7, 7), (|| std::process::abort(), -libc::SIGABRT)];
    for (end, code) in ways {
        let (mut gate, mut opener) = std::io::pipe().unwrap();
        let child = fork(None, || {
            gate.read_exact(&mut [0]).unwrap();
            end()
        });
        let child = child.unwrap();
        assert_eq!(child.ended_status().unwrap(), None, "it runs");
        opener.write_all(&[0]).unwrap();
        let other = fork(None, || {
            assert!(child.wait_ended(Some(in_time())).unwrap());
            i32::from(child.ended_status().unwrap().map(ExitStatus::code) != Some(code))
        });
        assert_eq!(end_of(&other.unwrap()).code(), 0, "seen by one whose child it is not");
        assert_eq!(end_of(&child).code(), code);
        let remembered = child.ended_status().unwrap().map(ExitStatus::code);
        assert!(remembered.is_none_or(|remembered| remembered == code), "{remembered:?}");
        assert_eq!(remembered.is_some(), is_linux(6, 15), "the kernel remembers from 6.15 on");
    }
}

fn is_linux(major: u32, minor: u32) -> bool {
    let uname = rustix::system::uname();
    let mut numbers = uname.release().to_str().unwrap().split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

fn non_child_can_be_waited_for() {
    let one = fork(None, || {
        std::thread::sleep(Duration::from_millis(20));
        0
    });
    let one = one.unwrap();
    let other = fork(None, || {
        let waited = one.wait_ended(Some(in_time())).unwrap();
        let reaped = one.try_reap().unwrap_err().raw_os_error();
        i32::from(!waited || reaped != Some(libc::ECHILD))
    });
    assert_eq!(end_of(&other.unwrap()).code(), 0);
    assert_eq!(end_of(&one).code(), 0);
}

fn clone_outlives_the_original() {
    let child = sleeper();
    let clone = child.try_clone().unwrap();
    assert_eq!(clone.pid(), child.pid());
    assert!(rustix::io::fcntl_getfd(&clone).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    assert!(rustix::io::fcntl_getfd(&child).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    drop(child);
    assert!(clone.signal(Signal::KILL).unwrap());
    assert_eq!(end_of(&clone).signal(), Some(9));
}

fn own_pidfd_has_not_ended() {
    let me = PidFd::of_self().unwrap();
    assert_eq!(me.pid(), current_pid());
    assert!(!me.has_ended().unwrap());
    assert!(PidFd::open(0).is_err() && PidFd::open(u32::MAX).is_err());
}

fn sentinels_are_pollable() {
    let (one, two) = (sleeper(), sleeper());
    let poller = Poller::new().unwrap();
    poller.add(one.as_fd(), 1).unwrap();
    poller.add(two.as_fd(), 2).unwrap();
    assert!(two.signal(Signal::KILL).unwrap());
    assert_eq!(wait_readable(&[one.as_fd(), two.as_fd()], Some(in_time())).unwrap(), [false, true]);
    let mut keys = Vec::new();
    poller.wait(&mut keys, Some(in_time() - Instant::now())).unwrap();
    assert_eq!(keys, [2]);
    assert!(one.signal(Signal::KILL).unwrap());
    for child in [one, two] {
        poller.remove(child.as_fd()).unwrap();
        assert_eq!(end_of(&child).signal(), Some(9));
    }
}

fn group_is_killed_with_the_fd_of_its_leader() {
    // The leader has ended, and is reaped or not: the group is the same.
    for is_reaped in [false, true] {
        let (reader, writer) = std::io::pipe().unwrap();
        let leader = fork(None, || {
            procession_sys::confine::lead_group().unwrap();
            let member = fork(None, || {
                std::thread::sleep(Duration::from_secs(1000));
                0
            });
            let member = member.unwrap().pid();
            std::io::Write::write_all(&mut &writer, &member.to_le_bytes()).unwrap();
            0
        });
        let leader = leader.unwrap();
        let mut member = [0; 4];
        std::io::Read::read_exact(&mut &reader, &mut member).unwrap();
        let member = PidFd::open(u32::from_le_bytes(member)).unwrap();
        assert!(leader.wait_ended(Some(in_time())).unwrap());
        if is_reaped {
            leader.reap().unwrap();
        }
        match leader.kill_group_by_fd() {
            Ok(had_some) => assert!(had_some),
            Err(error) => {
                assert!(error.kind() == std::io::ErrorKind::InvalidInput && !is_linux(6, 9), "{error}");
                assert!(is_reaped || leader.kill_group().unwrap());
                assert!(!is_reaped || member.signal(Signal::KILL).unwrap());
            }
        }
        assert!(member.wait_ended(Some(in_time())).unwrap());
        if !is_reaped {
            leader.reap().unwrap();
        }
    }
}
