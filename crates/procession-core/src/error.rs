//! What can go wrong in the engine, said so that a user can act on it. A face wraps it; it never
//! crosses a process.

use std::io;

use procession_sys::ExitStatus;
use procession_sys::fork::ForkError;
use procession_sys::image::BuildId;

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Each message says what happened, to what, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `init()` has not run, so a new process of this program would not know that it is a child.
    #[error(
        "procession::init() was not called: a process started by `{method}` executes this program again and would run \
         its `main` from the top. Make `procession::init();` the first line of `main` (or use the fork start method)"
    )]
    NotInitialized {
        /// The start method that was asked for.
        method: &'static str,
    },
    /// The child ended before it reached `init()`.
    #[error(
        "process {pid} ({status}) ended before it reached procession::init(): make `procession::init();` the first \
         line of `main` of the program that is executed"
    )]
    NotReached {
        /// The child.
        pid: u32,
        /// How it ended.
        status: ExitStatus,
    },
    /// The child runs another build of the program.
    #[error(
        "process {pid} runs another build of this program (ours is {ours}, its is {theirs}): functions cannot be found \
         there. Was the binary replaced while running, or is another one set by set_executable()? Restart the program"
    )]
    OtherBuild {
        /// The child, or the fork server.
        pid: u32,
        /// The build of this process.
        ours: BuildId,
        /// The build of the child.
        theirs: BuildId,
    },
    /// A fork with other threads alive.
    #[error(
        "fork refused: {others} other thread(s) run in this process, and a lock that one of them holds would stay \
         locked in the child for ever. Start processes before threads, use Context::forkserver() or Context::spawn(), \
         or allow it with ThreadsAtFork::assume_safe()"
    )]
    OtherThreads {
        /// Threads besides the caller and the engine's own.
        others: usize,
    },
    /// The object belongs to a process this one was forked from.
    #[error(
        "this {what} belongs to the process that this one was forked from, and can only be used there: make a new one \
         in this process"
    )]
    Inherited {
        /// What was used.
        what: &'static str,
    },
    /// The time given ran out. Nothing is lost: ask again.
    #[error("the time given ran out before {what}; nothing is lost, it goes on")]
    Timeout {
        /// What was waited for.
        what: &'static str,
    },
    /// The pool takes no more tasks.
    #[error("the pool is {state} and takes no more tasks: make a new Pool, or submit before {hint}")]
    Closed {
        /// `closed` or `terminated`.
        state: &'static str,
        /// The call that closed it.
        hint: &'static str,
    },
    /// The queue takes nothing more, and for a `get`: has nothing left.
    #[error("the queue is closed: nothing more can be put, and what was put before has been taken")]
    QueueClosed,
    /// The pool was terminated before the task was done.
    #[error("the pool was terminated before this task was done: call close() and join() first to let tasks finish")]
    Terminated,
    /// The task was cancelled.
    #[error("the task was cancelled")]
    Cancelled,
    /// A callback on a job's results panicked; a face reads the payload.
    #[error("a callback on the result panicked")]
    Callback {
        /// In the codec of the face.
        payload: Vec<u8>,
    },
    /// A worker's initializer did not return; a face reads the tag and the payload.
    #[error("a worker's initializer failed")]
    Initializer {
        /// See [`crate::outcome::tag`].
        tag: u32,
        /// In the codec of the face.
        payload: Vec<u8>,
    },
    /// The pool can run no more tasks: no worker can be kept, or its shared memory was overwritten.
    #[error("{}", broken(.0))]
    Broken(#[source] std::sync::Arc<Error>),
    /// A worker has written where only the engine writes.
    #[error(
        "the shared memory of the pool was overwritten: {what}{}. Native code that a task calls has written outside of its \
         own memory: find it (valgrind, AddressSanitizer), and make a new Pool",
        pid.map_or_else(String::new, |pid| format!(" of worker process {pid}"))
    )]
    Overwritten {
        /// What is overwritten.
        what: &'static str,
        /// The worker whose words these were; `None` if any may have done it.
        pid: Option<u32>,
    },
    /// A signal's handler ended the call; the face knows what it raised.
    #[error("a signal's handler ended the call")]
    Interrupted,
    /// This process is on its way out.
    #[error("no process can be started any more: this one is exiting, and its children with it")]
    Leaving,
    /// The arguments make no sense, or the object cannot do this now.
    #[error("{0}")]
    Invalid(String),
    /// A mistake of the engine's, or of a face that uses it.
    #[error("{0}: this is a bug in procession, please report it")]
    Bug(&'static str),
    /// The program has closed a file descriptor of the engine.
    #[error(
        "the program has closed or replaced the file descriptor {which}: a program that closes all of its descriptors, as \
         to become a daemon, does so before it starts processes and pools"
    )]
    DescriptorClosed {
        /// What the descriptor was for.
        which: String,
    },
    /// The child called `init()` where it cannot begin.
    #[error("process {pid} cannot begin: {why}")]
    Misplaced {
        /// The child.
        pid: u32,
        /// What the child says.
        why: String,
    },
    /// A worker ended before it was ready for tasks, and not by its initializer's failure.
    #[error(
        "worker process {pid} ended before it was ready ({})",
        status.map_or("unknown status".into(), |status| status.to_string())
    )]
    WorkerFailed {
        /// The worker.
        pid: u32,
        /// How it ended; `None`: another wait in this program took it.
        status: Option<ExitStatus>,
    },
    /// The exit status of a child was taken by somebody else.
    #[error(
        "the exit status of process {pid} was taken by another wait in this program: do not ignore SIGCHLD and do not \
         wait for processes that procession started"
    )]
    StatusLost {
        /// The child.
        pid: u32,
    },
    /// A process started by procession, but not by a function's fault, ended when it was needed.
    #[error(
        "the fork server (process {pid}) could not start a process: {}; tried {tries} times",
        status.map_or("each child was killed before it began".into(), |status| format!("it ended with {status}"))
    )]
    ForkServerLost {
        /// The server.
        pid: u32,
        /// How it ended; `None` if it did not, but its children did.
        status: Option<ExitStatus>,
        /// Attempts made.
        tries: usize,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    Os {
        /// What was tried, and on what.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Who held it died, and what it guards may be half-changed.
    #[error(
        "the owner of this {what} died holding it, and what it guards may be half-changed: make that whole, then \
         recover() the {what} from this error"
    )]
    OwnerDied {
        /// Which kind of lock.
        what: &'static str,
    },
    /// A barrier that not all parties will reach.
    #[error(
        "the barrier is broken: a party was killed, ran out of its time, or had it aborted or reset; reset() makes it \
         whole once nobody waits for the others any more"
    )]
    BarrierBroken,
    /// The tracker ended while it was started.
    #[error("the tracker of shared memory (process {pid}) ended while it started ({status}); tried {tries} times")]
    TrackerLost {
        /// The tracker.
        pid: u32,
        /// How it ended.
        status: ExitStatus,
        /// Attempts made.
        tries: usize,
    },
    /// Each tracker that was started was killed before it was told of a name.
    #[error("the tracker of shared memory was killed {tries} times before it was told of a name")]
    TrackerKilled {
        /// Attempts made.
        tries: usize,
    },
    /// `init()` has not run, so a tracker would not know that it is one.
    #[error(
        "procession::init() was not called: shared memory with a name needs a tracker, a process that executes this \
         program again and would run its `main` from the top. Make `procession::init();` the first line of `main`, or use \
         memory without a name (SharedMemory::new)"
    )]
    NoTracker,
    /// Other memory has this name.
    #[error(
        "shared memory {name:?} exists already: attach to it with SharedMemory::attach(), choose another name, or let \
         SharedMemory::create_named() choose one"
    )]
    NameTaken {
        /// The name.
        name: String,
    },
    /// No memory has this name.
    #[error("there is no shared memory {name:?}: it was never created, or is unlinked, or its program has ended")]
    NameAbsent {
        /// The name.
        name: String,
    },
    /// The other end of a connection is gone, and all it sent has been received.
    #[error("the connection is closed: its other end was closed or its process ended, and nothing it sent is left")]
    ConnectionClosed,
    /// What came over a connection is not what a connection sends, or was cut off.
    #[error("{0}. This connection cannot be used any more: close it, and make a new one")]
    Malformed(String),
    /// The listener was closed, before or while a connection was waited for.
    #[error("the listener is closed")]
    ListenerClosed,
    /// The two ends of a connection do not know the same key.
    #[error("a connection's authentication failed: {0}. Give both ends the same key")]
    Authentication(String),
}

fn broken(cause: &Error) -> String {
    match cause {
        Error::Overwritten { .. } => cause.to_string(),
        _ => format!("the pool has no worker left and could not start another: {cause}"),
    }
}

impl Error {
    pub(crate) fn os(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Os { what, source }
    }
}

impl From<ForkError> for Error {
    fn from(error: ForkError) -> Self {
        match error {
            ForkError::Threads { others } => Error::OtherThreads { others },
            ForkError::Os(source) => Error::Os { what: "cannot fork this process".into(), source },
        }
    }
}
