//! Limits of addresses (`ulimit -v`, RLIMIT_AS) and of file sizes (`ulimit -f`, RLIMIT_FSIZE), set
//! before anything is made, in an initializer, and in a task: what fits goes through, what does not
//! is an error of the call or task, and nothing is lost. And what lies around each mapping of
//! shared memory.
//!
//! Each test runs this program again (`argument: what to do, a start method`), since a limit is its
//! process's for good.

use std::process::Command;

use procession::{Bytes, Context, Pool, Queue};
use procession_testing::{CONTEXTS, Trial, eventually, run, trial};
use rustix::process::{Resource, Rlimit, setrlimit};

const MIB: usize = 1 << 20;
const ADDRESSES: usize = 2048 * MIB;
const FILES: usize = 8 * MIB;

/// The work of this program when it runs again.
type Role = fn(Context);

/// Roles by name, each named as its function is.
macro_rules! roles {
    ($($role:ident),+ $(,)?) => {
        [$((stringify!($role), $role as Role)),+]
    };
}

const ROLES: [(&str, Role); 8] = roles![
    pool_and_100_queues_fit_in_2_gib_of_addresses,
    pool_and_100_queues_fit_in_files_of_8_mib,
    addresses_may_be_limited_in_an_initializer,
    addresses_and_files_may_be_limited_in_tasks,
    file_size_that_does_not_suffice_is_an_error,
    addresses_of_the_parent_that_do_not_suffice_are_an_error,
    addresses_of_a_worker_that_do_not_suffice_are_its_tasks_error,
    pages_around_each_mapping_are_inaccessible,
];

fn main() {
    procession::init();
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, method] = &arguments[..]
        && let Some((_, act)) = ROLES.iter().find(|(name, _)| name == role)
    {
        act(Context::new(method.parse().unwrap()));
        return println!("done");
    }
    run(ROLES.into_iter().flat_map(|(name, _)| again_for_each_context(name)).collect())
}

fn again_for_each_context(role: &'static str) -> [Trial; 3] {
    CONTEXTS.map(|(method, _)| {
        trial(&format!("{role}::{method}"), move || {
            let output = Command::new(std::env::current_exe().unwrap()).args([role, method]).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}\n{errors}", output.status);
            assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n", "{errors}");
        })
    })
}

fn pool_and_100_queues_fit_in_2_gib_of_addresses(context: Context) {
    limit(Resource::As, ADDRESSES);
    serve(&context, &context.pool(4).unwrap());
}

fn pool_and_100_queues_fit_in_files_of_8_mib(context: Context) {
    limit(Resource::Fsize, FILES);
    serve(&context, &context.pool(4).unwrap());
}

fn addresses_may_be_limited_in_an_initializer(context: Context) {
    let pool = context.pool_builder(4).initializer(|most: u64| limit(Resource::As, most as usize), ADDRESSES as u64);
    serve(&context, &pool.start().unwrap());
}

fn addresses_and_files_may_be_limited_in_tasks(context: Context) {
    let pool = context.pool(4).unwrap();
    pool.chunk_size(1).map(|_: u64| limit(Resource::As, ADDRESSES), 0..64).unwrap();
    serve(&context, &pool);
    pool.chunk_size(1).map(|_: u64| limit(Resource::Fsize, FILES), 0..64).unwrap();
    serve(&context, &pool);
}

fn limit(resource: Resource, most: usize) {
    setrlimit(resource, Rlimit { current: Some(most as u64), maximum: Some(most as u64) }).unwrap();
}

/// No more addresses than this process has now, and so many more.
fn limit_to_more(bytes: u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let kib: u64 = size.split_whitespace().next().unwrap().parse().unwrap();
    limit(Resource::As, (kib * 1024 + bytes) as usize);
}

/// The names of this process's threads.
fn threads() -> Vec<String> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok()).collect()
}

