//! Handles in the arguments of pool tasks, under each start method.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::sync::OnceLock;
use std::time::Duration;

use procession::sync::{Lock, Mutex};
use procession::{Connection, Context, Handle, Queue, SharedMemory, SharedValue, pipe, share};
use procession_testing::{eventually, for_each_context, once, open_fds, run, tests};

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            every_kind_of_handle_travels_with_a_task,
            one_fd_serves_however_many_tasks,
            handles_travel_by_imap_and_starmap,
            a_worker_that_is_killed_is_replaced_by_one_that_can_ask,
            handle_in_a_result_is_refused,
            cancelled_job_closes_its_handles,
        ],
        once: [
            an_iterator_of_arguments_is_not_an_argument,
        ],
    })
}

fn every_kind_of_handle_travels_with_a_task(context: Context) {
    type All = (Queue<u32>, Lock, Mutex<u64>, SharedMemory, SharedValue<u64>, Handle<File>, Connection<u32, u32>);
    let pool = context.pool(2).unwrap();
    let (queue, lock) = (Queue::new().unwrap(), Lock::new().unwrap());
    let (sum, memory) = (Mutex::new(0).unwrap(), SharedMemory::new(8).unwrap());
    let value = SharedValue::new(1).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    let (ours, theirs) = pipe(true).unwrap();
    let use_all = |(queue, lock, sum, memory, value, Handle(mut file), theirs): All| {
        let _locked = lock.lock().unwrap();
        queue.put(7).unwrap();
        *sum.lock().unwrap() += 5;
        memory.write(0, &[1, 2, 3]).unwrap();
        value.fetch_add(41);
        file.write_all(b"written").unwrap();
        theirs.send(&(theirs.recv().unwrap() + 1)).unwrap();
    };
    ours.send(&1).unwrap();
    let copy = Handle(file.try_clone().unwrap());
    let all = (queue.clone(), lock.clone(), sum.clone(), memory.clone(), value.clone(), copy, theirs);
    pool.apply(use_all, all).unwrap();
    assert_eq!((queue.get().unwrap(), *sum.lock().unwrap(), value.get(), ours.recv().unwrap()), (7, 5, 42, 2));
    let (mut bytes, mut text) = ([0; 3], String::new());
    memory.read(0, &mut bytes).unwrap();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!((bytes, text.as_str()), ([1, 2, 3], "written"));
    drop(lock.lock().unwrap());
}

fn one_fd_serves_however_many_tasks(context: Context) {
    let pool = context.pool(2).unwrap();
    let results = Queue::<u32>::new().unwrap();
    pool.apply(|queue: Queue<u32>| queue.put(0).unwrap(), results.clone()).unwrap();
    assert_eq!(results.get().unwrap(), 0);
    let open = open_fds();
    let shared = share(vec![3u32; 10_000]).unwrap();
    let tasks = (0..2000u32).map(|x| (results.clone(), shared.clone(), x));
    let job = pool.map_async(|(queue, shared, x): Task| queue.put(x + shared[9]).unwrap(), tasks).unwrap();
    assert!(open_fds() < open + 10, "{open} before, {} now", open_fds());
    job.get().unwrap();
    drop(shared);
    let mut all: Vec<u32> = std::iter::from_fn(|| results.try_get().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (3..2003).collect::<Vec<_>>());
    // A worker that was being started may have had a socket open for it before.
    eventually("a job that is over keeps none", || open_fds() <= open);
}

fn handles_travel_by_imap_and_starmap(context: Context) {
    let pool = context.pool(2).unwrap();
    let queues: Vec<Queue<usize>> = (0..20).map(|_| Queue::new().unwrap()).collect();
    let lens = pool.imap(|queue: Queue<usize>| queue.put(queue.len()).unwrap(), queues.clone());
    assert_eq!(lens.map(Result::unwrap).count(), 20);
    let add = |queue: Queue<usize>, x: usize| queue.put(x).unwrap();
    pool.starmap(add, queues.iter().cloned().zip(100..)).unwrap();
    for (index, queue) in queues.iter().enumerate() {
        assert_eq!((queue.get().unwrap(), queue.get().unwrap()), (0, 100 + index));
    }
}

fn a_worker_that_is_killed_is_replaced_by_one_that_can_ask(context: Context) {
    let pool = context.pool(2).unwrap();
    let queue = Queue::<u32>::new().unwrap();
    for x in 0..10 {
        let die = |(queue, x): (Queue<u32>, u32)| -> () {
            queue.put(x).unwrap();
            std::process::abort();
        };
        let error = pool.apply(die, (queue.clone(), x)).unwrap_err();
        assert!(error.is_worker_lost(), "{error}");
        assert_eq!(queue.get().unwrap(), x);
    }
    let retried = pool.retries(3).apply(
        |queue: Queue<u32>| {
            queue.put(1).unwrap();
            if queue.len() < 3 {
                std::process::abort();
            }
        },
        queue.clone(),
    );
    retried.unwrap();
    assert_eq!(queue.len(), 3, "it had its handle each time");
}

fn handle_in_a_result_is_refused(context: Context) {
    let pool = context.pool(1).unwrap();
    let error = pool.apply(|queue: Queue<u8>| queue, Queue::new().unwrap()).unwrap_err();
    assert!(error.is_encode() && error.to_string().contains("not back as its result"), "{error}");
    // Kept in the worker, it is of use after its job.
    static KEPT: OnceLock<Queue<u8>> = OnceLock::new();
    let queue = Queue::new().unwrap();
    pool.apply(|queue: Queue<u8>| drop(KEPT.set(queue)), queue.clone()).unwrap();
    pool.apply(|x: u8| KEPT.get().unwrap().put(x).unwrap(), 9).unwrap();
    assert_eq!(queue.get().unwrap(), 9);
}

fn cancelled_job_closes_its_handles(context: Context) {
    let pool = context.pool(1).unwrap();
    let (ours, theirs) = pipe::<(), ()>(true).unwrap();
    let waits = |theirs: Connection<(), ()>| theirs.recv_timeout(procession_testing::patience()).is_ok();
    let job = pool.apply_async(waits, theirs).unwrap();
    assert!(job.cancel().unwrap());
    eventually("every copy of the other end is closed", || {
        ours.recv_timeout(Duration::from_millis(1)).is_err_and(|error| error.is_closed())
    });
    assert!(pool.apply(|x: u8| x, 3).is_ok_and(|x| x == 3));
}

fn an_iterator_of_arguments_is_not_an_argument() {
    let pool = Context::fork().pool(1).unwrap();
    let carrier = Queue::<Queue<u8>>::new().unwrap();
    let arguments = (0..1u8).inspect(|_| {
        let error = procession::Error::from(carrier.put(Queue::new().unwrap()).unwrap_err());
        assert!(error.to_string().contains("over a connection"), "{error}");
    });
    pool.map(|x: u8| x, arguments).unwrap();
}

type Task = (Queue<u32>, procession::Shared<Vec<u32>>, u32);
