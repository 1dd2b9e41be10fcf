//! The decoded values that a worker keeps between tasks: states of jobs, and values that many tasks
//! are handed by one handle. All are read-only, so that no task sees what another did. In the
//! worker's only thread.
//!
//! | a value | is dropped |
//! |---|---|
//! | that the chunk at hand has used | not before the chunk is over |
//! | beside the [`MAX_UNUSED`] that were used last | when a chunk is over that has not used it |
//! | any | when the worker has had nothing to do for a while, and when it ends |

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use procession_sys::named::Identity;

/// The most values that are kept though the chunk before did not use them, for calls that take
/// turns.
const MAX_UNUSED: usize = 3;

/// The key of a cached value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    /// A job's state, by its id.
    State(u64),
    /// A handle's value, by the file behind the handle and the type that the file is read as.
    Handle(Identity, TypeId),
}

/// See the module.
#[derive(Default)]
pub(crate) struct ValueCache {
    /// The one used last is the last.
    values: RefCell<Vec<Cached>>,
    /// Counts the worker's chunks.
    chunk: Cell<u64>,
}

struct Cached {
    key: Key,
    value: Rc<dyn Any>,
    /// The chunk that has used it last.
    used_in: u64,
}

impl ValueCache {
    /// The value, for the chunk at hand.
    pub(crate) fn get(&self, key: Key) -> Option<Rc<dyn Any>> {
        let mut values = self.values.borrow_mut();
        let place = values.iter().rposition(|cached| cached.key == key)?;
        let mut cached = values.remove(place);
        cached.used_in = self.chunk.get();
        let value = cached.value.clone();
        values.push(cached);
        Some(value)
    }

    /// Keeps a value that is not there.
    pub(crate) fn insert(&self, key: Key, value: Rc<dyn Any>) {
        self.values.borrow_mut().push(Cached { key, value, used_in: self.chunk.get() });
    }

    /// Drops what the table of the module says.
    #[inline]
    pub(crate) fn end_chunk(&self) {
        if !self.values.borrow().is_empty() {
            self.drop_unused(MAX_UNUSED);
        }
    }

    /// Drops every value.
    pub(crate) fn clear(&self) {
        self.chunk.set(self.chunk.get() + 1);
        self.drop_unused(0);
    }

    #[cold]
    fn drop_unused(&self, kept: usize) {
        let mut dropped = Vec::new();
        {
            let (mut values, chunk) = (self.values.borrow_mut(), self.chunk.get());
            // All that the chunk has used stand behind the others.
            let unused = values.iter().take_while(|cached| cached.used_in != chunk).count();
            dropped.extend(values.drain(..unused.saturating_sub(kept)));
            self.chunk.set(chunk + 1);
        }
        for cached in dropped {
            // Its drop is a user's code. The panic has been reported; the worker goes on.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(cached)));
        }
    }
}

impl fmt::Debug for ValueCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.values.borrow().iter().map(|cached| cached.key)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn use_in_one_chunk(cache: &ValueCache, states: &[u64]) {
        for state in states {
            if cache.get(Key::State(*state)).is_none() {
                cache.insert(Key::State(*state), Rc::new(*state));
            }
        }
        cache.end_chunk();
    }

    fn kept(cache: &ValueCache) -> Vec<Key> {
        cache.values.borrow().iter().map(|cached| cached.key).collect()
    }

    #[test]
    fn every_value_of_a_chunk_stays_for_the_next() {
        let (cache, states) = (ValueCache::default(), [1, 2, 3, 4, 5, 6]);
        use_in_one_chunk(&cache, &states);
        assert_eq!(kept(&cache), states.map(Key::State));
        let value = cache.get(Key::State(5)).unwrap();
        assert_eq!(value.downcast_ref(), Some(&5_u64));
    }

    #[test]
    fn values_that_were_not_used_go_but_for_the_last_few() {
        let cache = ValueCache::default();
        use_in_one_chunk(&cache, &[1, 2, 3, 4, 5]);
        use_in_one_chunk(&cache, &[2]);
        assert_eq!(kept(&cache), [3, 4, 5, 2].map(Key::State));
        use_in_one_chunk(&cache, &[6]);
        assert_eq!(kept(&cache), [4, 5, 2, 6].map(Key::State));
        use_in_one_chunk(&cache, &[]);
        assert_eq!(kept(&cache), [5, 2, 6].map(Key::State));
        cache.clear();
        assert_eq!(kept(&cache), []);
    }

    #[test]
    fn a_drop_that_panics_harms_nobody() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in a drop");
            }
        }
        let cache = ValueCache::default();
        cache.insert(Key::State(1), Rc::new(Bomb));
        cache.insert(Key::State(2), Rc::new(Bomb));
        cache.clear();
        assert_eq!(kept(&cache), []);
    }
}
