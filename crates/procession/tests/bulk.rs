//! Large buffers in arguments and results, under each start method.

use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

use procession::{Bytes, Context, Process, Queue, Slice};
use procession_testing::{eventually, for_each_context, once, run, tests};

const MIB: usize = 1 << 20;

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            every_size_goes_and_comes_back,
            many_buffers_travel_at_once_by_every_call,
            a_result_that_is_gone_makes_room_for_the_next,
            killed_workers_cost_their_tasks_and_no_bytes,
            views_outlive_their_task_and_their_pool,
        ],
        once: [
            memory_is_given_back,
            what_a_forked_child_sees_does_not_change,
            queues_and_processes_copy_large_buffers,
            tasks_send_large_buffers_elsewhere,
        ],
    })
}

fn every_size_goes_and_comes_back(context: Context) {
    let pool = context.pool(2).unwrap();
    let inverted = |bytes: Bytes| Bytes::from(bytes.iter().map(|byte| !byte).collect::<Vec<_>>());
    for size in [0, 1, 1000, 16_383, 16_384, 16_385, 65_537, MIB, 5 * MIB + 3] {
        let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let back = pool.apply(inverted, bytes.clone().into()).unwrap();
        assert!(back.iter().zip(&bytes).all(|(back, byte)| *back == !byte) && back.len() == size, "{size} bytes");
    }
    let doubled = |numbers: Slice<f64>| Slice::from(numbers.iter().map(|x| 2.0 * x).collect::<Vec<_>>());
    let numbers: Vec<f64> = (0..100_000).map(f64::from).collect();
    assert_eq!(pool.apply(doubled, numbers.into()).unwrap()[99_999], 199_998.0);
}

fn many_buffers_travel_at_once_by_every_call(context: Context) {
    let pool = context.pool(2).unwrap();
    let tagged = |(tag, bytes): (u8, Bytes)| {
        assert!(bytes.iter().all(|byte| *byte == tag));
        (tag, Bytes::from(vec![tag; bytes.len()]))
    };
    let items = |count: u8| (0..count).map(|tag| (tag, Bytes::from(vec![tag; 100_000 + usize::from(tag)])));
    let check = |tag: usize, (back, bytes): (u8, Bytes)| {
        assert!(usize::from(back) == tag && bytes.len() == 100_000 + tag);
        assert!(bytes.iter().all(|byte| usize::from(*byte) == tag));
    };
    for _ in 0..5 {
        pool.map(tagged, items(100)).unwrap().into_iter().enumerate().for_each(|(tag, back)| check(tag, back));
        pool.imap(tagged, items(100)).enumerate().for_each(|(tag, back)| check(tag, back.unwrap()));
        let jobs: Vec<_> = items(50).map(|item| pool.apply_async(tagged, item).unwrap()).collect();
        for (tag, job) in jobs.iter().enumerate() {
            check(tag, job.get().unwrap());
            check(tag, job.get().unwrap());
        }
    }
}

fn a_result_that_is_gone_makes_room_for_the_next(context: Context) {
    let pool = context.pool(1).unwrap();
    let place = || {
        let result = pool.apply(|byte: u8| Bytes::from(vec![byte; MIB]), 1).unwrap();
        result.as_ptr().addr()
    };
    let first = place();
    assert!((0..5).all(|_| place() == first));
}

fn killed_workers_cost_their_tasks_and_no_bytes(context: Context) {
    let pool = context.pool(2).unwrap();
    for round in 0..10u8 {
        let die = |bytes: Bytes| -> Bytes {
            std::hint::black_box(&bytes);
            std::process::abort();
        };
        assert!(pool.apply(die, vec![round; MIB].into()).unwrap_err().is_worker_lost());
        let once = |(flag, bytes): (Queue<u8>, Bytes)| {
            flag.put(1).unwrap();
            if flag.len() < 2 {
                std::process::abort();
            }
            Bytes::from(bytes.to_vec())
        };
        let argument = (Queue::new().unwrap(), Bytes::from(vec![round; MIB]));
        let back = pool.retries(3).apply(once, argument).unwrap();
        assert!(back.iter().all(|byte| *byte == round) && back.len() == MIB, "it had its argument again");
    }
    pool.map(|bytes: Bytes| bytes.len(), (0..20).map(|_| Bytes::from(vec![1; MIB]))).unwrap();
}

