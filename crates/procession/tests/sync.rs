//! Locks and their kin between processes, under each start method.

use std::sync::OnceLock;
use std::time::Duration;

use procession::sync::{Barrier, BoundedSemaphore, Condition, Event, Lock, LockError, Mutex, RLock, RwLock, Semaphore};
use procession::{Context, Error, Process, Queue};
use procession_testing::{eventually, for_each_context, long, once, run, tests};

const SHORT: Duration = Duration::from_millis(30);
const FOR_EVER: Duration = Duration::from_secs(3600);

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            a_lock_excludes,
            the_death_of_an_owner_is_told_until_one_recovers,
            semaphores_count_between_processes,
            an_event_is_set_for_all_and_for_no_dead_waiter,
            a_condition_notifies_the_living_in_order,
            a_barrier_holds_all_until_all_are_there,
            a_dead_party_breaks_a_barrier,
            initializer_takes_primitives_into_a_pool,
            many_handles_travel_in_one_argument,
        ],
        once: [
            hundred_thousand_locks_take_memory_only,
            a_thread_does_not_wait_for_itself,
            a_guard_copied_by_a_fork_does_nothing,
            a_condition_wants_its_own_lock,
            a_change_whose_notifier_was_killed_is_seen,
            what_makes_no_sense_is_refused,
        ],
    })
}

fn a_lock_excludes(context: Context) {
    const EACH: u64 = 2000;
    let (lock, pair) = (Lock::new().unwrap(), RwLock::new([0u64; 2]).unwrap());
    // The pair is read and written under two separate holds: only the lock keeps them together.
    let count = |(lock, pair): (Lock, RwLock<[u64; 2]>)| {
        for _ in 0..EACH {
            let _locked = lock.lock().unwrap();
            let [one, two] = *pair.read().unwrap();
            assert_eq!(one, two);
            pair.write().unwrap()[0] = one + 1;
            pair.write().unwrap()[1] = two + 1;
        }
    };
    let counters: Vec<_> =
        (0..3).map(|_| context.process(count, (lock.clone(), pair.clone())).start().unwrap()).collect();
    counters.into_iter().for_each(|mut counter| counter.join().unwrap());
    assert_eq!(*pair.read().unwrap(), [3 * EACH; 2]);
}

fn the_death_of_an_owner_is_told_until_one_recovers(context: Context) {
    let (lock, rlock) = (Lock::new().unwrap(), RLock::new().unwrap());
    let (mutex, rwlock) = (Mutex::new([0u32; 2]).unwrap(), RwLock::new(0u8).unwrap());
    let held = Event::new().unwrap();
    type All = (Lock, RLock, Mutex<[u32; 2]>, RwLock<u8>, Event);
    let die = |(lock, rlock, mutex, rwlock, held): All| {
        let _lock = lock.lock().unwrap();
        let _rlock = (rlock.lock().unwrap(), rlock.lock().unwrap());
        let mut half = mutex.lock().unwrap();
        half[0] = 7;
        let mut write = rwlock.write().unwrap();
        *write = 9;
        held.set();
        std::thread::sleep(FOR_EVER);
    };
    let all = (lock.clone(), rlock.clone(), mutex.clone(), rwlock.clone(), held.clone());
    let mut owner = context.process(die, all).start().unwrap();
    held.wait();
    assert!(lock.try_lock().unwrap().is_none() && rlock.try_lock().unwrap().is_none());
    assert!(mutex.lock_timeout(SHORT).unwrap_err().is_timeout());
    assert!(rwlock.read_timeout(SHORT).unwrap_err().is_timeout());
    assert!(rwlock.try_write().unwrap().is_none());
    owner.kill().unwrap();
    assert_eq!(owner.join().unwrap_err().signal(), Some(9));
    for _ in 0..2 {
        let error = lock.lock().unwrap_err();
        assert!(error.is_owner_died() && error.to_string().contains("recover"), "{error}");
        drop(error);
        assert!(procession::Error::from(rlock.lock().unwrap_err()).is_owner_died());
        assert!(rwlock.read().unwrap_err().is_owner_died());
    }
    drop(lock.lock().or_else(LockError::recover).unwrap());
    drop(rlock.lock_timeout(long()).or_else(LockError::recover).unwrap());
    assert_eq!(*mutex.lock().unwrap_err().recover().unwrap(), [7, 0], "half written");
    assert_eq!(*rwlock.write().unwrap_err().recover().unwrap(), 9);
    assert!(lock.lock().is_ok() && rlock.lock().is_ok() && mutex.lock().is_ok() && rwlock.read().is_ok());
}

