//! Kills and stops processes that lock, wait and notify by everything in `procession::sync`. The
//! process that recovers a mutex repairs its value, and the processes that are left make progress,
//! whichever process died.

use std::time::{Duration, Instant};

use procession::sync::{Barrier, Condition, Event, Lock, Mutex, RwLock, Semaphore};
use procession::{Context, Process, SharedArray, SharedValue};

use crate::Tally;
use crate::weather::Weather;

const PROCESSES: usize = 4;
const PATIENCE: Duration = Duration::from_secs(30);
const BRIEFLY: Duration = Duration::from_millis(3);

type All = (
    (Mutex<[u64; 2]>, RwLock<[u64; 2]>, Lock, Condition, Semaphore, Event, Barrier),
    (SharedArray<u64>, SharedValue<u64>, SharedValue<u64>, usize),
);

pub(crate) fn storm(context: Context, weather: &mut Weather, end: Instant) -> Tally {
    let lock = Lock::new().expect("a lock is made");
    let condition = Condition::new(&lock).expect("a condition is made");
    let (pair, table) = (Mutex::new([0; 2]).expect("a mutex"), RwLock::new([0; 2]).expect("a lock"));
    let (permits, event) = (Semaphore::new(2).expect("a semaphore"), Event::new().expect("an event"));
    let barrier = Barrier::new(2).expect("a barrier");
    let progress = SharedArray::new(PROCESSES).expect("an array");
    let (recovered, over) = (SharedValue::new(0).expect("a value"), SharedValue::new(0).expect("a value"));
    let start = |place: usize| -> Process<()> {
        let primitives = (
            pair.clone(),
            table.clone(),
            lock.clone(),
            condition.clone(),
            permits.clone(),
            event.clone(),
            barrier.clone(),
        );
        let state = (progress.clone(), recovered.clone(), over.clone(), place);
        context.process(work, (primitives, state)).start().expect("a process starts")
    };
    let mut processes: Vec<_> = (0..PROCESSES).map(start).collect();
    let mut killed = 0;
    while Instant::now() < end {
        weather.pass();
        let victim = weather.choose(PROCESSES);
        match weather.choose(4) {
            0 => {
                killed += u64::from(weather.kill(processes[victim].pid()));
                processes[victim] = start(victim);
            }
            1 => weather.stop(processes[victim].pid()),
            _ => {}
        }
        // A permit dies with its holder, because a semaphore belongs to nobody.
        if permits.value() == 0 {
            permits.release().expect("it has room for permits");
        }
    }
    weather.clear();
    let before = progress.to_vec();
    let deadline = Instant::now() + PATIENCE;
    while (0..PROCESSES).any(|place| progress.get(place) == before[place]) {
        assert!(Instant::now() < deadline, "some get no further: {before:?}, and then {:?}", progress.to_vec());
        if permits.value() == 0 {
            permits.release().expect("it has room for permits");
        }
        std::thread::sleep(BRIEFLY);
    }
    over.set(1);
    processes.iter_mut().for_each(|process| process.join_timeout(PATIENCE).expect("it ends when it is told to"));
    let whole = pair.lock().or_else(|error| mend(error.recover())).expect("nobody holds it");
    assert_eq!(whole[0], whole[1], "what the mutex guards is whole");
    let turns = progress.to_vec().iter().sum();
    Tally::from([("turns", turns), ("processes killed", killed), ("recoveries", recovered.get())])
}

/// The work of each process until the storm is over.
fn work((primitives, (progress, recovered, over, place)): All) {
    let (pair, table, lock, condition, permits, event, barrier) = primitives;
    let mut turn = place as u64;
    while over.get() == 0 {
        turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match (turn >> 33) % 8 {
            0 | 1 => {
                let mut pair = pair.lock().unwrap_or_else(|error| {
                    recovered.fetch_add(1);
                    mend(error.recover()).expect("its owner died")
                });
                assert_eq!(pair[0], pair[1], "what the mutex guards is whole");
                pair[0] += 1;
                if turn.is_multiple_of(5) {
                    std::thread::sleep(Duration::from_micros(200));
                }
                pair[1] += 1;
            }
            2 => match table.write() {
                Ok(mut table) => {
                    table[0] += 1;
                    std::thread::yield_now();
                    table[1] += 1;
                }
                Err(error) => {
                    recovered.fetch_add(1);
                    let mut table = error.recover().expect("its owner died");
                    *table = [table[0].max(table[1]); 2];
                }
            },
            3 => match table.read() {
                Ok(table) => assert_eq!(table[0], table[1], "what the lock guards is whole"),
                Err(error) => assert!(error.is_owner_died(), "{error}"),
            },
            4 => {
                let guard = lock.lock().unwrap_or_else(|error| {
                    recovered.fetch_add(1);
                    error.recover().expect("its owner died")
                });
                if turn.is_multiple_of(3) {
                    drop(condition.wait_timeout(guard, BRIEFLY));
                } else {
                    condition.notify_all().expect("there is room for notices");
                }
            }
            5 => {
                if permits.acquire_timeout(BRIEFLY).is_ok() {
                    permits.release().expect("it was acquired");
                }
            }
            6 if turn.is_multiple_of(2) => event.set(),
            6 => {
                event.wait_timeout(BRIEFLY);
                event.clear();
            }
            _ => match barrier.wait_timeout(BRIEFLY) {
                Ok(_) => {}
                // Refused while others are still on their way out: the next party resets it.
                Err(error) if error.is_barrier_broken() || error.is_timeout() => drop(barrier.reset()),
                Err(error) => panic!("{error}"),
            },
        }
        progress.fetch_add(place, 1);
    }
}

/// Repairs the value that a dead owner left.
fn mend<G: std::ops::DerefMut<Target = [u64; 2]>, E>(recovered: Result<G, E>) -> Result<G, E> {
    recovered.map(|mut pair| {
        pair[1] = pair[0];
        pair
    })
}
