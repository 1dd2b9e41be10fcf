//! Model of a stream's two positions: the producer has written the bytes that the consumer sees
//! committed, and the consumer has read the bytes that the producer writes over.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use procession_shm::{Cursors, Produced};

const CAPACITY: usize = 2;
const ITEMS: u64 = 4;

struct Shared {
    cursors: Cursors,
    memory: [UnsafeCell<u64>; CAPACITY],
}

#[test]
fn every_item_arrives_once_and_in_order() {
    loom::model(|| {
        let memory = [UnsafeCell::new(0), UnsafeCell::new(0)];
        let shared = Arc::new(Shared { cursors: Cursors::new(), memory });
        let producer = {
            let shared = shared.clone();
            thread::spawn(move || {
                let produced = Produced::new();
                let mut item = 0;
                while item < ITEMS {
                    let (tail, room) = produced.room(&shared.cursors, CAPACITY, 1);
                    if room == 0 {
                        thread::yield_now();
                        continue;
                    }
                    // Loom reports the access if the consumer may still be reading here.
                    shared.memory[tail as usize % CAPACITY].with_mut(|place| write(place, item));
                    produced.commit(&shared.cursors, tail + 1);
                    item += 1;
                }
            })
        };
        let mut expected = 0;
        while expected < ITEMS {
            let committed = shared.cursors.committed(expected, CAPACITY).expect("nobody overwrites them");
            if committed == expected {
                thread::yield_now();
                continue;
            }
            while expected < committed {
                assert_eq!(shared.memory[expected as usize % CAPACITY].with(read), expected);
                expected += 1;
            }
            shared.cursors.release(committed);
        }
        producer.join().unwrap();
        assert!(shared.cursors.is_empty());
    });
}

#[allow(unsafe_code, reason = "loom's cells give pointers")]
fn write(place: *mut u64, item: u64) {
    // SAFETY: loom has checked that nobody else has access now.
    unsafe { *place = item }
}

#[allow(unsafe_code, reason = "loom's cells give pointers")]
fn read(place: *const u64) -> u64 {
    // SAFETY: loom has checked that nobody writes now.
    unsafe { *place }
}