/// All sorts of work, of a few MiB.
fn serve(context: &Context, pool: &Pool) {
    assert_eq!(pool.map(|x: u64| x + 1, 0..1000).unwrap(), (1..1001).collect::<Vec<_>>());
    let twice = |bytes: Bytes| Bytes::from([&bytes[..], &bytes[..]].concat());
    for bytes in pool.map(twice, (0..8).map(|i| Bytes::from(vec![i; 100_000]))).unwrap() {
        assert!(bytes.len() == 200_000 && bytes.iter().all(|byte| *byte == bytes[0]));
    }
    let text = pool.map(|text: String| text + "!", (0..8).map(|_| "x".repeat(50_000))).unwrap();
    assert!(text.iter().all(|text| text.len() == 50_001));
    pool.resize(pool.workers() + 2).unwrap();
    assert_eq!(pool.map(|x: u64| x + 1, 0..1000).unwrap().len(), 1000);

    let queues: Vec<_> = (0..100).map(|_| Queue::<Vec<u8>>::new().unwrap()).collect();
    for (number, queue) in queues.iter().enumerate() {
        queue.put(vec![number as u8; number * 2000]).unwrap();
    }
    let echo = |queue: Queue<Vec<u8>>| queue.put(queue.get().unwrap()).unwrap();
    let echoes = queues.iter().take(3).map(|queue| context.process(echo, queue.clone()).start().unwrap());
    echoes.collect::<Vec<_>>().into_iter().for_each(|mut echo| echo.join().unwrap());
    for (number, queue) in queues.iter().enumerate() {
        assert!(queue.get().unwrap() == vec![number as u8; number * 2000]);
    }
}

fn file_size_that_does_not_suffice_is_an_error(context: Context) {
    limit(Resource::Fsize, FILES);
    let pool = context.pool(2).unwrap();
    let error = pool.apply(|text: String| text.len(), "x".repeat(4 * FILES)).unwrap_err();
    assert!(error.to_string().contains("ulimit -f"), "{error}");
    // A result that finds no room in a block goes through the stream.
    let long = pool.apply(|len: usize| Bytes::from(vec![7; len]), 4 * FILES).unwrap();
    assert!(long.len() == 4 * FILES && long.iter().all(|byte| *byte == 7));
    serve(&context, &pool);

    let queue = Queue::new().unwrap();
    assert!(fill(&queue, "ulimit -f") > 2);
    queue.put(vec![1]).unwrap();
    assert_eq!(queue.get().unwrap(), [1]);
}

fn addresses_of_the_parent_that_do_not_suffice_are_an_error(context: Context) {
    let pool = context.pool(2).unwrap();
    let queue = Queue::new().unwrap();
    // The memory with which the pool's thread begins is not what this is about.
    eventually("the pool's thread runs", || threads().iter().any(|name| name.trim() == "pool"));
    assert_eq!(pool.map(|x: u64| x + 1, 0..1000).unwrap().len(), 1000);
    limit_to_more(28 * MIB as u64);
    assert!(fill(&queue, "ulimit -v") > 2);
    queue.put(vec![1]).unwrap();
    assert_eq!(queue.get().unwrap(), [1]);
    drop(queue);
    // The worker has the addresses, and this process has not.
    let error = pool.apply(|len: usize| Bytes::from(vec![7; len]), 64 * MIB).unwrap_err();
    assert!(error.is_decode() && error.to_string().contains("ulimit -v"), "{error}");
    assert_eq!(pool.map(|x: u64| x + 1, 0..1000).unwrap().len(), 1000);
}

/// Puts items of 1 MiB until the queue refuses, and takes them all. How many.
fn fill(queue: &Queue<Vec<u8>>, reason: &str) -> usize {
    let mut count = 0;
    let refused = loop {
        match queue.put(vec![count as u8; MIB]) {
            Ok(()) => count += 1,
            Err(refused) => break refused,
        }
    };
    assert!(refused.error().to_string().contains(reason), "{}", refused.error());
    assert_eq!(refused.into_item(), vec![count as u8; MIB], "it is given back");
    assert_eq!(queue.len(), count);
    (0..count).for_each(|number| assert!(queue.get().unwrap() == vec![number as u8; MIB]));
    count
}

