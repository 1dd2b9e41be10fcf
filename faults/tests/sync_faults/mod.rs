//! The scenarios of `sync`. A process dies at each step of each primitive's protocol; the others
//! learn of the death where they must, wait for nobody dead, and go on.

use std::time::{Duration, Instant};

use procession_shm::fault::{Step, arm};
use procession_shm::sync::{
    Acquired, Barrier, BinarySemaphore, Condition, Event, Lock, Mutex, Refused, RwLock, Semaphore,
};
use procession_sys::fork::fork;
use procession_sys::pidfd::PidFd;

use crate::die_at;

/// Longer than the watchdog, which names a test that hangs.
pub(crate) fn patience() -> Option<Instant> {
    Some(Instant::now() + 2 * procession_testing::patience())
}

pub(crate) fn scenario(step: Step, nth: u32) {
    use Step::*;
    match step {
        LockHeld => locking(nth),
        LockNoted => noting(nth),
        RwTurned | RwLanes | RwWriting | RwWritten => writing(step, nth),
        RwReading => reading(nth),
        SemaphoreTaken => taking(nth),
        SemaphoreReleased => releasing(nth),
        BinaryTaken => owning(nth),
        BinaryReleased => disowning(nth),
        EventSet => setting(nth),
        WaiterRegistered | WaiterSlept => waiting(step, nth),
        WaiterNotified => notifying(nth),
        NotificationPassed => passing_on(nth),
        BarrierJoined | BarrierArrived | BarrierLeft => meeting(step, nth),
        BarrierPassed => meeting_last(nth),
        BarrierBroken => breaking(nth),
        other => unreachable!("{other:?} is not a step of these"),
    }
}

/// Starts a child that ends with 7 if `body` returns `true`.
fn child(body: impl FnOnce() -> bool) -> PidFd {
    fork(None, || if body() { 7 } else { 1 }).unwrap()
}

fn joined(child: &PidFd) {
    assert_eq!(child.reap().unwrap().code(), 7, "the survivor finds what it must");
}

/// Polls. The watchdog ends it.
fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn locking(nth: u32) {
    let mutex = Mutex::create([0u32; 2]).unwrap();
    let both = |by: u32| {
        for _ in 0..nth {
            let (mut pair, acquired) = mutex.lock(None).unwrap();
            assert_eq!(acquired, Acquired::Clean);
            pair[0] += by;
            pair[1] += by;
        }
    };
    let survivor = child(|| {
        until(|| matches!(mutex.try_lock(), Ok(Some((_, Acquired::OwnerDied)))));
        let (pair, acquired) = mutex.lock(patience()).unwrap();
        let told = acquired == Acquired::OwnerDied && pair[0] == pair[1] && pair[0] == nth - 1;
        pair.recover();
        told
    });
    die_at(Step::LockHeld, nth, || both(1));
    joined(&survivor);
    both(1);
    assert_eq!(*mutex.lock(None).unwrap().0, [2 * nth - 1; 2]);
}

fn noting(nth: u32) {
    let lock = Lock::create().unwrap();
    die_at(Step::LockHeld, 1, || drop(lock.lock(None)));
    // Each of these finds that the owner before died, and dies before it has marked the mutex
    // consistent.
    for _ in 0..nth {
        die_at(Step::LockNoted, 1, || drop(lock.lock(None)));
    }
    assert_eq!(lock.lock(patience()).unwrap(), Acquired::OwnerDied);
    lock.recover();
    assert!(lock.unlock());
    assert_eq!(lock.lock(None).unwrap(), Acquired::Clean);
    assert!(lock.unlock());
}

fn writing(step: Step, nth: u32) {
    let lock = RwLock::create([0u32; 2]).unwrap();
    let write = || {
        let (mut pair, acquired) = lock.write(patience()).unwrap();
        let next = pair[0] + 1;
        *pair = [next; 2];
        acquired
    };
    die_at(step, nth, || {
        (0..nth).for_each(|_| {
            write();
        })
    });
    // The process died with the word set, before it, or after it. Only in the first case may the
    // value be half written.
    let expected = if step == Step::RwWriting { Acquired::OwnerDied } else { Acquired::Clean };
    let written = if step == Step::RwWritten { nth } else { nth - 1 };
    let reader = child(|| {
        let (pair, acquired) = lock.read(patience()).unwrap();
        acquired == expected && *pair == [written; 2]
    });
    joined(&reader);
    {
        let (_pair, acquired) = lock.write(patience()).unwrap();
        assert_eq!(acquired, expected);
    }
    lock.read(patience()).unwrap().0.recover();
    assert_eq!(write(), Acquired::Clean);
    assert_eq!(*lock.read(None).unwrap().0, [written + 1; 2]);
}

