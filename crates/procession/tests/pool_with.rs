//! Calls with a state, and arguments by reference, under each start method.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use procession::sync::Mutex;
use procession::{Bytes, Context, Queue, Shared, share};
use procession_testing::{eventually, for_each_context, kill, once, open_fds, run, scaled, tests};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            every_call_has_its_sibling_with_a_state,
            states_of_every_length_arrive,
            a_worker_decodes_a_state_once_for_each_call,
            interleaved_calls_each_have_their_state,
            handles_in_a_state_work,
            state_that_does_not_encode_fails_the_call,
            state_that_does_not_decode_is_each_tasks_error,
            a_panic_while_a_state_is_decoded_is_each_tasks_error,
            a_cancelled_call_ends_the_decoding_of_its_state,
            a_replacement_decodes_the_state_again,
            terms_hold_with_a_state,
            imap_with_a_state_pulls_no_more_than_its_window,
            arguments_by_reference_are_not_cloned,
        ],
        once: [
            handles_of_a_state_go_with_its_last_call,
            many_calls_with_states_at_once_need_no_fd_each,
            a_nested_pool_takes_a_state,
        ],
    })
}

fn every_call_has_its_sibling_with_a_state(context: Context) {
    let pool = context.pool(2).unwrap();
    let table: Vec<u64> = (0..1000).map(|x| x * x).collect();
    let expected: Vec<u64> = table.iter().map(|square| square + 1).collect();
    let look = |table: &Vec<u64>, index: usize| table[index] + 1;
    assert_eq!(pool.map_with(&table, look, 0..1000).unwrap(), expected);
    assert_eq!(pool.map_async_with(&table, look, 0..1000).unwrap().get().unwrap(), expected);
    let each = pool.map_each_with(&table, look, [999, 1000, 0]).unwrap();
    assert_eq!(each[0].as_ref().unwrap(), &998_002);
    assert!(each[1].as_ref().is_err_and(|error| error.is_panic() && error.index() == Some(1)));
    assert_eq!(each[2].as_ref().unwrap(), &1);
    assert_eq!(pool.apply_with(&table, look, 7).unwrap(), 50);
    assert_eq!(pool.apply_async_with(&table[..10], look, 7).unwrap().get().unwrap(), 50);
    let lazily: Vec<_> = pool.imap_with(&table, look, 0..1000).collect::<Result<_, _>>().unwrap();
    assert_eq!(lazily, expected);
    let mut unordered: Vec<_> =
        pool.imap_unordered_with(table.clone(), look, 0..1000).collect::<Result<_, _>>().unwrap();
    unordered.sort_unstable();
    assert_eq!(unordered, expected);
    let sum = |table: &Vec<u64>, a: usize, b: usize, c: u64| table[a] + table[b] + c;
    assert_eq!(pool.starmap_with(&table, sum, [(1, 2, 3), (3, 4, 5)]).unwrap(), [8, 30]);
    assert_eq!(pool.starmap_async_with(table, sum, [(1, 2, 3)]).unwrap().get().unwrap(), [8]);
}

fn states_of_every_length_arrive(context: Context) {
    let pool = context.pool(2).unwrap();
    for len in [0, 1, 500, 511, 512, 513, 4096, 3 << 20] {
        let state = "s".repeat(len);
        let lengths = pool.map_with(&*state, |state: &String, more: usize| state.len() + more, [0, 1, 2]).unwrap();
        assert_eq!(lengths, [len, len + 1, len + 2]);
        // Large plain data, which has no blocks here.
        let bytes = Bytes::from(state.into_bytes());
        assert_eq!(pool.apply_with(&bytes, |bytes: &Bytes, more: usize| bytes.len() + more, 1).unwrap(), len + 1);
    }
}

/// The number of states that this worker has decoded.
static DECODED: AtomicU64 = AtomicU64::new(0);

/// A state that is counted where it is decoded.
#[derive(Serialize)]
struct Counted {
    text: String,
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Counted, D::Error> {
        #[derive(Deserialize)]
        struct Form {
            text: String,
        }
        DECODED.fetch_add(1, Ordering::Relaxed);
        Form::deserialize(deserializer).map(|Form { text }| Counted { text })
    }
}