fn views_outlive_their_task_and_their_pool(context: Context) {
    static KEPT: Mutex<Vec<Bytes>> = Mutex::new(Vec::new());
    let pool = context.pool(1).unwrap();
    for tag in 0..20u8 {
        pool.apply(|bytes: Bytes| KEPT.lock().unwrap().push(bytes), vec![tag; 70_000].into()).unwrap();
    }
    let is_whole = |()| {
        let kept = KEPT.lock().unwrap();
        kept.iter().enumerate().all(|(tag, bytes)| bytes.iter().all(|byte| usize::from(*byte) == tag))
    };
    assert!(pool.apply(is_whole, ()).unwrap(), "what a task keeps is not used again");
    let make = |tag: u8| Bytes::from(vec![tag; 70_000]);
    let results: Vec<Bytes> = (0..20).map(|tag| pool.apply(make, tag).unwrap()).collect();
    drop(pool);
    for (tag, bytes) in results.iter().enumerate() {
        assert!(bytes.iter().all(|byte| usize::from(*byte) == tag));
    }
}

fn memory_is_given_back() {
    let pool = Context::forkserver().pool(1).unwrap();
    let copy = |bytes: Bytes| Bytes::from(bytes.to_vec());
    let results: Vec<Bytes> = (0..8).map(|_| pool.apply(copy, vec![3; 8 * MIB].into()).unwrap()).collect();
    assert!(shared_memory() > 60 * MIB, "{} are in use", shared_memory());
    drop(results);
    eventually("an idle pool keeps none", || shared_memory() < 10 * MIB);
    assert_eq!(pool.apply(copy, vec![3; 8 * MIB].into()).unwrap().len(), 8 * MIB);
}

fn what_a_forked_child_sees_does_not_change() {
    let pool = Context::forkserver().pool(1).unwrap();
    let make = |tag: u8| Bytes::from(vec![tag; MIB]);
    let (view, go) = (pool.apply(make, 1).unwrap(), Queue::<u8>::new().unwrap());
    let seen = view.clone();
    let child = || {
        go.get().unwrap();
        seen.iter().all(|byte| *byte == 1)
    };
    let mut child = Process::fork(child).start().unwrap();
    drop((view, seen));
    (0..20).for_each(|_| assert_eq!(pool.apply(make, 2).unwrap()[0], 2));
    go.put(1).unwrap();
    assert!(child.join().unwrap());
}

fn queues_and_processes_copy_large_buffers() {
    let bytes = Bytes::from(vec![5; 300_000]);
    let queue = Queue::new().unwrap();
    queue.put(bytes.clone()).unwrap();
    assert_eq!(queue.get().unwrap(), bytes);
    let context = Context::forkserver();
    assert_eq!(context.process(|bytes: Bytes| bytes, bytes.clone()).start().unwrap().join().unwrap(), bytes);
}

/// Bytes of pools' shared memory that are there, whoever touched them.
fn shared_memory() -> usize {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten().map(|entry| entry.path());
    let is_pool = |path: &std::path::PathBuf| {
        std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("procession-pool"))
    };
    fds.filter(is_pool).map(|path| std::fs::metadata(path).unwrap().blocks() as usize * 512).sum()
}

/// Puts large buffers, in a task, into other messages than its result.
fn tasks_send_large_buffers_elsewhere() {
    let pool = Context::forkserver().pool(1).unwrap();
    let queue = Queue::<Bytes>::new().unwrap();
    let send = |queue: Queue<Bytes>| {
        queue.put(Bytes::from(vec![1; MIB])).unwrap();
        let count = |bytes: Bytes| bytes.len();
        let context = Context::spawn();
        let by_process = context.process(count, Bytes::from(vec![2; MIB])).start().unwrap().join().unwrap();
        let by_pool = context.pool(1).unwrap().apply(count, Bytes::from(vec![3; MIB])).unwrap();
        (by_process, by_pool, Bytes::from(vec![4; MIB]))
    };
    let (by_process, by_pool, result) = pool.apply(send, queue.clone()).unwrap();
    assert_eq!((by_process, by_pool, result[MIB - 1]), (MIB, MIB, 4));
    assert!(queue.get().unwrap().iter().all(|byte| *byte == 1));
}
