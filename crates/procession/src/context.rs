//! Contexts: a start method as an object, so that one program can use several. Used in the parent,
//! from any thread.

use crate::function::TaskFn;
use crate::message::Message;
use crate::process::Builder;
use crate::start_method::{StartMethod, start_method};
use crate::{Pool, Result, pool};

/// Starts processes and pools by one start method.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// procession::init();
/// let fork = procession::Context::fork();
/// let mut process = fork.process(|x: u64| x + 1, 41).start()?;
/// assert_eq!(process.join()?, 42);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Context {
    method: StartMethod,
}

impl Context {
    /// A context of this start method.
    pub const fn new(method: StartMethod) -> Context {
        Context { method }
    }

    /// Children are copies of this process.
    pub const fn fork() -> Context {
        Context::new(StartMethod::Fork)
    }

    /// Children execute this program anew.
    pub const fn spawn() -> Context {
        Context::new(StartMethod::Spawn)
    }

    /// Children are forked from a small clean server.
    pub const fn forkserver() -> Context {
        Context::new(StartMethod::ForkServer)
    }

    /// Its start method.
    pub const fn start_method(&self) -> StartMethod {
        self.method
    }

    /// Describes a process that will run `function` over `argument`. See
    /// [`Process::new`](crate::Process::new).
    pub fn process<F, A, R>(&self, function: F, argument: A) -> Builder<'static, R>
    where
        F: TaskFn<A, R>,
        A: Message,
        R: Message,
    {
        Builder::task(self.method, function, argument)
    }

    /// Starts a pool. See [`Pool::new`].
    ///
    /// # Errors
    ///
    /// As [`Pool::new`].
    pub fn pool(&self, workers: usize) -> Result<Pool> {
        self.pool_builder(workers).start()
    }

    /// Describes a pool. See [`Pool::builder`].
    pub fn pool_builder(&self, workers: usize) -> pool::Builder {
        pool::Builder::new(self.method, workers)
    }
}

impl Default for Context {
    /// The context of [`start_method`].
    fn default() -> Self {
        Context::new(start_method())
    }
}