fn a_worker_decodes_a_state_once_for_each_call(context: Context) {
    let pool = context.pool(2).unwrap();
    let count = |state: &Counted, _: u32| (std::process::id(), DECODED.load(Ordering::Relaxed), state.text.len());
    for (call, len) in [3, 100_000, 3].into_iter().enumerate() {
        let state = Counted { text: "x".repeat(len) };
        // Each is a chunk of its own, and each of a lazy map is even a job.
        let of_map = pool.chunk_size(1).map_with(&state, count, 0..200).unwrap();
        let of_imap: Vec<_> = pool.imap_with(&state, count, 0..200).collect::<Result<_, _>>().unwrap();
        let mut workers: HashMap<u32, HashSet<u64>> = HashMap::new();
        for (pid, decoded, len_there) in of_map.iter().chain(&of_imap) {
            assert_eq!(*len_there, len);
            workers.entry(*pid).or_default().insert(*decoded);
        }
        for (pid, seen) in workers {
            assert!(seen.len() <= 2, "worker {pid} in round {call}: {seen:?}");
            assert!(*seen.iter().max().unwrap() <= 2 * (call as u64 + 1), "worker {pid}: {seen:?}");
        }
    }
}

fn interleaved_calls_each_have_their_state(context: Context) {
    let pool = context.pool(2).unwrap().chunk_size(3);
    let calls: Vec<_> = (0..12_u64)
        .map(|call| {
            let state = vec![call; if call % 2 == 0 { 10 } else { 10_000 }];
            pool.map_async_with(state, |state: &Vec<u64>, x: u64| state[x as usize % 10] * 1000 + x, 0..100).unwrap()
        })
        .collect();
    for (call, result) in calls.iter().enumerate() {
        let expected: Vec<u64> = (0..100).map(|x| call as u64 * 1000 + x).collect();
        assert_eq!(result.get().unwrap(), expected);
    }
}

fn handles_in_a_state_work(context: Context) {
    type State = (Queue<u64>, Mutex<u64>, Shared<Vec<u64>>, Queue<u64>);
    let pool = context.pool(2).unwrap();
    let (queue, sum, shared) = (Queue::new().unwrap(), Mutex::new(0).unwrap(), share(vec![5; 10_000]).unwrap());
    let state: State = (queue.clone(), sum.clone(), shared, queue.clone());
    let work = |(queue, sum, shared, again): &State, x: u64| {
        *sum.lock().unwrap() += x * shared[9];
        queue.put(x).unwrap();
        again.put(x).unwrap();
    };
    pool.map_with(&state, work, 0..100).unwrap();
    assert_eq!(*sum.lock().unwrap(), 4950 * 5);
    // Those of the arguments are others than those of the state.
    let both = |state: &State, (own, x): (Queue<u64>, u64)| own.put(state.2[0] + x).unwrap();
    let own = Queue::<u64>::new().unwrap();
    pool.map_with(&state, both, (0..50).map(|x| (own.clone(), x))).unwrap();
    let mut got: Vec<u64> = (0..50).map(|_| own.get().unwrap()).collect();
    got.sort_unstable();
    assert_eq!(got, (5..55).collect::<Vec<_>>());
    for result in pool.imap_with(state, work, 0..20) {
        result.unwrap();
    }
    assert_eq!((0..240).map(|_| queue.get().unwrap()).sum::<u64>(), 2 * 4950 + 2 * 190);
}

#[derive(Debug)]
struct Stubborn;

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it will not"))
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Stubborn, D::Error> {
        Err(serde::de::Error::custom("it will not"))
    }
}

fn state_that_does_not_encode_fails_the_call(context: Context) {
    let pool = context.pool(1).unwrap();
    let error = pool.map_with(Stubborn, |_: &Stubborn, x: u32| x, 0..3).unwrap_err();
    assert!(error.is_encode() && error.to_string().contains("the state of a call"), "{error}");
    assert!(error.to_string().contains("Stubborn") && error.to_string().contains("it will not"), "{error}");
    let mut lazily = pool.imap_with(Stubborn, |_: &Stubborn, x: u32| x, 0..3);
    assert!(lazily.next().unwrap().is_err_and(|error| error.is_encode()));
    assert!(lazily.next().is_none());
    assert_eq!(pool.apply(|x: u32| x, 1).unwrap(), 1);
}

#[derive(Serialize)]
struct OneWay(String);

impl<'de> Deserialize<'de> for OneWay {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<OneWay, D::Error> {
        Err(serde::de::Error::custom("no way back"))
    }
}

fn state_that_does_not_decode_is_each_tasks_error(context: Context) {
    let pool = context.pool(2).unwrap();
    for len in [1, 10_000] {
        let state = OneWay("x".repeat(len));
        let each = pool.map_each_with(&state, |_: &OneWay, x: u32| x, 0..20).unwrap();
        assert_eq!(each.len(), 20);
        for (index, result) in each.iter().enumerate() {
            let error = result.as_ref().unwrap_err();
            assert!(error.is_decode() && error.index() == Some(index), "{error}");
            let text = error.to_string();
            assert!(text.contains("the state of task") && text.contains("no way back"), "{text}");
        }
        let limited = pool.timeout(scaled(Duration::from_secs(20)));
        assert!(limited.apply_with(&state, |_: &OneWay, x: u32| x, 0).unwrap_err().is_decode());
    }
}

