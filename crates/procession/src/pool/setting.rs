//! The surroundings of a pool's workers: the place where their output goes, the resources and
//! rights that are left to them, the log records that they send home. Used in the parent, before
//! the pool's start.

#[cfg(feature = "landlock")]
use procession_core::confinement::Landlock;
use procession_core::confinement::Limits;
#[cfg(feature = "seccomp")]
use procession_core::confinement::Seccomp;

use super::builder::Builder;
#[cfg(doc)]
use crate::Error;
use crate::output::Output;

impl Builder {
    /// Sets what becomes of what the workers print, also by C code. The default is that it goes
    /// where this program's output goes.
    ///
    /// ```
    /// use procession::{Context, Output};
    /// use std::sync::mpsc;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let (sender, lines) = mpsc::channel();
    /// let output = Output::callback(move |line| {
    ///     let _ = sender.send((line.slot(), line.text().into_owned()));
    /// });
    /// let pool = Context::fork().pool_builder(1).output(output).start()?;
    /// pool.apply(|name: String| println!("hello, {name}"), "world".into())?;
    /// assert_eq!(lines.recv(), Ok((Some(0), "hello, world".to_owned())));
    /// # Ok(()) }
    /// ```
    pub fn output(self, output: Output) -> Builder {
        self.set(|service| service.output = output)
    }

    /// Has each worker lead a process group of its own: what its tasks have started ends with the
    /// worker, however it ends, and with this program. A process that leaves the group (`setsid`)
    /// does not. Ctrl-C at a terminal does not reach the workers then.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let pool = procession::Context::fork().pool_builder(2).own_process_group().start()?;
    /// pool.apply(|()| drop(std::process::Command::new("sleep").arg("3600").spawn()), ())?;
    /// drop(pool); // ends the sleep, too
    /// # Ok(()) }
    /// ```
    pub fn own_process_group(self) -> Builder {
        self.set(|service| service.leads_group = true)
    }

    /// Limits what each worker may take, once it is ready: after the initializer, before its first
    /// task. A limit that this program has itself stays.
    ///
    /// A task that takes more fails, with an error that names the limit ([`Error::limit`]), and
    /// costs no other task anything: its worker is replaced.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// use procession::confinement::{Limit, Limits};
    /// use std::time::Duration;
    ///
    /// let cpu_time = Duration::from_millis(100);
    /// let limits = Limits { cpu_time: Some(cpu_time), ..Limits::default() };
    /// let pool = procession::Context::fork().pool_builder(1).limits(limits).start()?;
    /// let error = pool.apply(|()| loop { std::hint::spin_loop() }, ()).map(|()| ()).unwrap_err();
    /// assert_eq!(error.limit(), Some(Limit::CpuTime(cpu_time)));
    /// # Ok(()) }
    /// ```
    pub fn limits(self, limits: Limits) -> Builder {
        self.set(|service| service.confinement.limits = limits)
    }

    /// Has neither each worker nor a program that it starts get privileges by an exec, as of a
    /// set-uid program (`PR_SET_NO_NEW_PRIVS`), once it is ready: after the initializer, before its
    /// first task.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let pool = procession::Context::fork().pool_builder(2).no_new_privs().start()?;
    /// # Ok(()) }
    /// ```
    pub fn no_new_privs(self) -> Builder {
        self.set(|service| service.confinement.no_new_privileges = true)
    }

    /// Holds each worker to files that it may open, once it is ready: after the initializer, before
    /// its first task: see [`Landlock`].
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// use procession::confinement::Landlock;
    ///
    /// let rules = Landlock::new().read("/usr").read_write(std::env::temp_dir());
    /// let pool = procession::Context::fork().pool_builder(1).landlock(rules).start()?;
    /// assert!(!pool.apply(|()| std::fs::File::open("/etc/passwd").is_ok(), ())?);
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "landlock")]
    pub fn landlock(self, landlock: Landlock) -> Builder {
        self.set(|service| service.confinement.landlock = Some(landlock))
    }

    /// Holds each worker to system calls that it may make, once it is ready: after the initializer,
    /// before its first task: see [`Seccomp`].
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// use procession::confinement::{Limit, Seccomp};
    ///
    /// let pool = procession::Context::fork().pool_builder(1).seccomp(Seccomp::new()).start()?;
    /// let listen = |()| std::net::TcpListener::bind("127.0.0.1:0").is_ok();
    /// assert_eq!(pool.apply(listen, ()).unwrap_err().limit(), Some(Limit::SystemCalls));
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "seccomp")]
    pub fn seccomp(self, seccomp: Seccomp) -> Builder {
        self.set(|service| service.confinement.seccomp = Some(seccomp))
    }

    /// Has the parent check each result: that it is the answer of the worker that it came from, to
    /// the function and the argument that the parent has sent. If a worker of the pool has
    /// overwritten shared memory, the pool ends then, even if the new bytes make sense: no result
    /// of another task's, or of another argument, is taken. Large [`Bytes`](crate::Bytes) and
    /// [`Slice`](crate::Slice)s, which travel beside arguments and results, are not covered.
    ///
    /// It costs some 100 ns for each task, and the hashing of its argument and result, once on each
    /// side.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let pool = procession::Context::fork().pool_builder(2).sealed_results().start()?;
    /// assert_eq!(pool.map(|x: i32| x * x, 0..4)?, [0, 1, 4, 9]);
    /// # Ok(()) }
    /// ```
    pub fn sealed_results(self) -> Builder {
        self.set(|service| service.is_sealed = true)
    }

    /// Has what each worker logs with the crate `log` go through this program's logger, with the
    /// keys `process`, `pid` and `worker`: see [`records`](crate::records).
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let pool = procession::Context::spawn();
    /// # let pool = procession::Context::fork();
    /// let pool = pool.pool_builder(2).forward_logs().start()?;
    /// pool.apply(|x: u32| log::info!("got {x}"), 1)?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "log")]
    pub fn forward_logs(mut self) -> Builder {
        self.wanted.logs = true;
        self
    }

    /// Has the `tracing` events of each worker go through this program's subscriber, with the
    /// fields `process`, `pid`, `worker` and `spans`: see [`records`](crate::records).
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let pool = procession::Context::fork().pool_builder(2).forward_events().start()?;
    /// pool.apply(|x: u32| tracing::info!(x, "got it"), 1)?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "tracing")]
    pub fn forward_events(mut self) -> Builder {
        self.wanted.events = true;
        self
    }

    /// Has the trace context of each call go with it to its tasks, for workers that have a
    /// `tracing` subscriber of their own.
    ///
    /// `inject` is called in the thread that submits and returns the context as text, such as a W3C
    /// `traceparent`; `None` is none. `extract` is called in each worker that runs tasks of the
    /// call, once for each chunk, and returns a span. The tasks' spans are in that span.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let pool = procession::Context::fork()
    ///     .pool_builder(2)
    ///     .trace_context(
    ///         // With opentelemetry: what its propagator injects for Span::current().context()
    ///         || tracing::Span::current().id().map(|id| format!("span {}", id.into_u64())),
    ///         // With tracing-opentelemetry: a span on which set_parent() is called
    ///         |context| tracing::info_span!("caller", context),
    ///     )
    ///     .start()?;
    /// pool.apply(|x: u32| tracing::info!("got {x}"), 1)?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "tracing")]
    pub fn trace_context<I, E>(self, inject: I, extract: E) -> Builder
    where
        I: Fn() -> Option<String> + Send + Sync + 'static,
        E: Fn(String) -> tracing::Span + Copy + 'static,
    {
        self.set(|service| service.propagation = Some(crate::records::propagation(inject, extract)))
    }
}
