//! The details of an error: process, limit, task, panic. Asked in any process and thread.

use procession_core::Error as Engine;
use procession_core::confinement::Limit;

use super::{Error, Kind, Whose};

impl Error {
    /// The process that failed, or the worker that was lost.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let mut process = ctx.process(|()| -> () { std::process::abort() }, ()).start()?;
    /// let pid = process.pid();
    /// assert_eq!(process.join().unwrap_err().pid(), Some(pid));
    /// # Ok(()) }
    /// ```
    pub fn pid(&self) -> Option<u32> {
        match &*self.0 {
            Kind::Lost { loss, .. } | Kind::TimedOut { loss, .. } => Some(loss.pid),
            Kind::Panic { whose, .. }
            | Kind::Failed { whose, .. }
            | Kind::Undecodable { whose, .. }
            | Kind::Unencodable { whose, .. } => match whose {
                Whose::Process { pid, .. } => Some(*pid),
                Whose::Task { .. } | Whose::Initializer | Whose::Callback | Whose::Call(_) => None,
            },
            Kind::Engine(_) => match self.engine()? {
                Engine::NotReached { pid, .. }
                | Engine::Misplaced { pid, .. }
                | Engine::WorkerFailed { pid, .. }
                | Engine::Unconfined { pid, .. }
                | Engine::OtherBuild { pid, .. }
                | Engine::StatusLost { pid }
                | Engine::ForkServerLost { pid, .. }
                | Engine::TrackerLost { pid, .. } => Some(*pid),
                _ => None,
            },
        }
    }

    /// The name of the machine that the lost worker was on, if that is another one than this
    /// process may know by its pid: a worker of `Context::mpi`.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let error = pool.apply(|()| -> () { std::process::abort() }, ()).unwrap_err();
    /// assert_eq!(error.host(), None); // it was here
    /// # Ok(()) }
    /// ```
    pub fn host(&self) -> Option<&str> {
        match &*self.0 {
            Kind::Lost { loss, .. } | Kind::TimedOut { loss, .. } => loss.host.as_deref(),
            _ => None,
        }
    }

    /// The exit code of what was lost; negative: minus the signal that killed it, as in
    /// `multiprocessing`.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let mut process = ctx.process(|()| -> () { std::process::exit(2) }, ()).start()?;
    /// assert_eq!(process.join().unwrap_err().exit_code(), Some(2));
    /// # Ok(()) }
    /// ```
    pub fn exit_code(&self) -> Option<i32> {
        match &*self.0 {
            Kind::Lost { loss, .. } => loss.code,
            _ => None,
        }
    }

    /// The signal that killed what was lost.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let error = pool.apply(|()| -> () { std::process::abort() }, ()).unwrap_err();
    /// assert_eq!(error.signal(), Some(6)); // SIGABRT
    /// # Ok(()) }
    /// ```
    pub fn signal(&self) -> Option<i32> {
        self.exit_code().filter(|code| *code < 0).map(|code| -code)
    }

    /// Returns whether the kernel's OOM killer ended the worker that was lost, for want of memory.
    /// `None`: no worker was lost, or it cannot be known, where no control group of this process
    /// counts such deaths.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let error = pool.apply(|()| -> () { std::process::abort() }, ()).unwrap_err();
    /// match error.is_oom_kill() {
    ///     Some(true) => println!("give each worker less to do at once"),
    ///     Some(false) => println!("it died of something else"),
    ///     None => println!("this system does not say"),
    /// }
    /// # Ok(()) }
    /// ```
    pub fn is_oom_kill(&self) -> Option<bool> {
        match &*self.0 {
            Kind::Lost { loss, .. } => loss.by_oom_killer,
            _ => None,
        }
    }

    /// The limit that a lost worker or process has run into:
    /// [`Builder::limits`](crate::pool::Builder::limits), or its filter of system calls.
    pub fn limit(&self) -> Option<Limit> {
        match &*self.0 {
            Kind::Lost { loss, .. } => loss.limit,
            _ => None,
        }
    }

    /// The task that failed: its index in the call and its function.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// fn halve(x: u64) -> u64 {
    ///     assert!(x.is_multiple_of(2));
    ///     x / 2
    /// }
    ///
    /// let error = pool.map(halve, [2, 4, 5]).unwrap_err();
    /// assert!(error.task().unwrap().starts_with("task 2 of "));
    /// assert!(error.task().unwrap().ends_with("halve"));
    /// # Ok(()) }
    /// ```
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

    /// The text of the error that the function returned. The errors that it had as its sources are
    /// this error's [sources](std::error::Error::source), as texts.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let error = pool.try_map(|text: String| text.parse::<u32>(), ["1", "2", "three"]).unwrap_err();
    /// assert_eq!((error.index(), error.task_error()), (Some(2), Some("invalid digit found in string")));
    /// # Ok(()) }
    /// ```
    pub fn task_error(&self) -> Option<&str> {
        match &*self.0 {
            Kind::Failed { failure, .. } => Some(&failure.text),
            _ => None,
        }
    }

    /// Returns the message of the panic.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let error = pool.apply(|x: u64| -> u64 { panic!("{x} is odd") }, 5).unwrap_err();
    /// assert_eq!(error.panic_message(), Some("5 is odd"));
    /// # Ok(()) }
    /// ```
    pub fn panic_message(&self) -> Option<&str> {
        self.panic().map(|panic| panic.message.as_str())
    }

    /// The place of the panic: file, line, column.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let error = pool.apply(|()| -> () { panic!() }, ()).unwrap_err();
    /// println!("{}", error.panic_location().unwrap()); // src/main.rs:5:37
    /// # Ok(()) }
    /// ```
    pub fn panic_location(&self) -> Option<&str> {
        self.panic().map(|panic| panic.location.as_str())
    }

    /// The stack of the panic, in the process where it happened. By `RUST_BACKTRACE`, as for
    /// threads: `None` unless it is set there, the whole stack for `full`, and otherwise the frames
    /// of the user's code.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let error = pool.apply(|()| -> () { panic!() }, ()).unwrap_err();
    /// eprintln!("{}", error.panic_backtrace().unwrap_or("run again with RUST_BACKTRACE=1"));
    /// # Ok(()) }
    /// ```
    pub fn panic_backtrace(&self) -> Option<&str> {
        self.panic().map(|panic| panic.backtrace.as_str()).filter(|backtrace| !backtrace.is_empty())
    }
}
