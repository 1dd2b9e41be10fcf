//! The one error type. It is opaque, so that it can learn to say more; ask it with its predicates.

use std::fmt;
use std::sync::Arc;

use procession_core::Error as Engine;
use procession_core::ExitStatus;
use procession_core::outcome::{Loss, tag};

use crate::message::{self, Panic};

/// procession's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, to which process or task, and what to do about it.
///
/// There is one error type because its causes travel together: any wait for a result can meet a
/// panic, a lost worker, a value that does not decode or a deadline. Ask which it was with the
/// predicates; show it with `Display`, which says everything in one line (a panic's backtrace is
/// asked for by [`panic_backtrace`](Error::panic_backtrace)).
///
/// ```
/// # fn task(_: u64) -> u64 { panic!("odd") }
/// # fn main() -> procession::Result<()> {
/// procession::init();
/// let pool = procession::Context::fork().pool(1)?;
/// let error = pool.apply(task, 3).unwrap_err();
/// assert!(error.is_panic());
/// assert_eq!(error.panic_message(), Some("odd"));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Engine(Arc<Engine>),
    Panic { whose: Whose, panic: Panic },
    Lost { whose: Whose, loss: Loss },
    TimedOut { whose: Whose, loss: Loss },
    Undecodable { whose: Whose, what: &'static str, why: String },
    Unencodable { whose: Whose, what: &'static str, why: String },
}

/// Who failed: a process, or one task of a pool.
#[derive(Clone, Debug)]
pub(crate) enum Whose {
    Process {
        name: String,
        pid: u32,
    },
    Task {
        /// Its index in the call.
        index: usize,
        text: String,
    },
    /// A pool's initializer.
    Initializer,
    /// A callback on a result of a pool's.
    Callback,
    /// Before there was either.
    Call(&'static str),
}

impl Whose {
    pub(crate) fn task(function: &str, index: usize) -> Whose {
        Whose::Task { index, text: format!("task {index} of {function}") }
    }
}

impl Error {
    /// The time given to a call ran out. Nothing is lost: the process or task goes on, and can be
    /// asked again.
    pub fn is_timeout(&self) -> bool {
        matches!(self.engine(), Some(Engine::Timeout { .. }))
    }

    /// The worker that ran this task died: see [`pid`](Error::pid), [`signal`](Error::signal),
    /// [`exit_code`](Error::exit_code) and [`task`](Error::task).
    pub fn is_worker_lost(&self) -> bool {
        matches!(*self.0, Kind::Lost { whose: Whose::Task { .. }, .. })
    }

    /// A [`Process`](crate::Process) ended without a result: killed, aborted, or by `exit`.
    pub fn is_process_lost(&self) -> bool {
        matches!(*self.0, Kind::Lost { whose: Whose::Process { .. }, .. })
    }

    /// The task ran longer than [`Pool::timeout`](crate::Pool::timeout) gave it; its worker was
    /// ended and replaced.
    pub fn is_task_timeout(&self) -> bool {
        matches!(*self.0, Kind::TimedOut { .. })
    }

    /// The task was [cancelled](crate::AsyncResult::cancel).
    pub fn is_cancelled(&self) -> bool {
        matches!(self.engine(), Some(Engine::Cancelled))
    }

    /// The function panicked, or a [callback](crate::AsyncResult::on_complete) on its result; the
    /// text says which.
    pub fn is_panic(&self) -> bool {
        matches!(*self.0, Kind::Panic { .. })
    }

    /// The pool is closed, or was terminated before the task was done; or the queue is closed; or
    /// the other end of the connection is, or its process ended.
    pub fn is_closed(&self) -> bool {
        matches!(
            self.engine(),
            Some(Engine::Closed { .. } | Engine::Terminated | Engine::QueueClosed | Engine::ConnectionClosed)
        )
    }

    /// The pool can run no more tasks: it has no worker left and could start no other, or a task
    /// has overwritten its shared memory. The error's text says why, as do the other predicates.
    pub fn is_broken(&self) -> bool {
        match &*self.0 {
            Kind::Engine(error) => matches!(**error, Engine::Broken(_)),
            Kind::Panic { whose, .. } | Kind::Undecodable { whose, .. } | Kind::Unencodable { whose, .. } => {
                matches!(whose, Whose::Initializer)
            }
            Kind::Lost { .. } | Kind::TimedOut { .. } => false,
        }
    }

    /// `init()` was not called, here or in the program that was executed, or not in its main
    /// thread.
    pub fn is_not_initialized(&self) -> bool {
        matches!(
            self.engine(),
            Some(
                Engine::NotInitialized { .. }
                    | Engine::NotReached { .. }
                    | Engine::Misplaced { .. }
                    | Engine::NoTracker
            )
        )
    }

    /// The child is another build of this program.
    pub fn is_other_build(&self) -> bool {
        matches!(self.engine(), Some(Engine::OtherBuild { .. }))
    }

    /// A fork was refused because other threads are alive.
    pub fn is_other_threads(&self) -> bool {
        matches!(self.engine(), Some(Engine::OtherThreads { .. }))
    }

    /// The object belongs to the process that this one was forked from.
    pub fn is_inherited(&self) -> bool {
        matches!(self.engine(), Some(Engine::Inherited { .. }))
    }

    /// The arguments make no sense, or the object cannot do this now; the text says what to do
    /// instead.
    pub fn is_invalid(&self) -> bool {
        matches!(self.engine(), Some(Engine::Invalid(_)))
    }

    /// An argument or result was not understood where it arrived.
    pub fn is_decode(&self) -> bool {
        matches!(*self.0, Kind::Undecodable { .. })
    }

    /// An argument or result could not be encoded where it was made.
    pub fn is_encode(&self) -> bool {
        matches!(*self.0, Kind::Unencodable { .. })
    }

    /// Who held the lock died holding it: see [`LockError`](crate::sync::LockError), which can
    /// recover it.
    pub fn is_owner_died(&self) -> bool {
        matches!(self.engine(), Some(Engine::OwnerDied { .. }))
    }

    /// The [`Barrier`](crate::sync::Barrier) is broken, and was not made whole by a reset.
    pub fn is_barrier_broken(&self) -> bool {
        matches!(self.engine(), Some(Engine::BarrierBroken))
    }

    /// Other [`SharedMemory`](crate::SharedMemory) has this name already.
    pub fn is_already_exists(&self) -> bool {
        matches!(self.engine(), Some(Engine::NameTaken { .. }))
    }

    /// No [`SharedMemory`](crate::SharedMemory) has this name, or not this one any more.
    pub fn is_not_found(&self) -> bool {
        matches!(self.engine(), Some(Engine::NameAbsent { .. }))
    }

    /// What came over a connection was cut off, longer than its limit, or no frame. The connection
    /// is of no use any more.
    pub fn is_malformed(&self) -> bool {
        matches!(self.engine(), Some(Engine::Malformed(_)))
    }

    /// The two ends of a connection did not prove to each other that they know the same key.
    pub fn is_authentication(&self) -> bool {
        matches!(self.engine(), Some(Engine::Authentication(_)))
    }

    /// The process that failed, or the worker that was lost.
    pub fn pid(&self) -> Option<u32> {
        match &*self.0 {
            Kind::Lost { loss, .. } | Kind::TimedOut { loss, .. } => Some(loss.pid),
            Kind::Panic { whose, .. } | Kind::Undecodable { whose, .. } | Kind::Unencodable { whose, .. } => {
                match whose {
                    Whose::Process { pid, .. } => Some(*pid),
                    Whose::Task { .. } | Whose::Initializer | Whose::Callback | Whose::Call(_) => None,
                }
            }
            Kind::Engine(_) => match self.engine()? {
                Engine::NotReached { pid, .. }
                | Engine::Misplaced { pid, .. }
                | Engine::WorkerFailed { pid, .. }
                | Engine::OtherBuild { pid, .. }
                | Engine::StatusLost { pid }
                | Engine::ForkServerLost { pid, .. }
                | Engine::TrackerLost { pid, .. } => Some(*pid),
                _ => None,
            },
        }
    }

    /// The exit code of what was lost; negative: minus the signal that killed it, as in
    /// `multiprocessing`.
    pub fn exit_code(&self) -> Option<i32> {
        match &*self.0 {
            Kind::Lost { loss, .. } => loss.code,
            _ => None,
        }
    }

    /// The signal that killed what was lost.
    pub fn signal(&self) -> Option<i32> {
        self.exit_code().filter(|code| *code < 0).map(|code| -code)
    }

    /// Whether the kernel's OOM killer ended the worker that was lost, for want of memory. `None`:
    /// no worker was lost, or it cannot be known, where no control group of this process counts
    /// such deaths.
    pub fn is_oom_kill(&self) -> Option<bool> {
        match &*self.0 {
            Kind::Lost { loss, .. } => loss.by_oom_killer,
            _ => None,
        }
    }

    /// Which task failed: its index in the call and its function.
    pub fn task(&self) -> Option<&str> {
        match self.whose()? {
            Whose::Task { text, .. } => Some(text),
            Whose::Process { .. } | Whose::Initializer | Whose::Callback | Whose::Call(_) => None,
        }
    }

    /// Returns the index of the item whose task failed, counted over the whole call.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let checked = |x: u64| assert!(x != 7, "seven");
    /// let errors = pool.imap(checked, 0..10).filter_map(Result::err);
    /// assert_eq!(errors.map(|error| error.index()).collect::<Vec<_>>(), [Some(7)]);
    /// # Ok(()) }
    /// ```
    pub fn index(&self) -> Option<usize> {
        match self.whose()? {
            Whose::Task { index, .. } => Some(*index),
            Whose::Process { .. } | Whose::Initializer | Whose::Callback | Whose::Call(_) => None,
        }
    }

    /// What the panic said.
    pub fn panic_message(&self) -> Option<&str> {
        self.panic().map(|panic| panic.message.as_str())
    }

    /// Where the panic happened: file, line, column.
    pub fn panic_location(&self) -> Option<&str> {
        self.panic().map(|panic| panic.location.as_str())
    }

    /// The stack of the panic, in the process where it happened.
    pub fn panic_backtrace(&self) -> Option<&str> {
        self.panic().map(|panic| panic.backtrace.as_str())
    }

    /// The error that a tag other than a value stands for.
    pub(crate) fn from_outcome(whose: Whose, outcome: u32, payload: &[u8]) -> Error {
        let why = || String::from_utf8_lossy(payload).into_owned();
        let undecodable = |what, why: String| Kind::Undecodable { whose: whose.clone(), what, why };
        Error::from_kind(match outcome {
            tag::PANIC => match message::decode(payload) {
                Ok(panic) => Kind::Panic { whose, panic },
                Err(why) => undecodable("panic", why),
            },
            tag::LOST => match Loss::decode(payload) {
                Some(loss) => Kind::Lost { whose, loss },
                None => undecodable("death", "it is cut short".into()),
            },
            tag::TIMED_OUT => match Loss::decode(payload) {
                Some(loss) => Kind::TimedOut { whose, loss },
                None => undecodable("death", "it is cut short".into()),
            },
            tag::UNDECODABLE | tag::NO_MEMORY => undecodable("argument", why()),
            tag::UNENCODABLE => Kind::Unencodable { whose, what: "result", why: why() },
            other => undecodable("result", format!("its tag {other} is unknown")),
        })
    }

    pub(crate) fn process_lost(name: &str, pid: u32, code: Option<i32>) -> Error {
        let whose = Whose::Process { name: name.to_owned(), pid };
        Error::from_kind(Kind::Lost { whose, loss: Loss { pid, code, by_oom_killer: None } })
    }

    pub(crate) fn undecodable(whose: Whose, what: &'static str, why: String) -> Error {
        Error::from_kind(Kind::Undecodable { whose, what, why })
    }

    pub(crate) fn unencodable(what: &'static str, call: &'static str, why: String) -> Error {
        Error::from_kind(Kind::Unencodable { whose: Whose::Call(call), what, why })
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Error {
        Engine::Invalid(text.into()).into()
    }

    pub(crate) fn timeout(what: &'static str) -> Error {
        Engine::Timeout { what }.into()
    }

    fn from_kind(kind: Kind) -> Error {
        Error(Arc::new(kind))
    }

    /// The engine's error; of a broken pool, what broke it.
    fn engine(&self) -> Option<&Engine> {
        let Kind::Engine(error) = &*self.0 else { return None };
        let mut error = &**error;
        while let Engine::Broken(cause) = error {
            error = cause;
        }
        Some(error)
    }

    fn whose(&self) -> Option<&Whose> {
        match &*self.0 {
            Kind::Panic { whose, .. }
            | Kind::Lost { whose, .. }
            | Kind::TimedOut { whose, .. }
            | Kind::Undecodable { whose, .. }
            | Kind::Unencodable { whose, .. } => Some(whose),
            Kind::Engine(_) => None,
        }
    }

    fn panic(&self) -> Option<&Panic> {
        match &*self.0 {
            Kind::Panic { panic, .. } => Some(panic),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Engine(error) => error.fmt(f),
            Kind::Panic { whose, panic } => {
                write!(f, "{whose} panicked: {}", panic.message)?;
                if panic.location.is_empty() { Ok(()) } else { write!(f, " (at {})", panic.location) }
            }
            Kind::Lost { whose: Whose::Task { text: task, .. }, loss } => {
                write!(f, "{task} was lost: its worker, process {}, ended with {}", loss.pid, Ending(loss.code))?;
                match loss.by_oom_killer {
                    Some(true) => f.write_str(
                        " by the kernel's OOM killer: memory ran out. Run fewer workers, or less at once in each \
                         (max_memory_per_worker() replaces those that grow)",
                    ),
                    _ => Ok(()),
                }
            }
            Kind::Lost { whose, loss } => write!(f, "{whose} ended without a result, with {}", Ending(loss.code)),
            Kind::TimedOut { whose, loss } => {
                write!(f, "{whose} ran out of its time, and its worker, process {}, was ended", loss.pid)
            }
            Kind::Undecodable { whose, what, why } => {
                write!(
                    f,
                    "the {what} of {whose} does not decode where it arrived: {why}. Does its type read back what it writes?"
                )
            }
            Kind::Unencodable { whose, what, why } => write!(f, "the {what} of {whose} does not encode: {why}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What `fn main() -> Result` and `unwrap` show: the sentence, then the remote stack where
        // there is one.
        write!(f, "{self}")?;
        match self.panic_backtrace() {
            Some(backtrace) if !backtrace.is_empty() => write!(f, "\nremote backtrace:\n{backtrace}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.0 {
            Kind::Engine(error) => error.source(),
            _ => None,
        }
    }
}

impl From<Engine> for Error {
    fn from(error: Engine) -> Self {
        Arc::new(error).into()
    }
}

impl From<Arc<Engine>> for Error {
    fn from(error: Arc<Engine>) -> Self {
        if let Engine::Callback { payload } = &*error {
            return Error::from_outcome(Whose::Callback, tag::PANIC, payload);
        }
        if let Engine::Broken(cause) = &*error
            && let Engine::Initializer { tag, payload } = &**cause
        {
            return Error::from_outcome(Whose::Initializer, *tag, payload);
        }
        Error::from_kind(Kind::Engine(error))
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whose::Process { name, pid } => write!(f, "process {pid} ({name})"),
            Whose::Task { text, .. } => f.write_str(text),
            Whose::Initializer => f.write_str("the pool's initializer"),
            Whose::Callback => f.write_str("a callback on the result"),
            Whose::Call(function) => write!(f, "a call of {function}"),
        }
    }
}

struct Ending(Option<i32>);

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(code) if code < 0 => ExitStatus::signaled(-code).fmt(f),
            Some(code) => ExitStatus::exited(code).fmt(f),
            None => f.write_str("an unknown status (another wait in this program took it)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_for_want_of_memory_is_said_and_others_are_not() {
        let lost = |by_oom_killer| {
            let loss = Loss { pid: 7, code: Some(-9), by_oom_killer };
            Error::from_kind(Kind::Lost { whose: Whose::task("work", 3), loss })
        };
        let killed = lost(Some(true));
        assert!(killed.is_worker_lost() && killed.is_oom_kill() == Some(true));
        assert!(killed.to_string().contains("OOM killer") && killed.to_string().contains("memory"), "{killed}");
        for other in [Some(false), None] {
            let error = lost(other);
            assert_eq!(error.is_oom_kill(), other);
            assert!(!error.to_string().contains("OOM"), "{error}");
        }
        assert_eq!(Error::invalid("no").is_oom_kill(), None);
    }
}
