//! Queues between processes, under each start method.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::Duration;

use procession::{Context, JoinableQueue, Process, Queue, SimpleQueue, pipe, wait};
use procession_testing::{OneWay, eventually, for_each_context, once, run, tests};

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            items_of_a_producer_that_is_gone_are_there_in_order,
            many_to_many_loses_and_doubles_nothing,
            killed_producers_and_consumers_cost_what_they_had_in_hand,
            initializer_takes_a_queue_into_a_pool,
            large_items_and_a_backlog_arrive,
            all_that_was_put_is_done_when_a_join_returns,
            nobody_joins_for_what_a_killed_process_had,
            a_poll_loop_sees_items_the_end_and_nothing_else,
        ],
        once: [
            who_polls_takes_no_wake_from_who_waits,
            a_forked_child_polls_with_an_fd_of_its_own,
            a_bounded_queue_waits_for_room,
            waits_end_by_timeout_or_close,
            what_does_not_travel_says_what_to_do,
            an_item_that_does_not_decode_is_its_own_error,
        ],
    })
}

fn items_of_a_producer_that_is_gone_are_there_in_order(context: Context) {
    let queue = Queue::new().unwrap();
    let produce = |(queue, count): (Queue<String>, u32)| {
        (0..count).for_each(|x| queue.put(format!("item {x}")).unwrap());
    };
    context.process(produce, (queue.clone(), 1000)).start().unwrap().join().unwrap();
    assert_eq!(queue.len(), 1000);
    for x in 0..1000 {
        assert_eq!(queue.try_get().unwrap(), Some(format!("item {x}")));
    }
    assert!(queue.try_get().unwrap().is_none() && queue.is_empty());
}

fn many_to_many_loses_and_doubles_nothing(context: Context) {
    const EACH: u64 = 3000;
    let (items, sums) = (Queue::<u64>::new().unwrap(), Queue::<(u64, u64)>::new().unwrap());
    let consume = |(items, sums): (Queue<u64>, Queue<(u64, u64)>)| {
        let (mut count, mut sum) = (0, 0);
        loop {
            match items.get() {
                Ok(item) => (count, sum) = (count + 1, sum + item),
                Err(error) if error.is_closed() => break,
                Err(error) => panic!("{error}"),
            }
        }
        sums.put((count, sum)).unwrap();
    };
    let produce = |items: Queue<u64>| (0..EACH).for_each(|x| items.put(x).unwrap());
    let consumers: Vec<_> =
        (0..3).map(|_| context.process(consume, (items.clone(), sums.clone())).start().unwrap()).collect();
    let producers: Vec<_> = (0..3).map(|_| context.process(produce, items.clone()).start().unwrap()).collect();
    producers.into_iter().for_each(|mut producer| producer.join().unwrap());
    items.close();
    consumers.into_iter().for_each(|mut consumer| consumer.join().unwrap());
    let (counts, totals): (Vec<u64>, Vec<u64>) = (0..3).map(|_| sums.get().unwrap()).unzip();
    assert_eq!(counts.iter().sum::<u64>(), 3 * EACH);
    assert_eq!(totals.iter().sum::<u64>(), 3 * EACH * (EACH - 1) / 2);
}

fn killed_producers_and_consumers_cost_what_they_had_in_hand(context: Context) {
    let queue = Queue::<(u32, u64)>::new().unwrap();
    let produce = |(queue, id): (Queue<(u32, u64)>, u32)| {
        for sequence in 0.. {
            queue.put((id, sequence)).unwrap();
        }
    };
    let consume = |queue: Queue<(u32, u64)>| while queue.get().is_ok() {};
    let mut seen = HashMap::<u32, u64>::new();
    for id in 0..10 {
        let mut producer = context.process(produce, (queue.clone(), id)).start().unwrap();
        eventually("it produces", || queue.len() > 200);
        producer.kill().unwrap();
        assert_eq!(producer.join().unwrap_err().signal(), Some(9));
        // Of one producer, and only one consumer: in order and without gaps.
        while let Some((id, sequence)) = queue.try_get().unwrap() {
            let next = seen.entry(id).or_default();
            assert_eq!(sequence, *next, "of producer {id}");
            *next += 1;
        }
        let mut consumer = context.process(consume, queue.clone()).start().unwrap();
        queue.put((99, 0)).unwrap();
        eventually("it consumes", || queue.is_empty());
        consumer.kill().unwrap();
        assert_eq!(consumer.join().unwrap_err().signal(), Some(9));
    }
    assert!(seen.len() == 10 && seen.values().all(|count| *count > 100), "{seen:?}");
}

