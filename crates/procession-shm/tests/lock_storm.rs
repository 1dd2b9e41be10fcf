//! Random SIGKILLs over processes that hold and wait for locks. No two processes are ever inside
//! together, every death is reported, and nobody hangs.
//!
//! `KILL_STORM_SEED` replays a run's choices (the machine decides the instants),
//! `KILL_STORM_SECONDS` lengthens it.

use std::time::{Duration, Instant};

use procession_shm::sync::{Acquired, BinarySemaphore, Condition, Event, Mutex, RwLock};
use procession_sys::Signal;
use procession_sys::fork::fork;
use procession_sys::pidfd::PidFd;
use procession_testing::{once, run, storm, tests};

/// The first of them take turns at the locks, the others at the binary semaphore. A dead owner of
/// the latter is found only after a while, so those are killed less often: otherwise nobody would
/// live to find it.
const LOCKERS: usize = 4;
const PROCESSES: usize = LOCKERS + 2;
const DONE: i32 = 7;

fn main() {
    run(tests! {
        once: [nobody_is_in_with_another_or_hangs_whoever_is_killed],
    })
}

fn nobody_is_in_with_another_or_hangs_whoever_is_killed() {
    let (mut random, length) = storm();
    let shared = Shared::new();
    let mut processes: Vec<PidFd> = (0..PROCESSES).map(|index| shared.start(index)).collect();
    let (end, mut kills) = (Instant::now() + length, 0);
    while Instant::now() < end || shared.has_seen_too_little(kills) {
        std::thread::sleep(Duration::from_micros(random.below(3000)));
        let is_locker = random.below(128) != 0;
        let (from, number) = if is_locker { (0, LOCKERS) } else { (LOCKERS, PROCESSES - LOCKERS) };
        let victim = from + random.index(number);
        processes[victim].signal(Signal::KILL).unwrap();
        let status = processes[victim].reap().unwrap();
        assert_eq!(status.signal(), Some(9), "it was killed, and had not failed: {status}");
        kills += 1;
        processes[victim] = shared.start(victim);
    }
    shared.stop.set();
    for process in processes {
        assert_eq!(process.reap().unwrap().code(), DONE, "it comes to its end");
    }
    let [rounds, same, _] = shared.lock_mutex();
    assert_eq!(rounds, same);
    println!("{kills} kills, {} of them of owners, {rounds} rounds", shared.deaths());
}

struct Shared {
    /// The same number twice, and whether somebody is inside.
    mutex: Mutex<[u64; 3]>,
    rwlock: RwLock<[u64; 2]>,
    binary: BinarySemaphore,
    /// Locked only by the owner of the binary semaphore, and so never found locked.
    inside: Mutex<u8>,
    condition: Condition,
    deaths: Mutex<u64>,
    stop: Event,
}

impl Shared {
    fn new() -> Shared {
        Shared {
            mutex: Mutex::create([0; 3]).unwrap(),
            rwlock: RwLock::create([0; 2]).unwrap(),
            binary: BinarySemaphore::create().unwrap(),
            inside: Mutex::create(0).unwrap(),
            condition: Condition::create().unwrap(),
            deaths: Mutex::create(0).unwrap(),
            stop: Event::create().unwrap(),
        }
    }

    fn start(&self, index: usize) -> PidFd {
        fork(None, || {
            for round in 0u64.. {
                if self.stop.is_set() {
                    break;
                }
                if index >= LOCKERS {
                    self.take_binary();
                    continue;
                }
                self.lock_mutex();
                self.read_or_write(round);
                self.wait_or_notify(round);
            }
            DONE
        })
        .unwrap()
    }

    /// On a machine with other work the storm lasts longer. The watchdog bounds it.
    fn has_seen_too_little(&self, kills: u32) -> bool {
        kills <= 50 || self.deaths() <= 5 || self.lock_mutex()[0] <= 500
    }

    fn deaths(&self) -> u64 {
        let (deaths, acquired) = self.deaths.lock(None).unwrap();
        if acquired == Acquired::OwnerDied {
            deaths.recover();
        }
        *deaths
    }

    fn lock_mutex(&self) -> [u64; 3] {
        let (mut all, acquired) = self.mutex.lock(None).unwrap();
        if acquired == Acquired::OwnerDied {
            *all = [all[0]; 3];
            all[2] = 0;
            all.recover();
            let (mut deaths, acquired) = self.deaths.lock(None).unwrap();
            if acquired == Acquired::OwnerDied {
                deaths.recover();
            }
            *deaths += 1;
        }
        assert!(all[0] == all[1] && all[2] == 0, "somebody else is in: {all:?}");
        all[2] = 1;
        all[0] += 1;
        linger();
        all[1] += 1;
        all[2] = 0;
        *all
    }

    fn read_or_write(&self, round: u64) {
        if !round.is_multiple_of(4) {
            let (pair, acquired) = self.rwlock.read(None).unwrap();
            assert!(acquired == Acquired::OwnerDied || pair[0] == pair[1], "a writer is in");
            return;
        }
        let (mut pair, acquired) = self.rwlock.write(None).unwrap();
        if acquired == Acquired::OwnerDied {
            pair[1] = pair[0];
            pair.recover();
        }
        assert_eq!(pair[0], pair[1], "another writer is in");
        pair[0] += 1;
        linger();
        pair[1] += 1;
    }

    fn take_binary(&self) {
        let dead = self.binary.acquire(None).unwrap();
        let (guard, was_dead) = self.inside.try_lock().unwrap().expect("nobody else is in");
        assert!(was_dead == Acquired::Clean || dead.is_some(), "a death inside is told outside");
        guard.recover();
        linger();
        drop(guard);
        self.binary.release().unwrap();
    }

    fn wait_or_notify(&self, round: u64) {
        if round.is_multiple_of(16) {
            let soon = Some(Instant::now() + Duration::from_millis(1));
            self.condition.wait(soon, || ()).unwrap();
        } else if round % 4 == 1 {
            self.condition.notify(2).unwrap();
        }
    }
}

/// Holds the lock long enough to be killed.
fn linger() {
    (0..200).for_each(|turn| drop(std::hint::black_box(turn.to_string())));
}
