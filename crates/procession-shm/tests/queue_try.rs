//! Calls of a queue that do not wait.

use std::thread;
use std::time::{Duration, Instant};

use procession_shm::{NotPut, Queue, Tried};
use procession_testing::patience;
use procession_testing::watchdog::watch;

fn whole([first, second]: [&[u8]; 2]) -> Option<Vec<u8>> {
    Some([first, second].concat())
}

#[test]
fn frames_come_back_in_order_and_across_the_rings_end() {
    let _watch = watch("frames_come_back_in_order_and_across_the_rings_end", patience());
    let queue = Queue::create(0, false).unwrap();
    assert_eq!(queue.try_get(whole).unwrap(), Tried::NotNow);
    for round in 0..5000_u32 {
        let (head, body) = (round.to_le_bytes(), vec![round as u8; round as usize % 777]);
        assert_eq!(queue.try_put(&[&head, &body]).unwrap(), Tried::Done(()));
        assert_eq!(queue.try_put(&[&body, &[], &head]).unwrap(), Tried::Done(()));
        assert_eq!(queue.try_get(whole).unwrap(), Tried::Done([&head[..], &body].concat()));
        assert_eq!(queue.try_get(whole).unwrap(), Tried::Done([&body[..], &head].concat()));
    }
}

#[test]
fn a_bound_is_kept_and_a_growth_is_left_to_who_may_wait() {
    let _watch = watch("a_bound_is_kept_and_a_growth_is_left_to_who_may_wait", patience());
    let queue = Queue::create(2, false).unwrap();
    let large = vec![7; 100_000];
    assert_eq!(queue.try_put(&[&large]).unwrap(), Tried::Busy);
    queue.put_parts(&[b"12", &large], None).unwrap();
    assert_eq!(queue.try_put(&[b"second"]).unwrap(), Tried::Done(()));
    assert_eq!(queue.try_put(&[b"third"]).unwrap(), Tried::NotNow);
    assert_eq!(queue.try_get(|[first, second]| Some(first.len() + second.len())).unwrap(), Tried::Done(100_002));
    assert_eq!(queue.try_put(&[b"third"]).unwrap(), Tried::Done(()));
    queue.close();
    assert!(matches!(queue.try_put(&[b"fourth"]), Err(NotPut::Closed)));
}

#[test]
fn declined_frame_stays_and_has_no_consumer() {
    let _watch = watch("declined_frame_stays_and_has_no_consumer", patience());
    let queue = Queue::create(0, true).unwrap();
    queue.put(b"frame", None).unwrap();
    assert_eq!(queue.try_get(|_| None::<()>).unwrap(), Tried::NotNow);
    assert_eq!((queue.len(), queue.done().unwrap()), (1, false));
    assert_eq!(queue.try_get(whole).unwrap(), Tried::Done(b"frame".to_vec()));
    assert!(queue.done().unwrap() && queue.join(Some(Instant::now())).unwrap());
}

#[test]
fn try_put_and_try_get_wake_waiters() {
    let _watch = watch("try_put_and_try_get_wake_waiters", patience());
    let queue = Queue::create(1, false).unwrap();
    assert!(!queue.wait(Some(Instant::now() + Duration::from_millis(5))));
    thread::scope(|scope| {
        let consumer = scope.spawn(|| {
            assert!(queue.wait(None));
            queue.try_get(whole).unwrap()
        });
        thread::sleep(Duration::from_millis(20));
        assert_eq!(queue.try_put(&[b"frame"]).unwrap(), Tried::Done(()));
        assert_eq!(consumer.join().unwrap(), Tried::Done(b"frame".to_vec()));
        queue.put(b"one", None).unwrap();
        let producer = scope.spawn(|| queue.put(b"two", None));
        thread::sleep(Duration::from_millis(20));
        assert_eq!(queue.try_get(whole).unwrap(), Tried::Done(b"one".to_vec()));
        producer.join().unwrap().unwrap();
    });
    assert_eq!(queue.len(), 1);
}
