//! The one error type. It is opaque, so that it can learn to say more; ask it with its predicates.

mod details;
mod predicates;

use std::fmt;
use std::sync::Arc;

use procession_core::Error as Engine;
use procession_core::ExitStatus;
use procession_core::confinement::Limit;
use procession_core::outcome::{Loss, tag};
use procession_core::start::ParseStartMethodError;

use crate::failure::Failure;
use crate::message::{self, Panic};

/// procession's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of procession. It says what happened, to which process or task, and what to do about
/// it.
///
/// There is one error type because its causes travel together: any wait for a result can meet a
/// panic, a lost worker, a value that does not decode or a deadline. Ask which it was with the
/// predicates; show it with `Display`, which says everything in one line (a panic's backtrace is
/// asked for by [`panic_backtrace`](Error::panic_backtrace)).
///
/// ```
/// # fn task(_: u64) -> u64 { panic!("odd") }
/// # fn main() -> procession::Result<()> {
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
    Failed { whose: Whose, failure: Failure },
    Lost { whose: Whose, loss: Loss },
    TimedOut { whose: Whose, loss: Loss },
    Undecodable { whose: Whose, what: &'static str, why: String },
    Unencodable { whose: Whose, what: &'static str, why: String },
}

/// The part that failed: a process, or one task of a pool.
#[derive(Clone, Debug)]
pub(crate) enum Whose {
    Process {
        name: String,
        pid: u32,
    },
    Task {
        /// Its index in the call.
        index: usize,
        function: String,
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
        Whose::Task { index, function: function.to_owned(), text: format!("task {index} of {function}") }
    }

    /// So many tasks behind it.
    fn behind(self, offset: usize) -> Whose {
        match self {
            Whose::Task { index, function, .. } if offset > 0 => Whose::task(&function, index + offset),
            other => other,
        }
    }
}

impl Error {
    /// The error that a tag other than a value stands for.
    pub(crate) fn from_outcome(whose: Whose, outcome: u32, payload: &[u8]) -> Error {
        let why = || String::from_utf8_lossy(payload).into_owned();
        let undecodable = |what, why: String| Kind::Undecodable { whose: whose.clone(), what, why };
        Error::from_kind(match outcome {
            tag::PANIC => match message::decode::<Panic>(payload) {
                Ok(panic) => Kind::Panic { whose: whose.behind(panic.offset), panic },
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
            tag::STATE_UNDECODABLE => undecodable("state", why()),
            tag::FAILED => match message::decode(payload) {
                Ok(failure) => Kind::Failed { whose, failure },
                Err(why) => undecodable("error", why),
            },
            tag::UNENCODABLE => Kind::Unencodable { whose, what: "result", why: why() },
            other => undecodable("result", format!("its tag {other} is unknown")),
        })
    }

    pub(crate) fn process_lost(name: &str, pid: u32, code: Option<i32>, limit: Option<Limit>) -> Error {
        let whose = Whose::Process { name: name.to_owned(), pid };
        Error::from_kind(Kind::Lost {
            whose,
            loss: Loss { pid, code, by_oom_killer: None, limit, call: 0, host: None },
        })
    }

    pub(crate) fn undecodable(whose: Whose, what: &'static str, why: String) -> Error {
        Error::from_kind(Kind::Undecodable { whose, what, why })
    }

    /// Of the item at `index` of a call.
    pub(crate) fn unencodable_argument(function: &'static str, index: usize, why: String) -> Error {
        Error::from_kind(Kind::Unencodable { whose: Whose::task(function, index), what: "argument", why })
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
            | Kind::Failed { whose, .. }
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
            Kind::Failed { whose, failure } => {
                write!(f, "{whose} failed: {}", failure.text)?;
                failure.sources().try_for_each(|source| write!(f, ": {source}"))
            }
            Kind::Lost { whose: Whose::Task { text: task, .. }, loss } => {
                write!(f, "{task} was lost: its worker, {}, ended with {}", Placed(loss), Ending(loss.code))?;
                match (loss.limit, loss.by_oom_killer) {
                    (Some(limit), _) => write!(f, "{}", Blamed(limit)),
                    (None, Some(true)) => f.write_str(
                        " by the kernel's OOM killer: memory ran out. Run fewer workers, or less at once in each \
                         (max_memory_per_worker() replaces those that grow)",
                    ),
                    _ => Ok(()),
                }
            }
            Kind::Lost { whose, loss } => {
                write!(f, "{whose} ended without a result, with {}", Ending(loss.code))?;
                loss.limit.map_or(Ok(()), |limit| write!(f, "{}", Blamed(limit)))
            }
            Kind::TimedOut { whose, loss } => {
                write!(f, "{whose} ran out of its time, and its worker, {}, was ended", Placed(loss))
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
        // `fn main() -> Result` and `unwrap` show this text: the sentence, then the remote stack
        // where there is one.
        write!(f, "{self}")?;
        match self.panic_backtrace() {
            Some(backtrace) => write!(f, "\nremote backtrace:\n{backtrace}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.0 {
            Kind::Engine(error) => error.source(),
            Kind::Failed { failure, .. } => failure.source.as_deref().map(|source| source as _),
            _ => None,
        }
    }
}

impl From<Engine> for Error {
    fn from(error: Engine) -> Self {
        Arc::new(error).into()
    }
}

impl From<ParseStartMethodError> for Error {
    fn from(error: ParseStartMethodError) -> Error {
        Engine::from(error).into()
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

/// The limit that was the end of a process.
struct Blamed(Limit);

impl fmt::Display for Blamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            limit @ Limit::AddressSpace(_) => {
                write!(f, ". It was likely refused memory beyond its limit ({limit}): give it more, or less to do")
            }
            Limit::SystemCalls => f.write_str(
                ": it made a system call that its seccomp filter does not allow. Allow it, if you trust what the task does",
            ),
            limit => write!(f, ": it ran into its limit ({limit}). Give it more, or less to do"),
        }
    }
}

/// The process that was lost, and where it was.
struct Placed<'a>(&'a Loss);

impl fmt::Display for Placed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.0.pid)?;
        self.0.host.as_ref().map_or(Ok(()), |host| write!(f, " on {host}"))
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
            let loss = Loss { pid: 7, code: Some(-9), by_oom_killer, limit: None, call: 0, host: None };
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
