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
    Threads(OtherThreads),
    /// The system refused.
    Os(io::Error),
}

/// The threads that stand in the way of a fork.
#[derive(Clone, Debug)]
pub struct OtherThreads {
    /// The number of threads besides the caller and the engine's own.
    pub others: usize,
    /// Those of them that were found when they were listed, just after they were counted.
    pub threads: Vec<OtherThread>,
    /// True if the caller is the main thread.
    pub is_main: bool,
}

/// A thread as `/proc` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OtherThread {
    /// The kernel's number for it.
    pub id: i32,
    /// The first 15 bytes of its name. The main thread has the program's, unless it was given one.
    pub name: String,
}

impl OtherThreads {
    const MAX_SHOWN: usize = 8;
}

impl fmt::Display for OtherThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OtherThreads { others, threads, is_main } = self;
        write!(f, "{others} other thread(s) run in this process")?;
        for (number, OtherThread { id, name }) in threads.iter().take(Self::MAX_SHOWN).enumerate() {
            write!(f, "{}{name:?} (tid {id})", if number == 0 { ": " } else { ", " })?;
        }
        if threads.len() > Self::MAX_SHOWN {
            f.write_str(", ...")?;
        }
        f.write_str("; a lock that one of them holds would stay locked in the child for ever")?;
        if !is_main {
            f.write_str(
                ". The fork was asked for outside of the main thread. A #[test] is always run beside it: there only spawn \
                 and forkserver work, unless the test has a main() of its own (`harness = false`)",
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for ForkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForkError::Threads(threads) => write!(f, "cannot fork process {}: {threads}", std::process::id()),
            ForkError::Os(error) => write!(f, "cannot fork process {}: {error}", std::process::id()),
        }
    }
}

impl std::error::Error for ForkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ForkError::Threads(_) => None,
            ForkError::Os(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(others: usize, is_main: bool) -> String {
        let threads = (0..others).map(|id| OtherThread { id: id as i32 + 10, name: format!("thread {id}") }).collect();
        ForkError::Threads(OtherThreads { others, threads, is_main }).to_string()
    }

    #[test]
    fn a_refusal_names_the_threads() {
        let two = refusal(2, true);
        assert!(
            two.contains(r#"2 other thread(s) run in this process: "thread 0" (tid 10), "thread 1" (tid 11); "#),
            "{two}"
        );
        assert!(!two.contains("main thread"), "{two}");
        let many = refusal(100, true);
        assert!(many.contains(r#""thread 7" (tid 17), ...; "#) && !many.contains("thread 8"), "{many}");
    }

    #[test]
    fn a_refusal_outside_of_the_main_thread_says_what_tests_do() {
        let one = refusal(1, false);
        assert!(one.contains("#[test]") && one.contains("harness = false"), "{one}");
    }
}