#[derive(Serialize)]
struct Explosive;

impl<'de> Deserialize<'de> for Explosive {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Explosive, D::Error> {
        panic!("while it is decoded")
    }
}

fn a_panic_while_a_state_is_decoded_is_each_tasks_error(context: Context) {
    let pool = context.pool(1).unwrap();
    let pids = pool.worker_pids();
    let each = pool.map_each_with(Explosive, |_: &Explosive, x: u32| x, 0..5).unwrap();
    for error in each.iter().map(|result| result.as_ref().unwrap_err()) {
        assert_eq!(error.panic_message(), Some("while it is decoded"), "{error}");
    }
    assert_eq!(pool.worker_pids(), pids, "its worker lives");
}

fn a_cancelled_call_ends_the_decoding_of_its_state(context: Context) {
    /// It says where it begins to decode, and never ends.
    #[derive(Serialize)]
    struct Endless(String);
    impl<'de> Deserialize<'de> for Endless {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Endless, D::Error> {
            let path = String::deserialize(deserializer)?;
            std::fs::write(path, "").unwrap();
            loop {
                std::thread::park();
            }
        }
    }
    let pool = context.pool(1).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (name, pool) in [("unlimited", pool.clone()), ("limited", pool.timeout(scaled(Duration::from_secs(60))))] {
        let begun = dir.path().join(name);
        let state = Endless(begun.to_str().unwrap().to_owned());
        let result = pool.map_async_with(state, |_, x: u64| x, [1, 2]).unwrap();
        eventually("the state is being decoded", || begun.exists());
        assert!(pool.stats().unwrap().workers.iter().all(|worker| worker.running.is_none()), "no task has begun");
        assert!(result.cancel().unwrap());
        assert_eq!(pool.map_with(1, |one, x: u64| one + x, [1, 2]).unwrap(), [2, 3]);
    }
}

fn a_replacement_decodes_the_state_again(context: Context) {
    let pool = context.pool(2).unwrap();
    let state = vec![7_u64; 20_000];
    let work = |state: &Vec<u64>, x: u64| {
        if x == 30 {
            std::process::abort();
        }
        state[x as usize] + x
    };
    let each = pool.map_each_with(&state, work, 0..100).unwrap();
    for (x, result) in each.iter().enumerate() {
        match result {
            Ok(value) => assert_eq!(*value, 7 + x as u64),
            Err(error) => assert!(x == 30 && error.is_worker_lost(), "{x}: {error}"),
        }
    }
    // By a kill from outside, with a lazy map whose state stays the same.
    let mut lazily = pool.imap_with(&state, |state: &Vec<u64>, x: u64| state[0] + x, 0..50);
    assert_eq!(lazily.next().unwrap().unwrap(), 7);
    kill(pool.worker_pids()[0]);
    eventually("the worker is replaced", || pool.worker_pids().len() == 2);
    let rest: Vec<_> = lazily.collect();
    assert!(rest.iter().filter(|result| result.is_err()).count() <= 1);
    assert_eq!(rest.len(), 49);
}

fn terms_hold_with_a_state(context: Context) {
    let pool = context.pool(2).unwrap();
    let sleep = |state: &Vec<u64>, millis: u64| {
        std::thread::sleep(Duration::from_millis(millis));
        state[0]
    };
    let state = vec![3_u64; 1000];
    let limited = pool.timeout(scaled(Duration::from_millis(200)));
    let each = limited.map_each_with(&state, sleep, [1, 3_600_000, 1]).unwrap();
    assert!(each[1].as_ref().is_err_and(|error| error.is_task_timeout()));
    assert!(each[0].is_ok() && each[2].is_ok());
    let cancelled = pool.map_async_with(&state, sleep, [3_600_000; 4]).unwrap();
    assert!(cancelled.cancel().unwrap() && cancelled.get().unwrap_err().is_cancelled());
    let dir = tempfile::tempdir().unwrap();
    let once = |path: &String, x: u32| {
        if std::fs::File::create_new(path).is_ok() {
            std::process::abort();
        }
        x
    };
    let path = dir.path().join("begun").to_str().unwrap().to_owned();
    assert_eq!(pool.retries(1).map_with(path, once, [1, 2, 3]).unwrap(), [1, 2, 3]);
    let failing = pool.fail_fast().map_with(2, |bad: &u64, x: u64| assert!(x != *bad, "bad"), 0..100_000);
    assert_eq!(failing.unwrap_err().panic_message(), Some("bad"));
}