fn reading(nth: u32) {
    let lock = RwLock::create(3u64).unwrap();
    die_at(Step::RwReading, nth, || (0..nth).for_each(|_| drop(lock.read(None).unwrap())));
    let (mut value, acquired) = lock.write(patience()).unwrap();
    assert_eq!((*value, acquired), (3, Acquired::Clean), "a dead reader has changed nothing");
    *value = 4;
    assert!(matches!(lock.read(None), Err(Refused::Deadlock)), "nothing of the dead reader's is left in its lane");
    drop(value);
    assert_eq!(*lock.read(None).unwrap().0, 4);
}

fn taking(nth: u32) {
    let semaphore = Semaphore::create(5, 5).unwrap();
    die_at(Step::SemaphoreTaken, nth, || (0..nth).for_each(|_| semaphore.acquire(None).unwrap()));
    assert_eq!(semaphore.value(), 5 - nth, "what it had taken is gone with it");
    semaphore.release(nth).unwrap();
    assert!(matches!(semaphore.release(1), Err(Refused::Overflow)));
}

fn releasing(nth: u32) {
    let semaphore = Semaphore::create(0, 5).unwrap();
    let acquirer = child(|| (0..nth).all(|_| semaphore.acquire(patience()).is_ok()));
    die_at(Step::SemaphoreReleased, nth, || (0..nth).for_each(|_| semaphore.release(1).unwrap()));
    joined(&acquirer);
    assert_eq!(semaphore.value(), 0);
}

fn owning(nth: u32) {
    let semaphore = BinarySemaphore::create().unwrap();
    die_at(Step::BinaryTaken, nth, || {
        for _ in 0..nth {
            semaphore.acquire(None).unwrap();
            semaphore.release().unwrap();
        }
    });
    let owner = semaphore.owner();
    assert!(owner.unwrap().has_ended());
    let acquirer = child(|| semaphore.acquire(patience()).unwrap() == owner && semaphore.release().is_ok());
    joined(&acquirer);
    assert_eq!(semaphore.try_acquire(), Some(None), "told once");
    assert_eq!(semaphore.try_acquire(), None);
    let releaser = child(|| semaphore.release().is_ok());
    joined(&releaser);
    assert!(matches!(semaphore.release(), Err(Refused::Overflow)));
}

fn disowning(nth: u32) {
    let semaphore = BinarySemaphore::create().unwrap();
    semaphore.acquire(None).unwrap();
    let acquirer = child(|| semaphore.acquire(patience()).unwrap().is_none());
    die_at(Step::BinaryReleased, nth, || {
        for turn in 0..nth {
            // By then another may have acquired and ended with it.
            if turn > 0 {
                semaphore.acquire(patience()).unwrap();
            }
            semaphore.release().unwrap();
        }
    });
    joined(&acquirer);
    assert!(semaphore.acquire(patience()).is_ok());
}

fn setting(nth: u32) {
    let event = Event::create().unwrap();
    let waiter = child(|| event.wait(patience()));
    die_at(Step::EventSet, nth, || {
        for _ in 0..nth {
            event.clear();
            event.set();
        }
    });
    joined(&waiter);
    assert!(event.is_set() && event.wait(None));
}

/// A waiter dies; another gets the notification that it had got or would have got.
fn waiting(step: Step, nth: u32) {
    let condition = Condition::create().unwrap();
    let victim = fork(None, || {
        arm(step, nth);
        for _ in 0..nth {
            let _ = condition.wait(Some(Instant::now() + Duration::from_millis(10)), || ());
        }
        0
    })
    .unwrap();
    assert_eq!(victim.reap().unwrap().signal(), Some(9), "{step:?} is reached a {nth}. time");
    let (lock, sits) = (Lock::create().unwrap(), Event::create().unwrap());
    let survivor = child(|| {
        lock.lock(None).unwrap();
        condition
            .wait(patience(), || {
                sits.set();
                lock.unlock();
            })
            .unwrap()
    });
    assert!(sits.wait(patience()));
    assert_eq!(condition.notify(1).unwrap(), 1, "the dead one does not count");
    joined(&survivor);
    assert_eq!(condition.notify(1).unwrap(), 0);
}

