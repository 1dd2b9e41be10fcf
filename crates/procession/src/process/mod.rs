//! One process: described by a [`Builder`], held by a [`Process`]. Used in the parent, from any
//! thread.

mod builder;

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use builder::Builder;
use procession_core::Error as Engine;
use procession_core::child::{Child, End};
use procession_core::confinement::Confinement;
use procession_core::outcome::tag;
use procession_core::output::Collector;
use procession_core::target::Closure;
use procession_core::{Signal, supervisor};

use crate::error::Whose;
use crate::function::TaskFn;
use crate::message::Message;
use crate::start_method::{StartMethod, start_method};
use crate::{Error, Result, message, task};

/// A process that was started, as its parent holds it.
///
/// Dropping it lets the process run on; it is waited for at exit, or terminated there if it is a
/// [daemon](Builder::daemon). Nothing is left a zombie.
///
/// ```
/// use procession::Process;
/// # fn main() -> procession::Result<()> {
/// let mut process = Process::new(|(a, b): (u32, u32)| a + b, (1, 2)).start()?;
/// assert_eq!(process.join()?, 3);
/// assert_eq!(process.exit_code(), Some(0));
/// # Ok(()) }
/// ```
pub struct Process<R> {
    child: Arc<Child>,
    /// True if this handle sees to it that the process is reaped, however long it runs.
    is_started_here: bool,
    /// The reader of its output; `None` if it has its parent's streams.
    collector: Option<Collector>,
    confinement: Confinement,
    result: PhantomData<fn() -> R>,
}

/// A child as [`active_children`](crate::active_children) lists it. It has no result to give; the
/// [`Process`] that started it has.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// # use std::{thread::sleep, time::Duration};
/// # let context = procession::Context::fork();
/// let process = context.process(|hours: u64| sleep(Duration::from_secs(3600 * hours)), 1).start()?;
/// for child in procession::active_children() {
///     child.kill()?;
///     child.join()?;
/// }
/// assert_eq!(process.exit_code(), Some(-9));
/// # Ok(()) }
/// ```
pub type ActiveChild = Process<Listed>;

/// In place of a result's type: the process is one of [`active_children`](crate::active_children).
#[derive(Debug)]
pub enum Listed {}

impl<R: Message> Process<R> {
    /// Describes a process that will run `function` over `argument`, by the
    /// [default](crate::start_method) start method.
    ///
    /// The function is a `fn` or a closure that captures nothing; argument and result are serde
    /// types. Begin it with [`Builder::start`].
    ///
    /// ```
    /// use procession::Process;
    ///
    /// # fn main() -> procession::Result<()> {
    /// fn count(text: String) -> usize {
    ///     text.split_whitespace().count()
    /// }
    ///
    /// let process = Process::new(count, "three short words".to_owned()).name("counter");
    /// # let mut process = procession::Context::fork().process(count, "three short words".to_owned());
    /// let mut process = process.start()?;
    /// assert_eq!(process.join()?, 3);
    /// # Ok(()) }
    /// ```
    #[expect(clippy::new_ret_no_self, reason = "a process is described before it is started, as in multiprocessing")]
    pub fn new<F, A>(function: F, argument: A) -> Builder<'static, R>
    where
        F: TaskFn<A, R>,
        A: Message,
    {
        Builder::task(start_method(), function, argument)
    }

    /// Describes a process that will run a closure, by fork. The closure may capture and borrow
    /// anything: the child has its own copy of this process's memory, and nothing it changes there
    /// is seen here.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let words = vec!["borrowed", "not", "sent"];
    /// let mut process = procession::Process::fork(|| words.len()).start()?;
    /// assert_eq!(process.join()?, 3);
    /// # Ok(()) }
    /// ```
    pub fn fork<'a>(closure: impl FnOnce() -> R + 'a) -> Builder<'a, R> {
        let target = Closure(|output: &mut Vec<u8>| task::run_closure(closure, output));
        Builder::with(StartMethod::Fork, Ok(Box::new(target)))
    }

    /// Waits until it has ended, and gives what its function returned. The same answer however
    /// often it is asked.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let mut process = ctx.process(|x: u64| x + 1, 1).start()?;
    /// assert_eq!(process.join()?, 2);
    /// assert_eq!(process.join()?, 2, "as often as it is asked");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The function's panic ([`Error::is_panic`]); its death ([`Error::is_process_lost`], with exit
    /// code or signal); an argument or result that does not decode; a program of another
    /// build, or where a child cannot begin.
    pub fn join(&mut self) -> Result<R> {
        let end = self.child.wait(None)?;
        self.finish_output(None);
        self.result_of(end)
    }

    /// As [`join`](Process::join), for no longer than `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let mut process = ctx.process(|()| std::thread::sleep(std::time::Duration::MAX), ()).start()?;
    /// if process.join_timeout(Duration::from_millis(1)).is_err_and(|error| error.is_timeout()) {
    ///     process.kill()?;
    /// }
    /// assert_eq!(process.join().unwrap_err().signal(), Some(9));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::is_timeout`] when it is still alive then. It goes on; ask again, or
    /// [`kill`](Process::kill) it.
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<R> {
        let deadline = Instant::now().checked_add(timeout);
        let end = self.child.wait(deadline)?;
        self.finish_output(deadline);
        self.result_of(end)
    }

    /// Waits until what it has printed is delivered.
    fn finish_output(&self, deadline: Option<Instant>) {
        if let Some(collector) = &self.collector {
            collector.finish(deadline);
        }
    }

    fn result_of(&self, end: &End) -> Result<R> {
        let whose = || Whose::Process { name: self.name().to_owned(), pid: self.pid() };
        match end.returned(self.pid())? {
            Some((tag::VALUE, payload)) => {
                message::decode(payload).map_err(|why| Error::undecodable(whose(), "result", why))
            }
            Some((tag::UNCONFINED, why)) => {
                let why = String::from_utf8_lossy(why).into_owned();
                Err(Engine::Unconfined { pid: self.pid(), why }.into())
            }
            Some((outcome, payload)) => Err(Error::from_outcome(whose(), outcome, payload)),
            None => {
                let limit = self.confinement.limit_behind(end.code());
                Err(Error::process_lost(self.name(), self.pid(), end.code(), limit))
            }
        }
    }
}

