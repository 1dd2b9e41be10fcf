//! Channels: queues that end with their producers, under each start method.

use std::time::Duration;

use procession::queue::{self, Receiver, Sender};
use procession::{Context, pipe};
use procession_testing::{eventually, for_each_context, kill, once, open_fds, run, scaled, tests};

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            a_channel_ends_when_its_producers_have_ended,
            a_killed_producer_ends_the_channel_like_any_other,
            senders_travel_with_tasks_and_states,
            a_channel_ends_with_the_task_that_had_its_sender,
            a_full_channel_without_a_receiver_is_closed,
        ],
        once: [
            every_item_comes_before_the_end,
            a_receiver_waits_for_a_sender_that_is_silent,
            both_ends_travel_over_a_connection,
            a_channel_leaves_nothing_open,
        ],
    })
}

fn a_channel_ends_when_its_producers_have_ended(context: Context) {
    let (sender, receiver) = queue::channel::<u64>().unwrap();
    let produce = |(sender, from): (Sender<u64>, u64)| (from..from + 100).for_each(|x| sender.send(x).unwrap());
    let processes: Vec<_> =
        (0..3).map(|number| context.process(produce, (sender.clone(), number * 100)).start().unwrap()).collect();
    drop(sender);
    let mut all: Vec<u64> = receiver.iter().collect::<Result<_, _>>().unwrap();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..300));
    assert!(receiver.recv().unwrap_err().is_closed() && receiver.try_recv().unwrap_err().is_closed());
    processes.into_iter().for_each(|mut process| process.join().unwrap());
}

fn a_killed_producer_ends_the_channel_like_any_other(context: Context) {
    let (sender, receiver) = queue::channel::<u64>().unwrap();
    let produce = |sender: Sender<u64>| {
        sender.send(1).unwrap();
        std::thread::sleep(Duration::from_secs(3600));
    };
    let mut producer = context.process(produce, sender.clone()).start().unwrap();
    drop(sender);
    assert_eq!(receiver.recv().unwrap(), 1);
    assert!(receiver.recv_timeout(scaled(Duration::from_millis(100))).unwrap_err().is_timeout());
    kill(producer.pid());
    assert!(receiver.recv().unwrap_err().is_closed());
    assert!(producer.join().is_err());
}

fn senders_travel_with_tasks_and_states(context: Context) {
    let pool = context.pool(2).unwrap();
    let (sender, receiver) = queue::channel::<u64>().unwrap();
    let tasks = (0..20).map(|x| (sender.clone(), x));
    let sent = pool.map_async(|(sender, x): (Sender<u64>, u64)| sender.send(x).unwrap(), tasks).unwrap();
    let by_state = pool.map_async_with(&sender, |sender, x: u64| sender.send(x).unwrap(), 20..40).unwrap();
    drop(sender);
    sent.get().unwrap();
    by_state.get().unwrap();
    pool.terminate();
    let mut all: Vec<u64> = Vec::new();
    for item in &receiver {
        all.push(item.unwrap());
    }
    all.sort_unstable();
    assert!(all.into_iter().eq(0..40));
}

fn a_channel_ends_with_the_task_that_had_its_sender(context: Context) {
    let pool = context.pool(1).unwrap();
    let (sender, receiver) = queue::channel::<u64>().unwrap();
    pool.apply(|sender: Sender<u64>| (0..3).for_each(|x| sender.send(x).unwrap()), sender).unwrap();
    // The worker lives on.
    assert!(receiver.iter().map(Result::unwrap).eq(0..3));
    assert_eq!(pool.apply(|x: u64| x, 5).unwrap(), 5);
}

fn a_full_channel_without_a_receiver_is_closed(context: Context) {
    let (sender, receiver) = queue::bounded_channel::<u64>(2).unwrap();
    let take_one = |receiver: Receiver<u64>| receiver.recv().unwrap();
    let mut process = context.process(take_one, receiver).start().unwrap();
    let error = (0..10).find_map(|x| sender.send(x).err()).expect("nobody takes them");
    assert!(error.error().is_closed() && error.into_item() >= 2);
    assert_eq!(process.join().unwrap(), 0);
    assert!(queue::bounded_channel::<u64>(0).unwrap_err().is_invalid());
}

fn every_item_comes_before_the_end() {
    for round in 0..50 {
        let (sender, receiver) = queue::channel::<u64>().unwrap();
        let count = 1 + round * 7;
        std::thread::scope(|scope| {
            scope.spawn(move || (0..count).for_each(|x| sender.send(x).unwrap()));
            assert!(receiver.iter().map(Result::unwrap).eq(0..count));
        });
    }
}

fn a_receiver_waits_for_a_sender_that_is_silent() {
    let (sender, receiver) = queue::channel::<String>().unwrap();
    assert!(receiver.try_recv().unwrap().is_none());
    assert!(receiver.recv_timeout(Duration::from_millis(1)).unwrap_err().is_timeout());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The receiver is past its first wait by then.
            std::thread::sleep(Duration::from_millis(50));
            sender.send("late".into()).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            drop(sender);
        });
        assert_eq!(receiver.recv().unwrap(), "late");
        assert!(receiver.clone().recv().unwrap_err().is_closed());
    });
}

fn both_ends_travel_over_a_connection() {
    type Ends = (Sender<u8>, Receiver<u8>);
    let (ours, theirs) = pipe::<Ends, ()>(true).unwrap();
    ours.send(&queue::channel::<u8>().unwrap()).unwrap();
    let (sender, receiver) = theirs.recv().unwrap();
    sender.send(3).unwrap();
    drop(sender);
    assert_eq!(receiver.iter().map(Result::unwrap).collect::<Vec<_>>(), [3]);
}

fn a_channel_leaves_nothing_open() {
    let open = open_fds();
    for _ in 0..20 {
        let (sender, receiver) = queue::channel::<u8>().unwrap();
        sender.clone().send(1).unwrap();
        drop(sender);
        assert_eq!(receiver.iter().count(), 1);
        assert!(receiver.recv().is_err());
    }
    eventually("what the channels had is closed", || open_fds() <= open);
}