fn initializer_takes_a_queue_into_a_pool(context: Context) {
    use std::sync::OnceLock;
    static LOG: OnceLock<Queue<u64>> = OnceLock::new();
    let log = Queue::new().unwrap();
    let keep = |queue: Queue<u64>| drop(LOG.set(queue));
    let pool = context.pool_builder(2).initializer(keep, log.clone()).start().unwrap();
    pool.map(|x: u64| LOG.get().unwrap().put(x).unwrap(), 0..100).unwrap();
    let mut logged: Vec<u64> = std::iter::from_fn(|| log.try_get().unwrap()).collect();
    logged.sort_unstable();
    assert_eq!(logged, (0..100).collect::<Vec<_>>());
}

fn large_items_and_a_backlog_arrive(context: Context) {
    let queue = Queue::<Vec<u8>>::new().unwrap();
    let produce = |queue: Queue<Vec<u8>>| (0..40u8).for_each(|x| queue.put(vec![x; 1_000_000]).unwrap());
    context.process(produce, queue.clone()).start().unwrap().join().unwrap();
    for x in 0..40 {
        assert!(queue.get().unwrap() == vec![x; 1_000_000]);
    }
}

fn all_that_was_put_is_done_when_a_join_returns(context: Context) {
    let (tasks, done) = (JoinableQueue::new().unwrap(), SimpleQueue::new().unwrap());
    let work = |(tasks, done): (JoinableQueue<u32>, SimpleQueue<u32>)| {
        while let Ok(task) = tasks.get() {
            done.put(task).unwrap();
            tasks.task_done().unwrap();
        }
    };
    let mut workers: Vec<_> =
        (0..2).map(|_| context.process(work, (tasks.clone(), done.clone())).start().unwrap()).collect();
    for round in 0..20 {
        (0..50).for_each(|task| tasks.put(round * 50 + task).unwrap());
        tasks.join().unwrap();
        let mut finished: Vec<u32> = (0..50).map(|_| done.get().unwrap()).collect();
        finished.sort_unstable();
        assert_eq!(finished, (round * 50..round * 50 + 50).collect::<Vec<_>>());
        assert!(done.is_empty() && tasks.is_empty());
    }
    tasks.close();
    workers.iter_mut().for_each(|worker| worker.join().unwrap());
    assert!(tasks.task_done().unwrap_err().is_invalid(), "nothing is unfinished");
}

fn nobody_joins_for_what_a_killed_process_had(context: Context) {
    let (tasks, taken) = (JoinableQueue::new().unwrap(), Queue::new().unwrap());
    let hold = |(tasks, taken): (JoinableQueue<u8>, Queue<u8>)| {
        (0..3).for_each(|_| taken.put(tasks.get().unwrap()).unwrap());
        std::thread::park();
    };
    let mut holder = context.process(hold, (tasks.clone(), taken.clone())).start().unwrap();
    (0..4).for_each(|task| tasks.put(task).unwrap());
    (0..3).for_each(|task| assert_eq!(taken.get().unwrap(), task));
    assert!(tasks.join_timeout(Duration::from_millis(150)).unwrap_err().is_timeout(), "four are unfinished");
    assert_eq!(tasks.get().unwrap(), 3);
    tasks.task_done().unwrap();
    // Of one that the holder took: whose it was does not matter.
    tasks.task_done().unwrap();
    assert!(tasks.join_timeout(Duration::from_millis(20)).unwrap_err().is_timeout(), "two are unfinished");
    holder.kill().unwrap();
    tasks.join().unwrap();
    assert!(holder.join().unwrap_err().is_process_lost());
}

fn a_poll_loop_sees_items_the_end_and_nothing_else(context: Context) {
    let (items, (ours, theirs)) = (Queue::<u32>::new().unwrap(), pipe::<(), ()>(true).unwrap());
    let produce = |(items, pace): (Queue<u32>, procession::Connection<(), ()>)| {
        for item in 0..30 {
            pace.recv().unwrap();
            items.put(item).unwrap();
        }
    };
    let mut producer = context.process(produce, (items.clone(), theirs)).start().unwrap();
    let readable = items.readable().unwrap();
    for item in 0..30 {
        assert_eq!(wait(&[&readable.as_fd(), &items], Some(Duration::from_millis(1))).unwrap(), []);
        ours.send(&()).unwrap();
        assert_eq!(wait(&[&readable.as_fd()], None).unwrap(), [0]);
        assert_eq!(wait(&[&items, &ours], None).unwrap()[0], 0);
        assert_eq!(items.try_get().unwrap(), Some(item));
    }
    assert_eq!(wait(&[&items, &producer], None).unwrap(), [1], "the sentinel");
    producer.join().unwrap();
    items.close();
    assert_eq!(wait(&[&items], None).unwrap(), [0]);
    assert_eq!(wait(&[&readable.as_fd()], None).unwrap(), [0]);
    assert!(items.try_get().unwrap_err().is_closed());
}

