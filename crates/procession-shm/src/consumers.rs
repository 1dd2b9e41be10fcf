//! The processes that have taken items from a joinable queue and are not done with them. Used under
//! the lock of the queue's head, by consumers and by `join`.
//!
//! An item is unfinished while it is queued, which the ring's cursors say, or while a live process
//! has it. This table counts the latter for each process. The items of a dead process are lost with
//! it, and nobody waits for them.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | **take** 1. count one more for this process | a count of a dead process, which does not matter; the item is still queued |
//! | 2. the ring's commit | the same; the item is lost with the process |
//! | **done**: count one less, **commit** | an item that is done |
//! | **a new consumer** 1. an entry that is free, or of a dead process without items: its count := 0 | a free entry |
//! | 2. its process, **commit** | a consumer without items |
//! | **removal** of a dead one: its process := 0, **commit** | a free entry |
//!
//! A process that calls `done` for an item of another process has a count below zero, which
//! balances the other's. It counts after the process's death, too.

use std::io;

use procession_sys::identity::Identity;

use crate::primitive::{AtomicU64, Ordering};
use crate::segment::Words;

/// The most processes that take from one queue.
const MAX_CONSUMERS: usize = 1024;

#[derive(Debug)]
#[repr(C)]
pub(crate) struct ConsumerTable {
    /// The number of entries that have ever been used. The used ones are the first.
    in_use: AtomicU64,
    consumers: [Consumer; MAX_CONSUMERS],
}

#[derive(Debug)]
#[repr(C)]
struct Consumer {
    /// [`Identity`]; 0 is a free entry.
    process: AtomicU64,
    /// Items taken less items done, in two's complement.
    unfinished: AtomicU64,
}

// SAFETY: repr(C), nothing but atomics; zero is a table of free entries.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for ConsumerTable {}

impl ConsumerTable {
    /// Counts `change` items for this process.
    ///
    /// # Errors
    ///
    /// If too many other processes take from the queue.
    pub(crate) fn count(&self, change: i64) -> io::Result<()> {
        let own = self.own()?;
        let now = own.unfinished.load(Ordering::Relaxed).wrapping_add_signed(change);
        own.unfinished.store(now, Ordering::Release);
        Ok(())
    }

    /// Returns how many items live processes have and are not done with.
    pub(crate) fn unfinished(&self) -> u64 {
        let consumers = self.in_use().iter().filter(|consumer| consumer.process.load(Ordering::Acquire) != 0);
        consumers.map(Consumer::count).sum::<i64>().max(0).unsigned_abs()
    }

    /// Removes the dead processes that had items.
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