/// A notifier dies when the record says notified, and nobody is woken.
fn notifying(nth: u32) {
    let condition = Condition::create().unwrap();
    let waiters: Vec<_> = (0..3).map(|_| child(|| condition.wait(patience(), || ()).unwrap())).collect();
    die_at(Step::WaiterNotified, nth, || {
        let mut notified = 0;
        until(|| {
            notified += condition.notify(1).unwrap();
            notified == 3
        });
    });
    let mut left = 3 - nth as usize;
    until(|| {
        left -= condition.notify(left).unwrap();
        left == 0
    });
    waiters.iter().for_each(joined);
    assert_eq!(condition.notify(1).unwrap(), 0);
}

/// A process that passes a dead waiter's notification on dies before it has freed the record.
fn passing_on(nth: u32) {
    let condition = Condition::create().unwrap();
    // A waiter that is notified, and dies before it has unregistered.
    let victim = fork(None, || {
        arm(Step::WaiterSlept, 1);
        let _ = condition.wait(None, || ());
        0
    })
    .unwrap();
    until(|| condition.notify(1).unwrap() == 1);
    assert_eq!(victim.reap().unwrap().signal(), Some(9));
    for _ in 0..nth {
        die_at(Step::NotificationPassed, 1, || drop(condition.notify(0)));
    }
    let survivor = child(|| condition.wait(patience(), || ()).unwrap());
    joined(&survivor);
    assert_eq!(condition.notify(9).unwrap(), 0);
}

/// One of three parties dies, in its nth round. The others learn of it, and go on without it after
/// a reset.
fn meeting(step: Step, nth: u32) {
    let barrier = Barrier::create(3).unwrap();
    let party = || {
        let broken = (0..9).map(|_| barrier.wait(patience())).find_map(Result::err);
        matches!(broken, Some(Refused::Broken))
    };
    let victim = fork(None, || {
        arm(step, nth);
        for round in 0..9 {
            if let Err(refused) = barrier.wait(patience()) {
                eprintln!("{step:?}: round {round} ends before the step is reached: {refused:?}");
            }
        }
        0
    })
    .unwrap();
    let others = [child(party), child(party)];
    assert_eq!(victim.reap().unwrap().signal(), Some(9), "{step:?} is reached a {nth}. time");
    others.iter().for_each(joined);
    sound(&barrier);
}

/// The last to arrive dies when it has let some of the others pass.
fn meeting_last(nth: u32) {
    let barrier = Barrier::create(4).unwrap();
    let party = || match barrier.wait(patience()) {
        Ok(_) => matches!(barrier.wait(patience()), Err(Refused::Broken)),
        Err(refused) => matches!(refused, Refused::Broken),
    };
    let others = [child(party), child(party), child(party)];
    until(|| barrier.waiting() == 3);
    die_at(Step::BarrierPassed, nth, || drop(barrier.wait(None)));
    others.iter().for_each(joined);
    sound(&barrier);
}

fn breaking(nth: u32) {
    let barrier = Barrier::create(3).unwrap();
    let party = || matches!(barrier.wait(patience()), Err(Refused::Broken));
    let others = [child(party), child(party)];
    until(|| barrier.waiting() == 2);
    die_at(Step::BarrierBroken, nth, || (0..nth).for_each(|_| barrier.abort().unwrap()));
    others.iter().for_each(joined);
    assert!(barrier.is_broken());
    sound(&barrier);
}

/// Checks that it works as before.
fn sound(barrier: &Barrier) {
    barrier.reset().unwrap();
    assert!(!barrier.is_broken());
    let party = || (0..20).all(|_| barrier.wait(patience()).is_ok());
    let parties: Vec<_> = (0..barrier.parties()).map(|_| child(party)).collect();
    parties.iter().for_each(joined);
}
