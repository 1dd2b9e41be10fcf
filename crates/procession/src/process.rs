//! One process: described by a [`Builder`], held by a [`Process`]. Used in the parent, from any
//! thread.

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use procession_core::child::{Child, End};
use procession_core::engine::engine;
use procession_core::outcome::tag;
use procession_core::preparation::Preparation;
use procession_core::role::Role;
use procession_core::start::{self, Fork, Start};
use procession_core::target::{Closure, Task};
use procession_core::{Signal, ThreadsAtFork, supervisor};

use crate::error::Whose;
use crate::function::TaskFn;
use crate::message::Message;
use crate::start_method::{StartMethod, start_method};
use crate::task::Report;
use crate::{Error, Result, message, task};

/// A process that was started, as its parent holds it.
///
/// Dropping it lets the process run on; it is waited for at exit, or terminated there if it is a
/// [daemon](Builder::daemon). Nothing is left a zombie.
///
/// ```
/// use procession::Process;
/// # fn main() -> procession::Result<()> {
/// procession::init();
/// # let _ = procession::set_start_method(procession::StartMethod::Fork);
/// let mut process = Process::new(|(a, b): (u32, u32)| a + b, (1, 2)).start()?;
/// assert_eq!(process.join()?, 3);
/// assert_eq!(process.exit_code(), Some(0));
/// # Ok(()) }
/// ```
pub struct Process<R> {
    child: Arc<Child>,
    /// Whether this handle sees to it that the process is reaped, however long it runs.
    is_started_here: bool,
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
    /// # Errors
    ///
    /// The function's panic ([`Error::is_panic`]); its death ([`Error::is_process_lost`], with exit
    /// code or signal); an argument or result that does not decode; a program without `init()` or
    /// of another build.
    pub fn join(&mut self) -> Result<R> {
        let end = self.child.wait(None)?;
        self.result_of(end)
    }

    /// As [`join`](Process::join), for no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::is_timeout`] when it is still alive then. It goes on; ask again, or
    /// [`kill`](Process::kill) it.
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<R> {
        let end = self.child.wait(Instant::now().checked_add(timeout))?;
        self.result_of(end)
    }

    fn result_of(&self, end: &End) -> Result<R> {
        let whose = || Whose::Process { name: self.name().to_owned(), pid: self.pid() };
        match end.returned(self.pid())? {
            Some((tag::VALUE, payload)) => {
                message::decode(payload).map_err(|why| Error::undecodable(whose(), "result", why))
            }
            Some((outcome, payload)) => Err(Error::from_outcome(whose(), outcome, payload)),
            None => Err(Error::process_lost(self.name(), self.pid(), end.code())),
        }
    }
}

/// What a process and an active child have in common.
impl<R> Process<R> {
    /// The name it was given.
    pub fn name(&self) -> &str {
        self.child.name()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Whether it is terminated at this process's exit.
    pub fn is_daemon(&self) -> bool {
        self.child.is_daemon()
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it SIGTERM; nothing happens if it has ended.
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
    /// # Errors
    ///
    /// As [`terminate`](Process::terminate).
    pub fn kill(&self) -> Result<()> {
        self.child.signal(Signal::KILL)?;
        Ok(())
    }

    /// How it ended: 0 after a value, 1 after a panic, minus the signal that killed it; `None`
    /// while it lives.
    pub fn exit_code(&self) -> Option<i32> {
        self.child.try_wait().ok().flatten()?.code()
    }

    /// A file descriptor that becomes readable when it ends, for `poll`, `epoll` or an async
    /// runtime.
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.child.sentinel()
    }
}

impl ActiveChild {
    pub(crate) fn listed(child: Arc<Child>) -> ActiveChild {
        Process { child, is_started_here: false, result: PhantomData }
    }

    /// Waits until it has ended.
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
        // Where nobody can watch it, it is reaped at the next start, or at exit. In a forked child
        // it is not ours.
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

/// A process before its start.
#[must_use = "a process does nothing until it is started"]
pub struct Builder<'a, R> {
    method: StartMethod,
    target: Result<Box<dyn Role + 'a>>,
    name: Option<String>,
    daemon: bool,
    threads: Option<ThreadsAtFork>,
    result: PhantomData<fn() -> R>,
}

impl<'a, R> Builder<'a, R> {
    pub(crate) fn task<F, A>(method: StartMethod, function: F, argument: A) -> Builder<'static, R>
    where
        F: TaskFn<A, R>,
        A: Message,
        R: Message,
    {
        let target = match message::encode_with_handles(&argument) {
            Ok((argument, handles)) => Ok(Task { entry: task::call_entry(function, Report::Here), argument, handles }),
            Err(why) => Err(Error::unencodable("argument", std::any::type_name::<F>(), why)),
        };
        Builder::with(method, target.map(|task| Box::new(task) as Box<dyn Role>))
    }

    fn with(method: StartMethod, target: Result<Box<dyn Role + 'a>>) -> Builder<'a, R> {
        Builder { method, target, name: None, daemon: false, threads: None, result: PhantomData }
    }

    /// Names it; the default is `Process-N`. Shown by [`current_process`](crate::current_process)
    /// in it and, cut to 15 bytes, by `ps`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether it is terminated at this process's exit instead of waited for. The default is not.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = daemon;
        self
    }

    /// Takes your word, given in an `unsafe` block, that forking with other threads alive does no
    /// harm here.
    pub fn allow_threads(mut self, threads: ThreadsAtFork) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// An argument that does not encode ([`Error::is_encode`]); `spawn` or `forkserver` without
    /// `init()` ([`Error::is_not_initialized`]); fork with other threads alive
    /// ([`Error::is_other_threads`]); what the system refuses.
    pub fn start(self) -> Result<Process<R>> {
        let role = self.target?;
        let name = self.name.unwrap_or_else(|| engine().next_name());
        let fork;
        let starter: &dyn Start = match self.method {
            StartMethod::Fork => {
                fork = Fork { threads: self.threads };
                &fork
            }
            method => start::starter(method.engine()),
        };
        let child = start::start(starter, Preparation { name, daemon: self.daemon, role })?;
        Ok(Process { child, is_started_here: true, result: PhantomData })
    }
}

impl<R> fmt::Debug for Builder<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("method", &self.method)
            .field("target", &self.target)
            .field("name", &self.name)
            .field("daemon", &self.daemon)
            .finish()
    }
}
