//! A queue that is closed while others put and get: consumers get every item that was put, also a
//! consumer that ends at the close.

use std::thread;

use procession_shm::{NotPut, Queue};
use procession_testing::patience;
use procession_testing::watchdog::watch;

const ROUNDS: u32 = 1000;

#[test]
fn nothing_is_put_behind_a_consumer_that_has_ended() {
    let _watch = watch("nothing_is_put_behind_a_consumer_that_has_ended", 3 * patience());
    for round in 0..ROUNDS {
        let queue = Queue::create(0, false).unwrap();
        let (put, got) = thread::scope(|scope| {
            let producer = scope.spawn(|| put_until_closed(&queue));
            let consumer = scope.spawn(|| get_until_closed(&queue));
            thread::yield_now();
            queue.close();
            (producer.join().unwrap(), consumer.join().unwrap())
        });
        assert_eq!(put, got, "round {round}");
    }
}

fn put_until_closed(queue: &Queue) -> u32 {
    let mut put = 0;
    loop {
        match queue.put(b"item", None) {
            Ok(()) => put += 1,
            Err(NotPut::Closed) => return put,
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn get_until_closed(queue: &Queue) -> u32 {
    let (mut got, mut item) = (0, Vec::new());
    while queue.get(&mut item, None).unwrap() {
        assert_eq!(item, b"item");
        item.clear();
        got += 1;
    }
    got
}
