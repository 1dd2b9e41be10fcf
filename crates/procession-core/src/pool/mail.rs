//! The letterbox of the pool's thread: what it is told, and how it is woken. Filled by the
//! supervisor, by whoever finishes a job with callbacks, by `close` and `terminate`.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use super::job::Job;
use crate::child::Child;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Mail {
    contents: Mutex<Contents>,
    /// The contents have changed, or the thread has ended.
    changed: Condvar,
    /// The pool's thread sleeps without a tick, and whoever gives it work must wake it.
    is_dozing: AtomicBool,
    callbacks: AtomicU8,
    /// The pool's thread, once it runs.
    thread: OnceLock<ThreadId>,
}

#[derive(Debug, Default)]
struct Contents {
    deaths: Vec<(usize, Arc<Child>)>,
    /// Finished jobs whose callbacks have not run.
    completed: Vec<Arc<Job>>,
    is_poked: bool,
    thread: Thread,
}

/// The state of the pool's thread.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Thread {
    /// It does not run: the pool is being made.
    #[default]
    NotBegun,
    /// It works, or waits where workers wake whoever takes results.
    Working,
    /// It waits at the letterbox.
    Resting,
    /// It has ended, and so has every worker.
    Ended,
}

/// The state of the pool's callbacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Callbacks {
    /// None has run since it slept last.
    Idle,
    /// One runs.
    Running,
    /// One has run since it slept last, and the next one often follows.
    HaveRun,
}

/// The wait of the pool's thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rest {
    /// Until it is woken, or for so long if there is a limit.
    Doze(Option<Duration>),
    /// Until it is woken, or for so long.
    For(Duration),
}

impl Mail {
    /// Says that the caller's is the pool's thread.
    pub(super) fn begin_thread(&self) {
        let set = self.thread.set(thread::current().id());
        debug_assert!(set.is_ok(), "a pool has one thread");
        self.contents().thread = Thread::Working;
    }

    /// Says that the pool's thread is there, or will be in a moment: whoever waits for the pool's
    /// end waits for it.
    pub(super) fn expect_thread(&self) {
        let mut contents = self.contents();
        if contents.thread == Thread::NotBegun {
            contents.thread = Thread::Working;
        }
    }

    /// Returns whether the calling thread is the pool's. The caller is a callback then, as nothing
    /// else in that thread comes by.
    pub(super) fn is_own_thread(&self) -> bool {
        self.thread.get().is_some_and(|own| *own == thread::current().id())
    }

    /// Says that the pool's thread and all workers have ended.
    pub(super) fn end_thread(&self) {
        self.contents().thread = Thread::Ended;
        self.changed.notify_all();
    }

