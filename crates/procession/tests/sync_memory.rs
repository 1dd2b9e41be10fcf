//! The memory that primitives leave behind. Made and dropped by the ten thousand, they take no more
//! of it than a few of them. The memory that another process may still have is never another
//! primitive's.

use procession::sync::{Barrier, BoundedSemaphore, Condition, Event, Lock, Mutex, RLock, RwLock, Semaphore};
use procession::{Context, Queue};
use procession_testing::{Trial, for_each_context, long, once, run, tests, trial};

/// So many of the smallest take 2.5 MB if none is used again.
const MANY: usize = 40_000;
/// The most bytes that may be left of them.
const FEW: u64 = 512 << 10;

/// The functions that make one of a kind and drop it.
const KINDS: [(&str, fn()); 11] = [
    ("locks", || drop(Lock::new().unwrap())),
    ("rlocks", || drop(RLock::new().unwrap())),
    ("locks_that_were_locked", || drop(Lock::new().unwrap().lock().unwrap())),
    ("mutexes", || drop(Mutex::new([7u64; 16]).unwrap())),
    ("rwlocks", || drop(RwLock::new(7u64).unwrap())),
    ("semaphores", || drop(Semaphore::new(3).unwrap())),
    ("bounded_semaphores", || drop(BoundedSemaphore::new(3).unwrap())),
    ("events", || Event::new().unwrap().set()),
    ("conditions", || drop(Condition::new(&Lock::new().unwrap()).unwrap())),
    ("barriers", || drop(Barrier::new(1).unwrap().wait())),
    ("events_of_a_hundred_at_a_time", || {
        thread_local!(static KEPT: std::cell::RefCell<Vec<Event>> = const { std::cell::RefCell::new(Vec::new()) });
        KEPT.with_borrow_mut(|kept| {
            if kept.len() == 100 {
                kept.clear();
            }
            kept.push(Event::new().unwrap());
        });
    }),
];

fn main() {
    procession::init();
    run(tests! {
        for_each_kind: [many_leave_no_memory],
        for_each_context: [what_a_child_has_is_no_other_lock],
        once: [
            large_barrier_that_is_dropped_gives_its_memory_back,
            lock_that_is_dropped_while_it_is_held_is_no_other_lock,
            what_a_forked_child_has_inherited_is_no_other_event,
        ],
    })
}

fn for_each_kind(name: &str, body: fn(fn())) -> [Trial; 11] {
    KINDS.map(|(kind, make_and_drop)| trial(&format!("{name}::{kind}"), move || body(make_and_drop)))
}

/// Without a fork, and with one in between.
fn many_leave_no_memory(make_and_drop: fn()) {
    let long_lived = Lock::new().unwrap();
    let held = long_lived.lock().unwrap();
    make_and_drop();
    for with_fork in [false, true] {
        let before = shared_memory();
        for number in 0..MANY {
            if with_fork && number == MANY / 2 {
                procession::Process::fork(|| ()).start().unwrap().join().unwrap();
            }
            make_and_drop();
        }
        let after = shared_memory();
        assert!(after < before + FEW, "{before} bytes, then {after}; with a fork: {with_fork}");
    }
    drop(held);
}

fn large_barrier_that_is_dropped_gives_its_memory_back() {
    let before = shared_memory();
    for _ in 0..20 {
        drop(Barrier::new(60_000).unwrap());
    }
    assert!(shared_memory() < before + FEW, "{before} bytes, then {}", shared_memory());
}

fn lock_that_is_dropped_while_it_is_held_is_no_other_lock() {
    let first = Lock::new().unwrap();
    let die_with_two = || {
        std::mem::forget(first.lock().unwrap());
        let second = Lock::new().unwrap();
        std::mem::forget(second.lock().unwrap());
        drop(second);
        // The kernel finds the first lock through the second, in the list of what this thread
        // holds.
        let others: Vec<Lock> = (0..100).map(|_| Lock::new().unwrap()).collect();
        others.iter().for_each(|other| drop(other.try_lock().unwrap().expect("nobody has it")));
    };
    std::thread::scope(|scope| scope.spawn(die_with_two).join().unwrap());
    assert!(first.lock_timeout(long()).unwrap_err().is_owner_died());
}

fn what_a_forked_child_has_inherited_is_no_other_event() {
    let (events, answers) = ([(); 3].map(|()| Event::new().unwrap()), Queue::new().unwrap());
    let theirs = events.clone();
    let (go, told) = (Event::new().unwrap(), answers.clone());
    let waits = go.clone();
    // Its memory alone has these events.
    let look = move || {
        waits.wait();
        told.put(theirs.iter().filter(|event| event.is_set()).count()).unwrap();
    };
    let mut child = procession::Process::fork(look).start().unwrap();
    drop(events);
    let others: Vec<Event> = (0..100).map(|_| Event::new().unwrap()).collect();
    others.iter().for_each(Event::set);
    go.set();
    assert_eq!(answers.get().unwrap(), 0);
    child.join().unwrap();
}

fn what_a_child_has_is_no_other_lock(context: Context) {
    let (lock, locked, over) = (Lock::new().unwrap(), Event::new().unwrap(), Event::new().unwrap());
    let hold = |(lock, locked, over): (Lock, Event, Event)| {
        let held = lock.lock().unwrap();
        locked.set();
        over.wait();
        drop(held);
        lock.try_lock().unwrap().is_some()
    };
    let mut child = context.process(hold, (lock.clone(), locked.clone(), over.clone())).start().unwrap();
    locked.wait();
    drop(lock);
    let others: Vec<Lock> = (0..1000).map(|_| Lock::new().unwrap()).collect();
    for other in &others {
        drop(other.try_lock().unwrap().expect("nobody has it"));
    }
    let guards: Vec<_> = others.iter().map(|other| other.lock().unwrap()).collect();
    over.set();
    assert!(child.join().unwrap(), "it has its own lock still");
    drop(guards);
}

/// Returns how much of this process's memory is shared memory that it has touched.
fn shared_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssShmem:")).expect("Linux says so since 4.5");
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).expect("a number") << 10
}