fn who_polls_takes_no_wake_from_who_waits() {
    let (items, taken) = (Queue::<u32>::new().unwrap(), Queue::new().unwrap());
    let readable = items.readable().unwrap();
    let take = || {
        while let Ok(item) = items.get() {
            taken.put(item).unwrap()
        }
    };
    let mut consumer = Process::fork(take).start().unwrap();
    for item in 0..200 {
        items.put(item).unwrap();
        assert_eq!(taken.get().unwrap(), item);
    }
    assert_eq!(wait(&[&readable.as_fd()], None).unwrap(), [0], "lit by items that another process took");
    assert_eq!(items.try_get().unwrap(), None);
    assert_eq!(wait(&[&readable.as_fd()], Some(Duration::from_millis(1))).unwrap(), []);
    items.close();
    consumer.join().unwrap();
}

fn a_forked_child_polls_with_an_fd_of_its_own() {
    let items = Queue::<u32>::new().unwrap();
    let ours = items.readable().unwrap();
    let child = || {
        let theirs = items.readable().unwrap();
        wait(&[&theirs.as_fd()], None).unwrap();
        items.get().unwrap()
    };
    let mut child = Process::fork(child).start().unwrap();
    items.put(7).unwrap();
    assert_eq!(child.join().unwrap(), 7);
    items.put(8).unwrap();
    assert_eq!(wait(&[&ours.as_fd()], None).unwrap(), [0]);
    assert_eq!(items.get().unwrap(), 8);
}

fn a_bounded_queue_waits_for_room() {
    let queue = Queue::bounded(2).unwrap();
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    let refused = queue.try_put(3).unwrap_err();
    assert!(refused.error().is_timeout(), "{refused}");
    assert_eq!(refused.into_item(), 3, "the item comes back");
    assert!(queue.put_timeout(3, Duration::from_millis(20)).unwrap_err().error().is_timeout());
    let mut consumer = Process::fork(|| (0..500).map(|_| queue.get().unwrap()).sum::<u32>()).start().unwrap();
    (3..=500).for_each(|x| queue.put(x).unwrap());
    assert_eq!(consumer.join().unwrap(), 500 * 501 / 2);
    assert!(Queue::<u8>::bounded(0).unwrap_err().is_invalid());
}

fn waits_end_by_timeout_or_close() {
    let queue = Queue::<u8>::new().unwrap();
    assert!(queue.get_timeout(Duration::from_millis(30)).unwrap_err().is_timeout());
    queue.put(1).unwrap();
    let mut waits =
        Process::fork(|| (queue.get().ok(), queue.get().is_err_and(|error| error.is_closed()))).start().unwrap();
    eventually("it has taken the item", || queue.is_empty());
    queue.close();
    assert_eq!(waits.join().unwrap(), (Some(1), true));
    assert!(queue.is_closed() && queue.put(2).unwrap_err().error().is_closed());
    assert!(queue.try_get().unwrap_err().is_closed());
}

fn what_does_not_travel_says_what_to_do() {
    let queue = Queue::<u8>::new().unwrap();
    let carrier = Queue::<Queue<u8>>::new().unwrap();
    let error = procession::Error::from(carrier.put(queue.clone()).unwrap_err());
    assert!(error.is_encode() && error.to_string().contains("argument of a process"), "{error}");
    let many: Vec<_> = (0..200).map(|_| Queue::<u8>::new().unwrap()).collect();
    let error = Context::fork().process(|queues: Vec<Queue<u8>>| queues.len() as u8, many).start().unwrap_err();
    assert!(error.is_encode() && error.to_string().contains("handles"), "{error}");
}

fn an_item_that_does_not_decode_is_its_own_error() {
    let queue = Queue::new().unwrap();
    queue.put((1u8, None::<OneWay>)).unwrap();
    queue.put((2u8, Some(OneWay))).unwrap();
    queue.put((3u8, None)).unwrap();
    assert_eq!(queue.get().unwrap().0, 1);
    assert!(queue.get().unwrap_err().is_decode());
    assert_eq!(queue.get().unwrap().0, 3);
}
