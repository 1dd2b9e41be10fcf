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
/// let fork = procession::Context::fork();
/// let mut process = fork.process(|x: u64| x + 1, 41).start()?;
/// assert_eq!(process.join()?, 42);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Context {
    method: StartMethod,
    #[cfg(feature = "mpi")]
    is_on_ranks: bool,
}

impl Context {
    /// A context of this start method.
    ///
    /// ```
    /// use procession::{Context, StartMethod};
    ///
    /// let ctx = Context::new(StartMethod::Spawn);
    /// assert_eq!(ctx.start_method().to_string(), "spawn");
    /// ```
    pub const fn new(method: StartMethod) -> Context {
        Context {
            method,
            #[cfg(feature = "mpi")]
            is_on_ranks: false,
        }
    }

    /// Joins the MPI job that this program was started in, so that the workers of pools are on its
    /// ranks. It is the first line of `main`. In rank 0 it returns the context. In the other ranks
    /// it does not return: they run tasks until rank 0 ends.
    ///
    /// Each rank runs the tasks of one worker, in a process of its own, so a task that crashes or
    /// is killed costs that task alone. A pool may have as many workers as there are other ranks
    /// with the same executable; one with another is named on standard error, and gets no tasks.
    /// [`process`](Context::process) starts a process beside rank 0, as
    /// [`forkserver`](Context::forkserver) does.
    ///
    /// The program must leave MPI to procession. It may call this again, which returns the same
    /// context.
    ///
    /// ```no_run
    /// fn main() -> procession::Result<()> {
    ///     let ctx = procession::Context::mpi()?; // mpiexec -n 5 PROGRAM
    ///     let pool = ctx.pool(4)?;
    ///     println!("{:?}", pool.map(|x: u64| x * x, 0..10)?);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::is_invalid`](crate::Error::is_invalid) for a program that no `mpiexec` has started,
    /// in a child of rank 0, and where MPI refuses, as if the library cannot be used by several
    /// threads in turn (`MPI_THREAD_SERIALIZED`).
    #[cfg(feature = "mpi")]
    #[cfg_attr(docsrs, doc(cfg(feature = "mpi")))]
    pub fn mpi() -> Result<Context> {
        crate::mpi::join()?;
        Ok(Context { is_on_ranks: true, ..Context::forkserver() })
    }

    /// Children are copies of this process.
    ///
    /// ```
    /// use procession::Context;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let mut process = Context::fork().process(|x: u64| x + 1, 1).start()?;
    /// assert_eq!(process.join()?, 2);
    /// # Ok(()) }
    /// ```
    pub const fn fork() -> Context {
        Context::new(StartMethod::Fork)
    }

    /// Children execute this program anew.
    ///
    /// ```
    /// let ctx = procession::Context::spawn();
    /// assert_eq!(ctx.start_method(), procession::StartMethod::Spawn);
    /// ```
    pub const fn spawn() -> Context {
        Context::new(StartMethod::Spawn)
    }

    /// Children are forked from a small clean server.
    ///
    /// ```
    /// use procession::Context;
    ///
    /// assert_eq!(Context::forkserver().start_method(), Context::default().start_method());
    /// ```
    pub const fn forkserver() -> Context {
        Context::new(StartMethod::ForkServer)
    }

    /// Its start method.
    ///
    /// ```
    /// use procession::{Context, StartMethod};
    ///
    /// assert_eq!(Context::fork().start_method(), StartMethod::Fork);
    /// ```
    pub const fn start_method(&self) -> StartMethod {
        self.method
    }

    /// Describes a process that will run `function` over `argument`. See
    /// [`Process::new`](crate::Process::new).
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let mut process = ctx.process(|name: String| name.len(), "procession".to_owned()).name("counter").start()?;
    /// assert_eq!(process.name(), "counter");
    /// assert_eq!(process.join()?, 10);
    /// # Ok(()) }
    /// ```
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
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let pool = ctx.pool(2)?;
    /// assert_eq!(pool.map(|x: u64| x * x, 0..4)?, [0, 1, 4, 9]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Pool::new`].
    pub fn pool(&self, workers: usize) -> Result<Pool> {
        self.pool_builder(workers).start()
    }

    /// Describes a pool. See [`Pool::builder`].
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let pool = ctx.pool_builder(2).max_tasks_per_worker(100).start()?;
    /// assert_eq!(pool.workers(), 2);
    /// # Ok(()) }
    /// ```
    pub fn pool_builder(&self, workers: usize) -> pool::Builder {
        let builder = pool::Builder::new(self.method, workers);
        #[cfg(feature = "mpi")]
        let builder = if self.is_on_ranks { builder.on_ranks() } else { builder };
        builder
    }
}

impl Default for Context {
    /// The context of [`start_method`].
    fn default() -> Self {
        Context::new(start_method())
    }
}
