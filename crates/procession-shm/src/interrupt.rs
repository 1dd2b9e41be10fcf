//! Waits that a signal may end. Python runs signal handlers between its own instructions, so it
//! must get a chance to run them while a thread sleeps here, and may then want the wait to end. The
//! face asks for that in a scope around the wait, for the thread that waits. Outside of such a
//! scope, waits go on.

use std::cell::Cell;
use std::time::Instant;

/// Called after each sleep that has not brought what the thread waits for, which is at once when a
/// signal has come. `true` ends the wait.
type Ask = fn() -> bool;

#[derive(Clone, Copy)]
struct Scope {
    ask: Ask,
    is_over: bool,
}

thread_local! {
    static SCOPE: Cell<Option<Scope>> = const { Cell::new(None) };
}

/// Runs `wait`, whose sleeps call `ask` to learn whether to go on. Once `ask` has returned `true`,
/// every wait in the scope ends as if its deadline had come.
pub fn interruptible<R>(ask: fn() -> bool, wait: impl FnOnce() -> R) -> R {
    /// Puts the outer scope back, whether `wait` returns or unwinds.
    struct Restore(Option<Scope>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SCOPE.set(self.0);
        }
    }
    let _restore = Restore(SCOPE.replace(Some(Scope { ask, is_over: false })));
    wait()
}

/// Returns whether a signal may end this thread's waits.
pub fn is_interruptible() -> bool {
    SCOPE.get().is_some()
}

/// Asks, after a sleep, whether the wait must end.
pub fn ask() -> bool {
    let Some(Scope { ask, is_over }) = SCOPE.get() else { return false };
    // The face's code may wait itself, in a scope of its own.
    let is_over = is_over || ask();
    if is_over {
        end();
    }
    is_over
}

/// Ends this thread's waits in the scope, as an answer of `true` does.
pub fn end() {
    SCOPE.set(SCOPE.get().map(|scope| Scope { is_over: true, ..scope }));
}

/// Returns whether this thread's wait has been ended.
pub fn is_over() -> bool {
    SCOPE.get().is_some_and(|scope| scope.is_over)
}

/// Returns whether this thread's wait must end without success: it was ended, or its time is out.
pub fn is_over_by(deadline: Option<Instant>) -> bool {
    is_over() || deadline.is_some_and(|deadline| deadline <= Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static ASKED: Cell<u32> = const { Cell::new(0) };
    }

    #[test]
    fn nothing_is_asked_outside_of_a_scope() {
        assert!(!ask() && !is_over() && !is_interruptible());
    }

    #[test]
    fn once_over_a_scope_stays_over_and_the_one_around_it_does_not() {
        let second = || ASKED.replace(ASKED.get() + 1) == 1;
        interruptible(second, || {
            assert!(!ask());
            interruptible(|| true, || assert!(ask() && is_over()));
            assert!(!is_over());
            assert!(ask() && is_over() && ask());
        });
        assert_eq!(ASKED.get(), 2);
        assert!(!is_over());
    }
}