    /// Returns whether the pool's thread has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.contents().thread == Thread::Ended
    }

    /// Returns whether the pool's thread has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.contents().thread != Thread::NotBegun
    }

    /// Waits until the pool's thread has ended, or for so long. Returns whether it has.
    pub(super) fn wait_for_end(&self, longest: Option<Duration>) -> bool {
        let contents = self.contents();
        let goes_on = |contents: &mut Contents| contents.thread != Thread::Ended;
        let contents = match longest {
            None => self.changed.wait_while(contents, goes_on).unwrap_or_else(PoisonError::into_inner),
            Some(longest) => {
                let waited = self.changed.wait_timeout_while(contents, longest, goes_on);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        contents.thread == Thread::Ended
    }

    pub(super) fn post_death(&self, slot: usize, child: Arc<Child>) {
        self.contents().deaths.push((slot, child));
        self.changed.notify_all();
    }

    pub(super) fn take_deaths(&self) -> Vec<(usize, Arc<Child>)> {
        mem::take(&mut self.contents().deaths)
    }

    pub(super) fn has_deaths(&self) -> bool {
        !self.contents().deaths.is_empty()
    }

    pub(super) fn post_completed(&self, job: Arc<Job>) {
        self.contents().completed.push(job);
    }

    pub(super) fn take_completed(&self) -> Vec<Arc<Job>> {
        mem::take(&mut self.contents().completed)
    }

    /// Has the pool's thread look, now or before it rests again.
    pub(super) fn poke(&self) {
        self.contents().is_poked = true;
        self.changed.notify_all();
    }

    /// Returns whether the pool's thread has been poked or told of a death.
    pub(super) fn has_news(&self) -> bool {
        self.contents().has_news()
    }

    /// Takes the poke, if there was one. Returns whether the pool's thread has something to do.
    pub(super) fn take_poke(&self) -> bool {
        let mut contents = self.contents();
        mem::take(&mut contents.is_poked) || !contents.deaths.is_empty()
    }

    /// Returns whether the pool's thread waits here, where no worker wakes it.
    pub(super) fn is_resting(&self) -> bool {
        self.contents().thread == Thread::Resting
    }

    /// Returns whether whoever gives the pool's thread work must wake it.
    pub(super) fn is_dozing(&self) -> bool {
        self.is_dozing.load(Ordering::SeqCst)
    }

    /// In the pool's thread: waits for news. One that dozes looks at `has_work` once it can be
    /// woken: work that came before has woken nobody. Takes the poke, and returns whether there was
    /// news.
    pub(super) fn rest(&self, rest: Rest, has_work: impl Fn() -> bool) -> bool {
        let mut contents = self.contents();
        if contents.has_news() {
            contents.is_poked = false;
            return true;
        }
        contents.thread = Thread::Resting;
        match rest {
            Rest::Doze(longest) => {
                self.is_dozing.store(true, Ordering::SeqCst);
                let end = longest.and_then(|longest| Instant::now().checked_add(longest));
                while !contents.has_news() && !has_work() {
                    let Some(end) = end else {
                        contents = self.changed.wait(contents).unwrap_or_else(PoisonError::into_inner);
                        continue;
                    };
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    contents = self.changed.wait_timeout(contents, left).unwrap_or_else(PoisonError::into_inner).0;
                }
                self.is_dozing.store(false, Ordering::SeqCst);
            }
            Rest::For(longest) => {
                contents = self.changed.wait_timeout(contents, longest).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        contents.thread = Thread::Working;
        let had_news = contents.has_news();
        contents.is_poked = false;
        had_news || matches!(rest, Rest::Doze(_))
    }

    /// Runs a callback, during which a fork is refused.
    pub(super) fn as_callback<R>(&self, callback: impl FnOnce() -> R) -> R {
        self.callbacks.store(Callbacks::Running as u8, Ordering::SeqCst);
        let result = callback();
        self.callbacks.store(Callbacks::HaveRun as u8, Ordering::SeqCst);
        result
    }

    /// Returns whether a callback runs.
    pub(super) fn is_calling_back(&self) -> bool {
        self.callbacks.load(Ordering::SeqCst) == Callbacks::Running as u8
    }

    /// In the pool's thread, before it sleeps: whether a callback has run since it slept last.
    pub(super) fn has_called_back(&self) -> bool {
        self.callbacks.swap(Callbacks::Idle as u8, Ordering::SeqCst) == Callbacks::HaveRun as u8
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn has_news(&self) -> bool {
        self.is_poked || !self.deaths.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_poke_before_the_rest_ends_it_at_once_and_is_taken() {
        let mail = Mail::default();
        mail.poke();
        assert!(mail.rest(Rest::For(LONG), || false));
        assert!(!mail.has_news() && !mail.rest(Rest::For(Duration::ZERO), || false));
    }

    #[test]
    fn a_thread_that_dozes_sees_work_that_woke_nobody() {
        let mail = Mail::default();
        assert!(mail.rest(Rest::Doze(None), || true));
        assert!(!mail.is_dozing() && !mail.is_resting());
    }

    #[test]
    fn a_thread_that_dozes_wakes_at_its_limit() {
        let mail = Mail::default();
        assert!(mail.rest(Rest::Doze(Some(Duration::ZERO)), || false));
        assert!(!mail.is_dozing() && !mail.is_resting());
    }

    #[test]
    fn whoever_waits_for_the_end_is_told() {
        let mail = Mail::default();
        assert!(!mail.has_begun());
        mail.expect_thread();
        assert!(mail.has_begun() && !mail.wait_for_end(Some(Duration::ZERO)));
        thread::scope(|scope| {
            scope.spawn(|| mail.end_thread());
            assert!(mail.wait_for_end(Some(LONG)));
        });
    }

    #[test]
    fn a_callback_is_seen_while_it_runs_and_once_after() {
        let mail = Mail::default();
        assert!(mail.as_callback(|| mail.is_calling_back()));
        assert!(!mail.is_calling_back());
        assert_eq!([(); 2].map(|()| mail.has_called_back()), [true, false]);
    }
}