fn semaphores_count_between_processes(context: Context) {
    let (semaphore, bounded) = (Semaphore::new(0).unwrap(), BoundedSemaphore::new(2).unwrap());
    let give = |(semaphore, bounded): (Semaphore, BoundedSemaphore)| {
        bounded.acquire();
        (0..100).for_each(|_| semaphore.release().unwrap());
        semaphore.release_many(100).unwrap();
    };
    let mut giver = context.process(give, (semaphore.clone(), bounded.clone())).start().unwrap();
    (0..200).for_each(|_| semaphore.acquire_timeout(long()).unwrap());
    giver.join().unwrap();
    assert!(!semaphore.try_acquire() && semaphore.value() == 0 && bounded.value() == 1);
    assert!(semaphore.acquire_timeout(SHORT).unwrap_err().is_timeout());
    bounded.release().unwrap();
    assert!(bounded.release().unwrap_err().is_invalid());
}

fn an_event_is_set_for_all_and_for_no_dead_waiter(context: Context) {
    let (event, ready) = (Event::new().unwrap(), Semaphore::new(0).unwrap());
    let wait = |(event, ready): (Event, Semaphore)| {
        ready.release().unwrap();
        event.wait_timeout(long())
    };
    let start = || context.process(wait, (event.clone(), ready.clone())).start().unwrap();
    let mut waiters = [start(), start(), start()];
    (0..3).for_each(|_| ready.acquire_timeout(long()).unwrap());
    waiters[0].kill().unwrap();
    assert_eq!(waiters[0].join().unwrap_err().signal(), Some(9));
    assert!(!event.is_set() && !event.wait_timeout(SHORT));
    event.set();
    assert!(waiters[1].join().unwrap() && waiters[2].join().unwrap() && event.wait_timeout(SHORT));
    event.clear();
    assert!(!event.is_set());
}

fn a_condition_notifies_the_living_in_order(context: Context) {
    let lock = Lock::new().unwrap();
    let (condition, told) = (Condition::new(&lock).unwrap(), Queue::<u32>::new().unwrap());
    let sits = Semaphore::new(0).unwrap();
    let wait = |(condition, sits, told, number): (Condition, Semaphore, Queue<u32>, u32)| {
        let guard = condition.lock().lock().unwrap();
        sits.release().unwrap();
        let (_guard, notified) = condition.wait_timeout(guard, long()).unwrap();
        told.put(if notified { number } else { 99 }).unwrap();
    };
    let mut waiters: Vec<_> = (0..4)
        .map(|number| {
            let arguments = (condition.clone(), sits.clone(), told.clone(), number);
            let waiter = context.process(wait, arguments).start().unwrap();
            sits.acquire_timeout(long()).unwrap();
            // It has the lock until it sits.
            drop(lock.lock().unwrap());
            waiter
        })
        .collect();
    waiters[0].kill().unwrap();
    waiters[0].join().unwrap_err();
    assert_eq!(condition.notify_one().unwrap(), 1);
    assert_eq!(told.get_timeout(long()).unwrap(), 1, "the first that lives");
    assert!(told.get_timeout(SHORT).unwrap_err().is_timeout(), "and nobody else");
    assert_eq!(condition.notify_all().unwrap(), 2);
    let mut rest = [told.get_timeout(long()).unwrap(), told.get_timeout(long()).unwrap()];
    rest.sort_unstable();
    assert_eq!(rest, [2, 3]);
    assert_eq!(condition.notify(5).unwrap(), 0);
    waiters.into_iter().skip(1).for_each(|mut waiter| waiter.join().unwrap());
}

