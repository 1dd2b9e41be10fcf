//! A pool before its start. Used in the parent.

use std::any::type_name;
use std::num::{NonZeroU32, NonZeroU64};

use procession_core::available_parallelism;
use procession_core::pool::{self as engine, Initializer, Service};

use super::pool::Pool;
use crate::context::Place;
use crate::function::TaskFn;
use crate::message::Message;
use crate::records::Wanted;
use crate::start_method::{StartMethod, start_method};
use crate::task::Report;
use crate::{Error, Result, message, task};

/// Describes a [`Pool`]: see [`Pool::builder`].
#[derive(Debug)]
#[must_use = "a pool does nothing until it is started"]
pub struct Builder {
    method: StartMethod,
    workers: usize,
    service: Result<Service>,
    /// See `setting.rs`.
    pub(super) wanted: Wanted,
    place: Place,
}

impl Builder {
    pub(crate) fn new(method: StartMethod, workers: usize) -> Builder {
        Builder { method, workers, service: Ok(Service::default()), wanted: Wanted::default(), place: Place::Here }
    }

    /// The workers are to be there.
    pub(crate) fn at(self, place: Place) -> Builder {
        Builder { place, ..self }
    }

    /// Changes how the workers are to serve.
    pub(super) fn set(mut self, set: impl FnOnce(&mut Service)) -> Builder {
        if let Ok(service) = &mut self.service {
            set(service);
        }
        self
    }

    /// Calls `function` over `argument` once in each worker, replacements too, before its first
    /// task.
    ///
    /// If it panics the worker ends; when that happens to one worker after the other, and none is
    /// left, the tasks get that panic as their error and the pool takes no more.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// static LICENCE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    ///
    /// let keep = |text: String| LICENCE.set(text).unwrap();
    /// let pool = ctx.pool_builder(2).initializer(keep, "valid".to_owned()).start()?;
    /// assert_eq!(pool.apply(|()| LICENCE.get().cloned(), ())?.as_deref(), Some("valid"));
    /// # Ok(()) }
    /// ```
    pub fn initializer<F, A>(mut self, function: F, argument: A) -> Builder
    where
        F: TaskFn<A, ()>,
        A: Message,
    {
        self.service = match (self.service, message::encode_with_handles(&argument)) {
            (Ok(service), Ok((argument, handles))) => {
                let initializer =
                    Initializer { entry: task::call_entry(function, Report::ToCaller), argument, handles };
                Ok(Service { initializer: Some(initializer), ..service })
            }
            (Ok(_), Err(why)) => Err(Error::unencodable("argument", type_name::<F>(), why)),
            (Err(error), _) => Err(error),
        };
        self
    }

    /// Has a worker make way for a fresh one after it has run so many chunks of tasks: against code
    /// that leaks. Without, a worker lives as long as the pool. 0 stands for without.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let pool = ctx.pool_builder(1).max_tasks_per_worker(1).start()?;
    /// let (one, other) = (pool.apply(|()| std::process::id(), ())?, pool.apply(|()| std::process::id(), ())?);
    /// assert_ne!(one, other);
    /// # Ok(()) }
    /// ```
    pub fn max_tasks_per_worker(mut self, chunks: u32) -> Builder {
        if let Ok(service) = &mut self.service {
            service.max_tasks = NonZeroU32::new(chunks);
        }
        self
    }

    /// Has a worker make way for a fresh one when it has more than so many bytes of memory of its
    /// own after a task: against code that leaks. No task is lost; what it had taken and not begun
    /// runs elsewhere. 0 stands for without.
    ///
    /// Counted is what is resident and would be gone with the worker; memory that it shares, such
    /// as the pool's, is not. A worker looks every few milliseconds at most, so that small tasks
    /// cost no more; one that begins with more than the limit runs tasks for as long.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let pool = procession::Context::fork().pool_builder(2).max_memory_per_worker(512 << 20).start()?;
    /// # Ok(()) }
    /// ```
    pub fn max_memory_per_worker(mut self, bytes: u64) -> Builder {
        if let Ok(service) = &mut self.service {
            service.max_memory = NonZeroU64::new(bytes);
        }
        self
    }

    /// Has the workers ignore Ctrl-C (SIGINT), which a terminal sends to all processes of a
    /// program: the program alone decides what becomes of its tasks then. Programs that the workers
    /// execute ignore it, too.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let pool = procession::Context::fork().pool_builder(2).ignore_interrupt().start()?;
    /// # Ok(()) }
    /// ```
    pub fn ignore_interrupt(mut self) -> Builder {
        if let Ok(service) = &mut self.service {
            service.ignores_interrupt = true;
        }
        self
    }

    /// Starts the pool.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let pool = ctx.pool_builder(2).start()?;
    /// assert_eq!(pool.workers(), 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Pool::new`], and for an initializer's argument that does not encode
    /// ([`Error::is_encode`]).
    pub fn start(self) -> Result<Pool> {
        let service = Service { records: self.wanted.records(), ..self.service? };
        self.place.start_pool(self.method, self.workers, service).map(Pool::over)
    }
}

impl Pool {
    /// Starts a pool by the [default](crate::start_method) start method.
    ///
    /// ```no_run
    /// # fn main() -> procession::Result<()> {
    /// let pool = procession::Pool::new(procession::available_parallelism().get())?;
    /// let lengths = pool.map(|text: String| text.len(), ["a".to_owned(), "bc".to_owned()])?;
    /// assert_eq!(lengths, [1, 2]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// For 0 workers or more than 1024 ([`Error::is_invalid`]); `spawn` or `forkserver` without the
    /// feature `startup` or `init()` ([`Error::is_not_initialized`]); fork with other threads alive
    /// ([`Error::is_other_threads`]).
    pub fn new(workers: usize) -> Result<Pool> {
        Pool::builder(workers).start()
    }

    /// Starts a pool of as many workers as can usefully run at once
    /// ([`available_parallelism`](crate::available_parallelism)), by the
    /// [default](crate::start_method) start method.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let _ = procession::set_start_method(procession::StartMethod::Fork);
    /// let pool = procession::Pool::default()?;
    /// assert_eq!(pool.workers(), procession::available_parallelism().get());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`new`](Pool::new).
    #[expect(clippy::should_implement_trait, reason = "a pool may fail to start, and `Default` may not")]
    pub fn default() -> Result<Pool> {
        Pool::new(available_parallelism().get().min(engine::MAX_WORKERS))
    }

    /// Describes a pool with an initializer or with workers that are replaced now and then, by the
    /// [default](crate::start_method) start method.
    ///
    /// ```no_run
    /// # fn load(path: String) {}
    /// # fn main() -> procession::Result<()> {
    /// let pool = procession::Pool::builder(4)
    ///     .initializer(load, "model.bin".to_owned())
    ///     .max_tasks_per_worker(1000)
    ///     .start()?;
    /// # Ok(()) }
    /// ```
    pub fn builder(workers: usize) -> Builder {
        Builder::new(start_method(), workers)
    }
}
