//! Contexts: a start method as an object, so that one program can use several. Used in the parent,
//! from any thread.

use procession_core::available_parallelism;
use procession_core::pool::{self as engine, Service};

use crate::function::TaskFn;
use crate::message::Message;
use crate::process::Builder;
use crate::start_method::{StartMethod, start_method, starter};
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
    place: Place,
}

/// The place where the workers of pools are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Place {
    Here,
    /// On the ranks of the MPI job.
    #[cfg(feature = "mpi")]
    Ranks,
    /// On a cluster that a bridge program drives.
    #[cfg(feature = "bridge")]
    Cluster(&'static crate::bridge::Cluster),
}

impl Place {
    /// Starts a pool there, on this machine by this start method.
    pub(crate) fn start_pool(self, method: StartMethod, workers: usize, service: Service) -> Result<engine::Pool> {
        match self {
            Place::Here => Ok(engine::Pool::new(workers, starter(method), service)?),
            #[cfg(feature = "mpi")]
            Place::Ranks => crate::mpi::start_pool(workers, service),
            #[cfg(feature = "bridge")]
            Place::Cluster(cluster) => cluster.start_pool(workers, service),
        }
    }
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
        Context { method, place: Place::Here }
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
        Ok(Context { place: Place::Ranks, ..Context::forkserver() })
    }

    /// Returns a context whose pools have their workers on a Ray or Dask cluster. `engine` is
    /// `"ray"` or `"dask"`; `address` is the cluster's, as its library takes it, or empty for the
    /// one that the library finds by itself (`RAY_ADDRESS`, `DASK_SCHEDULER_ADDRESS`).
    ///
    /// A Python program of ours, the bridge program, drives the cluster, and ends with this
    /// process. The interpreter is `python3`, or the one that `PROCESSION_PYTHON` names; it needs
    /// `pip install 'procession[ray]'` or `'procession[dask]'`, as does each machine of the
    /// cluster. The program's executable is brought there.
    ///
    /// Each worker has an agent of its own on one processor of the cluster, which runs tasks in a
    /// process of its own: a task that crashes or is killed costs that task alone. An agent that
    /// dies, as with its machine, costs the task that ran there ([`Error::host`] names the
    /// machine), and is replaced. [`process`](Context::process) starts a process on this machine.
    ///
    /// A further call with the same arguments returns the same context.
    ///
    /// ```no_run
    /// fn main() -> procession::Result<()> {
    ///     let ctx = procession::Context::bridge("ray", "FIRST:6379")?;
    ///     let pool = ctx.pool(ctx.pool_size()?)?;
    ///     println!("{:?}", pool.map(|x: u64| x * x, 0..10)?);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::is_invalid`](crate::Error::is_invalid) for another engine, and if the interpreter,
    /// the package, the engine's library or the cluster is missing: the text says which.
    ///
    /// [`Error::host`]: crate::Error::host
    #[cfg(feature = "bridge")]
    #[cfg_attr(docsrs, doc(cfg(feature = "bridge")))]
    pub fn bridge(engine: &str, address: &str) -> Result<Context> {
        let place = Place::Cluster(crate::bridge::Cluster::reach(engine, address)?);
        Ok(Context { place, ..Context::forkserver() })
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
        pool::Builder::new(self.method, workers).at(self.place)
    }

    /// Returns how many workers a pool of this context has room for at once: a processor for each.
    /// That is [`available_parallelism`](crate::available_parallelism) on this machine, and the
    /// number of processors of a cluster or of ranks that serve on others.
    ///
    /// ```
    /// let ctx = procession::Context::forkserver();
    /// assert!(ctx.pool_size()? >= 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the cluster cannot be asked any more. On this machine: none.
    pub fn pool_size(&self) -> Result<usize> {
        match self.place {
            Place::Here => Ok(available_parallelism().get()),
            #[cfg(feature = "mpi")]
            Place::Ranks => crate::mpi::capacity(),
            #[cfg(feature = "bridge")]
            Place::Cluster(cluster) => cluster.capacity(),
        }
    }
}

impl Default for Context {
    /// The context of [`start_method`].
    fn default() -> Self {
        Context::new(start_method())
    }
}
