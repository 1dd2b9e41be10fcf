//! A process before its start. Used in the parent.

use std::fmt;
use std::marker::PhantomData;

use procession_core::ThreadsAtFork;
#[cfg(feature = "landlock")]
use procession_core::confinement::Landlock;
#[cfg(feature = "seccomp")]
use procession_core::confinement::Seccomp;
use procession_core::confinement::{Confinement, Limits};
use procession_core::engine::engine;
use procession_core::output::Collector;
use procession_core::preparation::Preparation;
use procession_core::role::Role;
use procession_core::setting::Setting;
use procession_core::start::{self, Fork, Start};
use procession_core::target::Task;

use super::Process;
use crate::function::TaskFn;
use crate::message::Message;
use crate::output::Output;
use crate::records::Wanted;
use crate::start_method::{StartMethod, starter};
use crate::task::Report;
use crate::{Error, Result, message, task};

/// A process before its start.
#[must_use = "a process does nothing until it is started"]
pub struct Builder<'a, R> {
    method: StartMethod,
    target: Result<Box<dyn Role + 'a>>,
    name: Option<String>,
    daemon: bool,
    threads: Option<ThreadsAtFork>,
    output: Output,
    wanted: Wanted,
    leads_group: bool,
    confinement: Confinement,
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

    pub(super) fn with(method: StartMethod, target: Result<Box<dyn Role + 'a>>) -> Builder<'a, R> {
        Builder {
            method,
            target,
            name: None,
            daemon: false,
            threads: None,
            output: Output::Inherit,
            wanted: Wanted::default(),
            leads_group: false,
            confinement: Confinement::default(),
            result: PhantomData,
        }
    }

    /// Names it; the default is `Process-N`. Shown by [`current_process`](crate::current_process)
    /// in it and, cut to 15 bytes, by `ps`.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let process = ctx.process(|x: u64| x, 1).name("thumbnails").start()?; // as `ps` shows it
    /// assert_eq!(process.name(), "thumbnails");
    /// # Ok(()) }
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets whether the process is terminated at this process's exit instead of waited for. By
    /// default it is waited for.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let background = ctx.process(|()| std::thread::sleep(std::time::Duration::MAX), ()).daemon(true).start()?;
    /// // At this program's exit it is terminated, and not waited for.
    /// # background.kill()?;
    /// # Ok(()) }
    /// ```
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = daemon;
        self
    }

    /// Takes your word, given in an `unsafe` block, that forking with other threads alive does no
    /// harm here.
    ///
    /// ```
    /// use procession::{Context, ThreadsAtFork};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let (end, wait) = std::sync::mpsc::channel::<()>();
    /// let other = std::thread::spawn(move || wait.recv().is_err()); // it never holds a lock
    /// let process = Context::fork().process(|x: u64| x + 1, 1);
    /// // SAFETY: the other thread holds no lock, and the child needs none of it.
    /// let threads = unsafe { ThreadsAtFork::assume_safe() };
    /// let mut process = process.allow_threads(threads).start()?;
    /// assert_eq!(process.join()?, 2);
    /// drop(end);
    /// # assert!(other.join().unwrap());
    /// # Ok(()) }
    /// ```
    pub fn allow_threads(mut self, threads: ThreadsAtFork) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Sets what becomes of what it prints, also by C code. The default is that it goes where this
    /// program's output goes. All of it has come when [`join`](Process::join) returns.
    ///
    /// ```
    /// use procession::{Output, Process};
    /// use std::sync::mpsc;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let (sender, lines) = mpsc::channel();
    /// let output = Output::callback(move |line| drop(sender.send(line.text().into_owned())));
    /// let mut process = Process::fork(|| println!("one\ntwo")).output(output).start()?;
    /// process.join()?;
    /// assert_eq!(lines.try_iter().collect::<Vec<_>>(), ["one", "two"]);
    /// # Ok(()) }
    /// ```
    pub fn output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// Has it lead a process group of its own: what it starts ends with it, however it ends, and
    /// with this program. A process that leaves the group (`setsid`) does not. Ctrl-C at a terminal
    /// does not reach it then.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let start = || drop(std::process::Command::new("sleep").arg("3600").spawn());
    /// let mut process = procession::Process::fork(start).own_process_group().start()?;
    /// process.join()?; // the sleep has ended, too
    /// # Ok(()) }
    /// ```
    pub fn own_process_group(mut self) -> Self {
        self.leads_group = true;
        self
    }

    /// Limits what it may take, once it has begun and before its argument is decoded. A limit that
    /// this program has itself stays.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// use procession::confinement::Limits;
    ///
    /// let limits = Limits { files: Some(16), ..Limits::default() };
    /// let open_all = || {
    ///     let files: Vec<_> = (0..100).map_while(|_| std::fs::File::open("/dev/null").ok()).collect();
    ///     files.len()
    /// };
    /// let mut process = procession::Process::fork(open_all).limits(limits).start()?;
    /// assert!(process.join()? < 16);
    /// # Ok(()) }
    /// ```
    pub fn limits(mut self, limits: Limits) -> Self {
        self.confinement.limits = limits;
        self
    }

    /// Has neither it nor a program that it starts get privileges by an exec, as of a set-uid
    /// program (`PR_SET_NO_NEW_PRIVS`), once it has begun and before its argument is decoded.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// procession::Process::fork(|| ()).no_new_privs().start()?.join()?;
    /// # Ok(()) }
    /// ```
    pub fn no_new_privs(mut self) -> Self {
        self.confinement.no_new_privileges = true;
        self
    }

    /// Holds it to files that it may open, once it has begun and before its argument is decoded:
    /// see [`Landlock`].
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let open = || std::fs::File::open("/etc/passwd").is_ok();
    /// let rules = procession::confinement::Landlock::new();
    /// assert!(!procession::Process::fork(open).landlock(rules).start()?.join()?);
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "landlock")]
    pub fn landlock(mut self, landlock: Landlock) -> Self {
        self.confinement.landlock = Some(landlock);
        self
    }

    /// Holds it to system calls that it may make, once it has begun and before its argument is
    /// decoded: see [`Seccomp`].
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let filter = procession::confinement::Seccomp::new();
    /// assert_eq!(procession::Process::fork(|| 6 * 7).seccomp(filter).start()?.join()?, 42);
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "seccomp")]
    pub fn seccomp(mut self, seccomp: Seccomp) -> Self {
        self.confinement.seccomp = Some(seccomp);
        self
    }

    /// Has what it logs with the crate `log` go through this program's logger, with the keys
    /// `process`, `pid` and `worker`: see [`records`](crate::records).
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let log = || log::info!("got {}", 1);
    /// procession::Process::fork(log).forward_logs().start()?.join()?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "log")]
    pub fn forward_logs(mut self) -> Self {
        self.wanted.logs = true;
        self
    }

    /// Has the `tracing` events of it go through this program's subscriber, with the fields
    /// `process`, `pid`, `worker` and `spans`: see [`records`](crate::records).
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let process = procession::Process::fork(|| tracing::info!("here")).forward_events();
    /// process.start()?.join()?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "tracing")]
    pub fn forward_events(mut self) -> Self {
        self.wanted.events = true;
        self
    }

    /// Starts it.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let builder = ctx.process(|x: u64| x + 1, 1); // nothing runs yet
    /// let mut process = builder.start()?;
    /// assert_eq!(process.join()?, 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// An argument that does not encode ([`Error::is_encode`]); `spawn` or `forkserver` without the
    /// feature `startup` or `init()` ([`Error::is_not_initialized`]); fork with other threads alive
    /// ([`Error::is_other_threads`]); what the system refuses.
    pub fn start(self) -> Result<Process<R>> {
        let role = self.target?;
        if self.confinement.limits.memory.is_some() {
            return Err(Error::invalid(
                "a pool watches the memory of its tasks, and nobody that of a process: limit its address_space, or run \
                 the function in a pool",
            ));
        }
        let name = self.name.unwrap_or_else(|| engine().next_name());
        let fork;
        let starter: &dyn Start = match self.method {
            StartMethod::Fork => {
                fork = Fork { threads: self.threads };
                &fork
            }
            method => starter(method),
        };
        let collector =
            Some(Collector::new(self.output, self.wanted.records(), None)).filter(|collector| !collector.is_idle());
        let captured = collector.as_ref().map(Collector::capture).transpose()?;
        let (streams, recording, capture) = captured.unwrap_or_default();
        let confinement = self.confinement;
        let setting = Setting { streams, recording, leads_group: self.leads_group, confinement: confinement.clone() };
        let child = start::start(starter, Preparation { name, daemon: self.daemon, setting, role })?;
        let process = Process { child, is_started_here: true, collector, confinement, result: PhantomData };
        if let Some(collector) = &process.collector
            && let Err(error) = collector.follow(capture, None, &process.child)
        {
            // It would wait for a reader.
            process.kill()?;
            return Err(error.into());
        }
        Ok(process)
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