/// The methods that a process and an active child have in common.
impl<R> Process<R> {
    /// The name it was given.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let process = ctx.process(|x: u64| x, 1).name("first").start()?;
    /// assert_eq!(process.name(), "first");
    /// # Ok(()) }
    /// ```
    pub fn name(&self) -> &str {
        self.child.name()
    }

    /// Its process id.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let mut process = ctx.process(|()| std::process::id(), ()).start()?;
    /// assert_eq!(process.pid(), process.join()?);
    /// # Ok(()) }
    /// ```
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Returns whether the process is terminated at this process's exit.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let process = ctx.process(|x: u64| x, 1).daemon(true).start()?;
    /// assert!(process.is_daemon());
    /// # Ok(()) }
    /// ```
    pub fn is_daemon(&self) -> bool {
        self.child.is_daemon()
    }

    /// Returns whether the process has not ended yet.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let mut process = ctx.process(|()| std::thread::sleep(std::time::Duration::MAX), ()).start()?;
    /// assert!(process.is_alive());
    /// process.kill()?;
    /// assert!(process.join().is_err());
    /// assert!(!process.is_alive());
    /// # Ok(()) }
    /// ```
    pub fn is_alive(&self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it SIGTERM; nothing happens if it has ended.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let mut process = ctx.process(|()| std::thread::sleep(std::time::Duration::MAX), ()).start()?;
    /// process.terminate()?;
    /// assert_eq!(process.join().unwrap_err().signal(), Some(15));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If the system refuses, or in another process than the one that started it.
    pub fn terminate(&self) -> Result<()> {
        self.child.signal(Signal::TERM)?;
        Ok(())
    }

    /// Sends it SIGKILL; nothing happens if it has ended.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let mut process = ctx.process(|()| std::thread::sleep(std::time::Duration::MAX), ()).start()?;
    /// process.kill()?;
    /// assert!(process.join().unwrap_err().is_process_lost());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`terminate`](Process::terminate).
    pub fn kill(&self) -> Result<()> {
        self.child.signal(Signal::KILL)?;
        Ok(())
    }

    /// Returns the exit code: 0 after a value, 1 after a panic, minus the signal that killed the
    /// process; `None` while it lives.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let mut process = ctx.process(|()| std::thread::sleep(std::time::Duration::MAX), ()).start()?;
    /// assert_eq!(process.exit_code(), None);
    /// process.kill()?;
    /// # let _ = process.join();
    /// assert_eq!(process.exit_code(), Some(-9));
    /// # Ok(()) }
    /// ```
    pub fn exit_code(&self) -> Option<i32> {
        self.child.try_wait().ok().flatten()?.code()
    }

    /// A file descriptor that becomes readable when it ends, for `poll`, `epoll` or an async
    /// runtime.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let (one, other) = (ctx.process(|()| (), ()).start()?, ctx.process(|()| std::thread::sleep(std::time::Duration::MAX), ()).start()?);
    /// let ended = procession::wait(&[&one.sentinel(), &other.sentinel()], None)?;
    /// assert_eq!(ended, [0]);
    /// other.kill()?;
    /// # Ok(()) }
    /// ```
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.child.sentinel()
    }
}

impl ActiveChild {
    pub(crate) fn listed(child: Arc<Child>) -> ActiveChild {
        Process {
            child,
            is_started_here: false,
            collector: None,
            confinement: Confinement::default(),
            result: PhantomData,
        }
    }

    /// Waits until it has ended.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let child = ctx.process(|x: u64| x, 1).start()?;
    /// for child in procession::active_children() {
    ///     child.join()?; // whatever it returned
    /// }
    /// assert!(!child.is_alive());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If the system refuses, or in another process than the one that started it.
    pub fn join(&self) -> Result<()> {
        self.child.wait(None)?;
        Ok(())
    }
}

impl Clone for ActiveChild {
    /// Returns another handle of the same child.
    fn clone(&self) -> ActiveChild {
        Process::listed(self.child.clone())
    }
}

impl<R> AsFd for Process<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sentinel()
    }
}

impl<R> Drop for Process<R> {
    fn drop(&mut self) {
        // If nobody can watch the process, it is reaped at the next start, or at exit. In a forked
        // child it is not ours.
        if self.is_started_here
            && let Ok(None) = self.child.try_wait()
        {
            let _ = supervisor::watch(&self.child, |child| {
                let _ = child.try_wait();
            });
        }
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name())
            .field("pid", &self.pid())
            .field("daemon", &self.is_daemon())
            .field("exit_code", &self.exit_code())
            .finish()
    }
}