fn a_barrier_holds_all_until_all_are_there(context: Context) {
    let (barrier, rounds) = (Barrier::new(3).unwrap(), Mutex::new(0u64).unwrap());
    let walk = |(barrier, rounds): (Barrier, Mutex<u64>)| {
        for round in 0..200u64 {
            assert!(*rounds.lock().unwrap() == round, "nobody is a round ahead");
            let waited = barrier.wait_timeout(long()).unwrap();
            if waited.is_leader() {
                *rounds.lock().unwrap() += 1;
            }
            barrier.wait_timeout(long()).unwrap();
        }
    };
    let start = || context.process(walk, (barrier.clone(), rounds.clone())).start().unwrap();
    let parties = [start(), start()];
    walk((barrier.clone(), rounds.clone()));
    parties.into_iter().for_each(|mut party| party.join().unwrap());
    assert!(!barrier.is_broken() && barrier.n_waiting() == 0 && barrier.parties() == 3);
    // Those who left in an orderly way are missed by nobody.
    let wait = |barrier: Barrier| barrier.wait_timeout(long()).is_ok();
    let start = || context.process(wait, barrier.clone()).start().unwrap();
    let others = [start(), start()];
    barrier.wait_timeout(long()).unwrap();
    assert!(others.into_iter().all(|mut other| other.join().unwrap()));
}

fn a_dead_party_breaks_a_barrier(context: Context) {
    // One dies while it waits, the other between two waits.
    for waits in [true, false] {
        let (barrier, there) = (Barrier::new(3).unwrap(), Event::new().unwrap());
        let party = |(barrier, there, waits): (Barrier, Event, bool)| {
            barrier.wait_timeout(long()).unwrap();
            if waits {
                return drop(barrier.wait());
            }
            there.set();
            std::thread::sleep(FOR_EVER);
        };
        let other = |barrier: Barrier| {
            barrier.wait_timeout(long()).unwrap();
            barrier.wait().is_err_and(|error| error.is_barrier_broken())
        };
        let mut victim = context.process(party, (barrier.clone(), there.clone(), waits)).start().unwrap();
        let mut other = context.process(other, barrier.clone()).start().unwrap();
        barrier.wait_timeout(long()).unwrap();
        if waits {
            eventually("both wait", || barrier.n_waiting() == 2);
        } else {
            there.wait();
            eventually("one waits", || barrier.n_waiting() == 1);
        }
        victim.kill().unwrap();
        victim.join().unwrap_err();
        assert!(other.join().unwrap(), "the one that waits is told");
        assert!(barrier.is_broken() && barrier.wait().unwrap_err().is_barrier_broken());
        barrier.reset().unwrap();
        assert!(!barrier.is_broken());
        assert!(barrier.wait_timeout(SHORT).unwrap_err().is_timeout(), "and breaks it");
        assert!(barrier.is_broken());
    }
}

fn initializer_takes_primitives_into_a_pool(context: Context) {
    static SHARED: OnceLock<(Mutex<u64>, Semaphore)> = OnceLock::new();
    let shared = (Mutex::new(0u64).unwrap(), Semaphore::new(0).unwrap());
    let keep = |shared: (Mutex<u64>, Semaphore)| drop(SHARED.set(shared));
    let pool = context.pool_builder(2).initializer(keep, shared.clone()).start().unwrap();
    let add = |x: u64| {
        let (sum, done) = SHARED.get().unwrap();
        *sum.lock().unwrap() += x;
        done.release().unwrap();
    };
    pool.map(add, 0..100).unwrap();
    assert_eq!((*shared.0.lock().unwrap(), shared.1.value()), (99 * 50, 100));
}

