//! Whose turn it is: something that one thread at a time has, for as long as it likes, while others
//! wait with a deadline. A connection's receiving end needs it: one thread sleeps in the kernel
//! with it, another asks with a timeout.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A mutex that can be waited for until a deadline.
#[derive(Debug)]
pub(super) struct Turn<T> {
    place: Mutex<Place<T>>,
    returned: Condvar,
}

#[derive(Debug)]
struct Place<T> {
    /// `None` while a thread has it.
    item: Option<T>,
    /// Threads that want to be told of its return.
    waiting: usize,
}

impl<T> Turn<T> {
    pub(super) fn new(item: T) -> Turn<T> {
        Turn { place: Mutex::new(Place { item: Some(item), waiting: 0 }), returned: Condvar::new() }
    }

    /// Takes it; `None` once the deadline has passed.
    pub(super) fn take(&self, deadline: Option<Instant>) -> Option<Taken<'_, T>> {
        let mut place = self.lock();
        loop {
            if let Some(item) = place.item.take() {
                return Some(Taken { turn: self, item: Some(item) });
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            place.waiting += 1;
            place = match left {
                Some(left) => self.returned.wait_timeout(place, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.returned.wait(place).unwrap_or_else(PoisonError::into_inner),
            };
            place.waiting -= 1;
        }
    }

    /// Takes it if nobody has it.
    pub(super) fn try_take(&self) -> Option<Taken<'_, T>> {
        let item = self.lock().item.take()?;
        Some(Taken { turn: self, item: Some(item) })
    }

    /// Returns the item when no thread can have it any more.
    pub(super) fn into_inner(self) -> Option<T> {
        self.place.into_inner().unwrap_or_else(PoisonError::into_inner).item
    }

    fn lock(&self) -> MutexGuard<'_, Place<T>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Taken<'a, T> {
    turn: &'a Turn<T>,
    item: Option<T>,
}

impl<T> Deref for Taken<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.item.as_ref().expect("it is here until the drop")
    }
}

impl<T> DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.item.as_mut().expect("it is here until the drop")
    }
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        let mut place = self.turn.lock();
        place.item = self.item.take();
        // Nobody waits as a rule, and waking nobody is a system call all the same.
        if place.waiting > 0 {
            self.turn.returned.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_has_it_and_others_wait_or_give_up() {
        let turn = Turn::new(0u64);
        let taken = turn.take(None).unwrap();
        assert!(turn.try_take().is_none());
        assert!(turn.take(Some(Instant::now() + Duration::from_millis(5))).is_none());
        drop(taken);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| *turn.take(None).unwrap() += 1));
            }
        });
        assert_eq!(turn.into_inner(), Some(4000));
    }
}
