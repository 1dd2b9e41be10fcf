//! When a process may be forked: the caller's promise about its threads, and why a fork is refused.
//! Used in the parent only. The platforms share it; users see it as part of [`crate::fork`].

// An unsafe constructor, by which the caller promises that other threads do no harm.
#![allow(unsafe_code)]

use std::{fmt, io};

/// The caller's promise that the other threads alive at a fork do no harm.
///
/// A forked child has one thread, and a copy of whatever the others were doing: a lock that one of
/// them held stays locked in the child for ever.
// Not zero-sized, so that `Stateless` cannot conjure one.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code)]
pub struct ThreadsAtFork(u8);

impl ThreadsAtFork {
    /// Promises that the threads of this process do no harm.
    ///
    /// # Safety
    ///
    /// As POSIX has it: until the child leaves or executes a program, it may do only what is
    /// async-signal-safe with respect to the state that other threads of this process may be
    /// changing when the fork happens. In particular it must not wait for a lock that one of them
    /// may hold, nor rely on data which such a lock protects. Memory allocation and standard output
    /// are safe: glibc's fork hands over the allocator, [`crate::fork::fork`] the lock of standard
    /// output.
    pub unsafe fn assume_safe() -> Self {
        ThreadsAtFork(1)
    }
}

/// Why there is no child.
#[derive(Debug)]
pub enum ForkError {
    /// Other threads are running, and the caller has not promised that they do no harm.
    Threads {
        /// How many threads, besides the caller and the engine's own.
        others: usize,
    },
    /// The system refused.
    Os(io::Error),
}

impl fmt::Display for ForkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForkError::Threads { others } => write!(
                f,
                "cannot fork process {}: it has {others} other thread{} running, and a lock that one of them holds would stay \
                 locked in the child for ever; join them first, use the spawn or forkserver start method, or vouch for \
                 them with ThreadsAtFork",
                std::process::id(),
                if *others == 1 { "" } else { "s" },
            ),
            ForkError::Os(error) => write!(f, "cannot fork process {}: {error}", std::process::id()),
        }
    }
}

impl std::error::Error for ForkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ForkError::Threads { .. } => None,
            ForkError::Os(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_count_and_the_ways_out() {
        let one = ForkError::Threads { others: 1 }.to_string();
        assert!(one.contains("1 other thread running") && one.contains("spawn or forkserver"), "{one}");
        let three = ForkError::Threads { others: 3 }.to_string();
        assert!(three.contains("3 other threads running"), "{three}");
    }
}