fn many_handles_travel_in_one_argument(context: Context) {
    let locks: Vec<Mutex<u32>> = (0..40).map(|x| Mutex::new(x).unwrap()).collect();
    let double = |locks: Vec<Mutex<u32>>| locks.iter().for_each(|lock| *lock.lock().unwrap() *= 2);
    context.process(double, locks.clone()).start().unwrap().join().unwrap();
    assert!((0..40).all(|x| *locks[x as usize].lock().unwrap() == 2 * x));
}

fn hundred_thousand_locks_take_memory_only() {
    let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let locks: Vec<Lock> = (0..100_000).map(|_| Lock::new().unwrap()).collect();
    let after = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(after - before <= 2, "{} fds more", after - before);
    let guards: Vec<_> = locks.iter().step_by(1000).map(|lock| lock.lock().unwrap()).collect();
    assert_eq!(guards.len(), 100);
    let child = Process::fork(|| locks.iter().filter(|lock| lock.try_lock().unwrap().is_some()).count() as u64);
    assert_eq!(child.start().unwrap().join().unwrap(), 100_000 - 100);
}

fn a_thread_does_not_wait_for_itself() {
    let (lock, mutex, rlock) = (Lock::new().unwrap(), Mutex::new(1u8).unwrap(), RLock::new().unwrap());
    let _locked = lock.lock().unwrap();
    let error = lock.lock().unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("RLock"), "{error}");
    assert!(error.recover().unwrap_err().is_invalid(), "there is nothing to recover");
    let _value = mutex.lock().unwrap();
    assert!(mutex.lock_timeout(SHORT).unwrap_err().is_invalid());
    let holds: Vec<_> = (0..10).map(|_| rlock.lock().unwrap()).collect();
    let mut other = Process::fork(|| rlock.try_lock().unwrap().is_none()).start().unwrap();
    assert!(other.join().unwrap());
    drop(holds);
    let mut other = Process::fork(|| rlock.try_lock().unwrap().is_some()).start().unwrap();
    assert!(other.join().unwrap());
}

fn a_guard_copied_by_a_fork_does_nothing() {
    let (lock, mutex) = (Lock::new().unwrap(), Mutex::new(5u32).unwrap());
    let (guard, value) = (lock.lock().unwrap(), mutex.lock().unwrap());
    let in_child = move || {
        drop(guard);
        let used = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| *value));
        drop(value);
        used.is_err()
    };
    // The guards stay in this process, in the closure that is dropped when the process is.
    let mut child = Process::fork(in_child).start().unwrap();
    assert!(child.join().unwrap(), "a copied guard shows no value");
}

fn a_condition_wants_its_own_lock() {
    let (lock, other) = (Lock::new().unwrap(), Lock::new().unwrap());
    let condition = Condition::new(&lock).unwrap();
    assert!(condition.wait(other.lock().unwrap()).unwrap_err().is_invalid());
    let (guard, notified) = condition.wait_timeout(lock.lock().unwrap(), SHORT).unwrap();
    assert!(!notified);
    let (_guard, met) = condition.wait_timeout_while(guard, SHORT, || true).unwrap();
    assert!(!met && lock.clone().lock().unwrap_err().is_invalid(), "it is locked again");
}

fn a_change_whose_notifier_was_killed_is_seen() {
    let (lock, items) = (Lock::new().unwrap(), Mutex::new(0u32).unwrap());
    let condition = Condition::new(&lock).unwrap();
    let mut producer = Process::fork(|| *items.lock().unwrap() += 1).start().unwrap();
    let waited = condition.wait_while(lock.lock().unwrap(), || *items.lock().unwrap() == 0).unwrap();
    drop(waited);
    producer.join().unwrap();
}

fn what_makes_no_sense_is_refused() {
    assert!(Semaphore::new(1 << 31).unwrap_err().is_invalid());
    assert!(Barrier::new(0).unwrap_err().is_invalid() && Barrier::new(100_000).unwrap_err().is_invalid());
    let error = Error::from(Queue::<Lock>::new().unwrap().put(Lock::new().unwrap()).unwrap_err());
    assert!(error.is_encode() && error.to_string().contains("over a connection"), "{error}");
}