fn imap_with_a_state_pulls_no_more_than_its_window(context: Context) {
    thread_local!(static PULLED: Cell<usize> = const { Cell::new(0) });
    PULLED.set(0);
    let pool = context.pool(2).unwrap();
    let items = (0_u64..).inspect(|_| PULLED.set(PULLED.get() + 1));
    let mut lazily = pool.imap_with(vec![1_u64; 5000], |state: &Vec<u64>, x: u64| state[0] + x, items);
    for x in 0..100 {
        assert_eq!(lazily.next().unwrap().unwrap(), x + 1);
    }
    assert!(PULLED.get() < 200, "{} were pulled", PULLED.get());
}

fn arguments_by_reference_are_not_cloned(context: Context) {
    /// It cannot be cloned.
    #[derive(Serialize, Deserialize)]
    struct Word(String);
    let pool = context.pool(2).unwrap();
    let words: Vec<Word> = (0..100).map(|x| Word(x.to_string())).collect();
    let lengths: Vec<usize> = words.iter().map(|Word(word)| word.len()).collect();
    assert_eq!(pool.map(|Word(word)| word.len(), &words).unwrap(), lengths);
    assert_eq!(pool.map_with(&words[3], |Word(three), Word(word)| three.len() * word.len(), &words).unwrap(), lengths);
    let numbers = [1_u64, 2, 3];
    assert_eq!(pool.map(|x| x * 2, numbers.iter()).unwrap(), [2, 4, 6]);
    assert_eq!(pool.map(|word: String| word.len(), ["a", "bb"]).unwrap(), [1, 2]);
    assert_eq!(pool.map(|word: String| word.len(), ["a", "bb"].iter()).unwrap(), [1, 2]);
    assert_eq!(pool.map(|part: Vec<u64>| part.len(), numbers.chunks(2)).unwrap(), [2, 1]);
    assert_eq!(pool.map(|bytes: Vec<u8>| bytes.len(), [&b"abc"[..], b""]).unwrap(), [3, 0]);
    assert_eq!(pool.map(|(a, b): (u8, String)| a as usize + b.len(), &[(1, "x".to_owned())]).unwrap(), [2]);
}

fn handles_of_a_state_go_with_its_last_call() {
    let pool = Context::forkserver().pool(2).unwrap();
    let queue = Queue::<u64>::new().unwrap();
    let put = |(queue, _): &(Queue<u64>, Vec<u64>), x: u64| queue.put(x).unwrap();
    pool.map_with((queue.clone(), vec![1; 1000]), put, 0..10).unwrap();
    let open = open_fds();
    let results: Vec<_> =
        (0..20).map(|_| pool.map_async_with((queue.clone(), vec![1; 1000]), put, 0..10).unwrap()).collect();
    results.iter().for_each(|result| drop(result.get().unwrap()));
    eventually("the parent has closed what it kept", || open_fds() <= open);
    let mut lazily = pool.imap_with((queue.clone(), vec![1; 1000]), put, 0..);
    lazily.next().unwrap().unwrap();
    assert!(open_fds() >= open + 2, "the state and its queue are kept");
    drop(lazily);
    eventually("the parent has closed what it kept", || open_fds() <= open);
}

fn many_calls_with_states_at_once_need_no_fd_each() {
    let pool = Context::forkserver().pool(2).unwrap();
    let open = open_fds();
    let results: Vec<_> =
        (0..2000_u64).map(|x| pool.apply_async_with(x, |state: &u64, y: u64| state + y, 1).unwrap()).collect();
    assert!(open_fds() <= open + 2);
    for (x, result) in results.iter().enumerate() {
        assert_eq!(result.get().unwrap(), x as u64 + 1);
    }
}

fn a_nested_pool_takes_a_state() {
    let pool = Context::forkserver().pool(1).unwrap();
    let nested = |x: u64| {
        let pool = Context::spawn().pool(1).unwrap();
        let state = (vec![x; 1000], Bytes::from(vec![1; 100_000]));
        pool.map_with(state, |(numbers, bytes): &(Vec<u64>, Bytes), y: u64| numbers[0] + y + bytes.len() as u64, [1, 2])
            .unwrap()
    };
    assert_eq!(pool.apply(nested, 5).unwrap(), [100_006, 100_007]);
}
