//! Who has taken items from a joinable queue and not said that they are done. Used under the lock
//! of the queue's head, by consumers and by who joins.
//!
//! An item is unfinished while it is queued, which the ring's cursors say, or while a live process
//! has it, which is counted here, by process: what a dead process had is lost with it, and nobody
//! waits for it.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | **take** 1. one more for this process | a count of a dead process, which is worth nothing; the item is still queued |
//! | 2. the ring's commit | the same; the item is lost with the process |
//! | **done**: one less, **commit** | an item that is done |
//! | **a new taker** 1. an entry of nobody, or of a dead process without items, its count := 0 | an entry of nobody |
//! | 2. its process, **commit** | a taker without items |
//! | **burial** of a dead one: its process := 0, **commit** | an entry of nobody |
//!
//! Who says *done* for an item that another process took has a count below zero, which makes up for
//! the other's. It counts after its death too.

use std::io;

use procession_sys::identity::Identity;

use crate::primitive::{AtomicU64, Ordering};
use crate::segment::Words;

/// The most processes that take from one queue.
const MAX_CONSUMERS: usize = 1024;

#[derive(Debug)]
#[repr(C)]
pub(crate) struct ConsumerTable {
    /// Entries that have ever been used: the first so many.
    in_use: AtomicU64,
    consumers: [Consumer; MAX_CONSUMERS],
}

#[derive(Debug)]
#[repr(C)]
struct Consumer {
    /// [`Identity`]; 0 is nobody.
    process: AtomicU64,
    /// Items taken less items done, in two's complement.
    unfinished: AtomicU64,
}

// SAFETY: repr(C), nothing but atomics; zero is a table of nobody.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for ConsumerTable {}

impl ConsumerTable {
    /// Counts `change` items of this process.
    ///
    /// # Errors
    ///
    /// If too many others take.
    pub(crate) fn count(&self, change: i64) -> io::Result<()> {
        let own = self.own()?;
        let now = own.unfinished.load(Ordering::Relaxed).wrapping_add_signed(change);
        own.unfinished.store(now, Ordering::Release);
        Ok(())
    }

    /// Items that processes have and are not done with.
    pub(crate) fn unfinished(&self) -> u64 {
        let consumers = self.in_use().iter().filter(|consumer| consumer.process.load(Ordering::Acquire) != 0);
        consumers.map(Consumer::count).sum::<i64>().max(0).unsigned_abs()
    }

    /// Strikes off what processes had that are dead.
    pub(crate) fn remove_dead(&self) {
        for consumer in self.in_use().iter().filter(|consumer| consumer.count() > 0 && consumer.has_ended()) {
            consumer.process.store(0, Ordering::Release);
        }
    }

    fn own(&self) -> io::Result<&Consumer> {
        let own = Identity::of_self().to_word();
        let in_use = self.in_use();
        if let Some(consumer) = in_use.iter().find(|consumer| consumer.process.load(Ordering::Relaxed) == own) {
            return Ok(consumer);
        }
        let vacant = |consumer: &&Consumer| consumer.process.load(Ordering::Relaxed) == 0;
        let consumer = match in_use.iter().find(vacant) {
            Some(consumer) => consumer,
            None if in_use.len() < MAX_CONSUMERS => {
                self.in_use.store(in_use.len() as u64 + 1, Ordering::Release);
                &self.consumers[in_use.len()]
            }
            None => {
                in_use.iter().find(|consumer| consumer.count() >= 0 && consumer.has_ended()).ok_or_else(too_many)?
            }
        };
        consumer.process.store(0, Ordering::Release);
        consumer.unfinished.store(0, Ordering::Release);
        consumer.process.store(own, Ordering::Release);
        Ok(consumer)
    }

    fn in_use(&self) -> &[Consumer] {
        &self.consumers[..MAX_CONSUMERS.min(self.in_use.load(Ordering::Acquire) as usize)]
    }
}

impl Consumer {
    fn count(&self) -> i64 {
        self.unfinished.load(Ordering::Acquire).cast_signed()
    }

    fn has_ended(&self) -> bool {
        Identity::from_word(self.process.load(Ordering::Relaxed)).is_some_and(Identity::has_ended)
    }
}

fn too_many() -> io::Error {
    let text = format!("{MAX_CONSUMERS} other processes take from this queue, the most that one has room for");
    io::Error::new(io::ErrorKind::QuotaExceeded, text)
}
