//! `cargo xtask soak`: makes each call of the Rust face many times, and checks whether anything
//! grows: memory, file descriptors, mappings, threads, children. `stress/soak.py` does the same by
//! the Python face.
//!
//! A third of the calls warms up, and the other two thirds are two stretches. A figure that grows
//! in both stretches is a leak; one that grows in one of them is an arena or a table that has
//! grown.

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use procession::sync::{Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore};
use procession::{Bytes, Context, Pool, Queue, SharedMemory};
use procession_testing::CONTEXTS;

/// The growth that a stretch may have for reasons of the machine, and for each call.
const MAX_BYTES: u64 = 1 << 20;
const MAX_BYTES_FOR_EACH: u64 = 16;

struct Call {
    name: &'static str,
    run: fn(Context, &Pool),
    /// The number of calls made for a hundred that are asked for: some take longer.
    percent: usize,
}

const fn call(name: &'static str, run: fn(Context, &Pool)) -> Call {
    Call { name, run, percent: 100 }
}

const fn slow(name: &'static str, percent: usize, run: fn(Context, &Pool)) -> Call {
    Call { name, run, percent }
}

const CALLS: [Call; 19] = [
    call("apply", |_, pool| assert_eq!(pool.apply(|x: u32| x + 1, 1).unwrap(), 2)),
    call("apply of strings", |_, pool| assert_eq!(pool.apply(|x: String| x, "one".into()).unwrap(), "one")),
    slow("apply that panics", 20, |_, pool| {
        pool.apply(|x: u32| if x == 1 { std::panic::resume_unwind(Box::new("on purpose")) } else { x }, 1).unwrap_err();
    }),
    slow("apply of a large buffer", 20, |_, pool| {
        assert_eq!(pool.apply(|bytes: Bytes| bytes, Bytes::from(vec![7; 1 << 18])).unwrap().len(), 1 << 18);
    }),
    call("apply with a time limit and retries", |_, pool| {
        let call = pool.timeout(Duration::from_secs(60)).retries(1);
        assert_eq!(call.apply(|x: u32| x, 3).unwrap(), 3);
    }),
    call("map", |_, pool| assert_eq!(pool.map(|x: u64| x * 2, 0..50).unwrap().len(), 50)),
    call("map of records", |_, pool| {
        let items = (0..10).map(|x| (x, vec![x; 3]));
        assert_eq!(pool.map(|(x, all): (u32, Vec<u32>)| (all, x), items).unwrap().len(), 10);
    }),
    call("starmap", |_, pool| assert_eq!(pool.starmap(|a: u32, b: u32| a * b, [(2, 3), (3, 4)]).unwrap(), [6, 12])),
    call("imap", |_, pool| assert_eq!(pool.imap(|x: u32| x, 0..5).count(), 5)),
    call("imap half consumed", |_, pool| assert_eq!(pool.imap(|x: u32| x, 0..5).next().unwrap().unwrap(), 0)),
    slow("cancel", 2, |_, pool| {
        pool.map_async(|x: u32| x, 0..4).unwrap().cancel().unwrap();
    }),
    call("stats", |_, pool| drop(pool.stats().unwrap())),
    slow("process", 5, |context, _| {
        assert_eq!(context.process(|x: u32| x + 1, 1).start().unwrap().join().unwrap(), 2);
    }),
    slow("process that is dropped", 5, |context, _| drop(context.process(|x: u32| x + 1, 1).start().unwrap())),
    slow("pool", 2, |context, _| assert_eq!(context.pool(1).unwrap().apply(|x: u32| x, 1).unwrap(), 1)),
    call("queue", |_, _| {
        let queue = Queue::new().unwrap();
        queue.put(vec![1, 2, 3]).unwrap();
        assert_eq!(queue.get().unwrap(), [1, 2, 3]);
    }),
    call("locks and their kin", |_, _| {
        let lock = Lock::new().unwrap();
        let condition = Condition::new(&lock).unwrap();
        drop(lock.lock().unwrap());
        condition.notify_one().unwrap();
        drop(RLock::new().unwrap().lock().unwrap());
        Semaphore::new(1).unwrap().acquire();
        BoundedSemaphore::new(1).unwrap().acquire();
        let event = Event::new().unwrap();
        event.set();
        event.wait();
        Barrier::new(1).unwrap().wait().unwrap();
    }),
    call("connection", |_, _| {
        let (ours, theirs) = procession::pipe::<String, String>(true).unwrap();
        ours.send(&"one".to_owned()).unwrap();
        assert_eq!(theirs.recv().unwrap(), "one");
    }),
    call("shared memory", |_, _| drop(SharedMemory::new(8192).unwrap())),
];

/// The figures of this process now.
#[derive(Clone, Copy)]
struct Kept {
    bytes: u64,
    fds: usize,
    mappings: usize,
    threads: usize,
    children: usize,
}

impl Kept {
    fn now() -> Kept {
        // A thread or a process that has just ended is counted for a moment.
        std::thread::sleep(Duration::from_millis(50));
        drop(procession::active_children());
        let count = |folder: &str| fs::read_dir(folder).expect("/proc is there").count();
        let statm = fs::read_to_string("/proc/self/statm").expect("/proc is there");
        let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("statm has numbers");
        let tasks = fs::read_dir("/proc/self/task").expect("/proc is there").flatten();
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        Kept {
            bytes: pages * 4096,
            fds: count("/proc/self/fd"),
            mappings: fs::read_to_string("/proc/self/maps").expect("/proc is there").lines().count(),
            threads: count("/proc/self/task"),
            children: children.map(|children| children.split_whitespace().count()).sum(),
        }
    }

    /// Returns the figures that have grown more than they may after this many calls.
    fn growth(self, before: Kept, calls: usize) -> Vec<String> {
        let bound = MAX_BYTES.max(MAX_BYTES_FOR_EACH * calls as u64) as usize;
        let all = [
            ("bytes", self.bytes as usize, before.bytes as usize, bound),
            ("fds", self.fds, before.fds, 2),
            ("mappings", self.mappings, before.mappings, 6),
            ("threads", self.threads, before.threads, 1),
            ("children", self.children, before.children, 0),
        ];
        let grown = all.iter().filter(|(_, now, then, bound)| *now > then + bound);
        grown.map(|(name, now, then, _)| format!("{} more {name}", now - then)).collect()
    }
}

fn main() -> ExitCode {
    let Some(calls) = std::env::args().nth(1).and_then(|calls| calls.parse::<usize>().ok()) else {
        eprintln!("usage: cargo xtask soak [--calls N]");
        return ExitCode::FAILURE;
    };
    let mut grown = Vec::new();
    for (method, context) in CONTEXTS {
        for Call { name, run, percent } in &CALLS {
            let number = (calls * percent / 300).max(5);
            let pool = context.pool(2).expect("a pool");
            let begun = Instant::now();
            let mut kept = Vec::new();
            for _ in 0..3 {
                (0..number).for_each(|_| run(context, &pool));
                kept.push(Kept::now());
            }
            if !kept[1].growth(kept[0], number).is_empty() {
                let lines = kept[2].growth(kept[1], number);
                grown.extend(lines.into_iter().map(|line| format!("{method} {name}: {line} over {number} calls")));
            }
            println!("{method:>10} {name:<36} {:>6} calls {:>6.1} s", 3 * number, begun.elapsed().as_secs_f64());
        }
    }
    if grown.is_empty() {
        println!("nothing grows");
        return ExitCode::SUCCESS;
    }
    grown.iter().for_each(|line| println!("{line}"));
    ExitCode::FAILURE
}