fn addresses_of_a_worker_that_do_not_suffice_are_its_tasks_error(context: Context) {
    let pool = context.pool(1).unwrap();
    pool.apply(|()| limit_to_more(24 * MIB as u64), ()).unwrap();
    let pids = pool.worker_pids();
    // In the ring and in a block; as one task, and as a chunk of several.
    let in_the_ring = pool.apply(|text: String| text.len(), "x".repeat(64 * MIB)).unwrap_err();
    let in_a_block = pool.apply(|bytes: Bytes| bytes.len(), Bytes::from(vec![7; 64 * MIB])).unwrap_err();
    let texts = || (0..4).map(|_| "x".repeat(16 * MIB));
    let in_a_chunk = pool.chunk_size(4).map(|text: String| text.len(), texts()).unwrap_err();
    for error in [in_the_ring, in_a_block, in_a_chunk] {
        assert!(error.is_decode() && error.to_string().contains("ulimit -v"), "{error}");
    }
    // A block that fits goes through, though it lies where not all before it can be mapped.
    let gate = Queue::new().unwrap();
    let first = pool.apply_async(|gate: Queue<u64>| gate.get().unwrap(), gate.clone()).unwrap();
    let size = |bytes: Bytes| bytes.iter().filter(|byte| **byte == 7).count();
    let [large, small] = [64 * MIB, MIB].map(|len| pool.apply_async(size, Bytes::from(vec![7; len])).unwrap());
    gate.put(5).unwrap();
    assert_eq!((first.get().unwrap(), small.get().unwrap()), (5, MIB));
    assert!(large.get().unwrap_err().is_decode());
    assert_eq!(pool.map(|x: u64| x + 1, 0..1000).unwrap().len(), 1000);
    assert_eq!(pool.worker_pids(), pids, "no worker has died of it");
}

fn pages_around_each_mapping_are_inaccessible(context: Context) {
    let pool = context.pool(2).unwrap();
    let _queue = Queue::<u64>::new().unwrap();
    pool.map(|bytes: Bytes| bytes, (0..8).map(|i| Bytes::from(vec![i; 300_000]))).unwrap();
    pool.map(|text: String| text, (0..8).map(|_| "x".repeat(300_000))).unwrap();
    for mappings in [maps(()), pool.apply(maps, ()).unwrap()] {
        let mappings: Vec<_> = mappings.lines().map(mapping).collect();
        let mut shared = 0;
        for neighbours in mappings.windows(3) {
            let [before, this, behind] = neighbours else { panic!("three at a time") };
            // The extents of a window lie one behind the other.
            let is_guarded = |other: &Mapping, touches| touches && (other.is_guard || other.is_ours);
            if this.is_ours {
                shared += 1;
                assert!(is_guarded(before, before.end == this.begin), "nothing before {this:?}");
                assert!(is_guarded(behind, behind.begin == this.end), "nothing behind {this:?}");
            }
        }
        assert!(shared >= 5, "{shared} mappings");
    }
}

fn maps((): ()) -> String {
    std::fs::read_to_string("/proc/self/maps").unwrap()
}

#[derive(Debug)]
struct Mapping {
    begin: u64,
    end: u64,
    is_guard: bool,
    is_ours: bool,
}

fn mapping(line: &str) -> Mapping {
    let mut fields = line.split_whitespace();
    let (begin, end) = fields.next().unwrap().split_once('-').unwrap();
    let number = |text| u64::from_str_radix(text, 16).unwrap();
    let (is_guard, is_ours) = (fields.next() == Some("---p"), line.contains("memfd:procession"));
    Mapping { begin: number(begin), end: number(end), is_guard, is_ours }
}
