//! The errors of the engine, with texts that a user can act on. A face wraps them; they never cross
//! a process.

use std::path::PathBuf;
use std::{error, fmt, io};

use procession_sys::ExitStatus;
use procession_sys::fork::{ForkError, OtherThreads};
use procession_sys::image::BuildId;

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the engine. Each message says what happened, to which object, and what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Nothing of the engine's has run before the program's own code, so a new process of this
    /// program would not know that it is a child.
    NotInitialized {
        /// The start method that was asked for.
        method: &'static str,
    },
    /// The child ended before it reached its bootstrap.
    NotReached {
        /// The child.
        pid: u32,
        /// Its exit status.
        status: ExitStatus,
    },
    /// The program that is executed did not load the shared object that the engine is in.
    NotPreloaded {
        /// The child.
        pid: u32,
        /// Its exit status; `None`: another wait in this program took it.
        status: Option<ExitStatus>,
        /// The file that was executed.
        program: PathBuf,
        /// The engine's object.
        object: PathBuf,
    },
    /// No other process can find the function.
    NotPortable,
    /// The child runs another build of the program.
    OtherBuild {
        /// The child, or the fork server.
        pid: u32,
        /// The build of this process.
        ours: BuildId,
        /// The build of the child.
        theirs: BuildId,
    },
    /// A fork with other threads alive.
    OtherThreads(OtherThreads),
    /// The object belongs to a process this one was forked from.
    Inherited {
        /// The kind of object that was used.
        what: &'static str,
    },
    /// The time given ran out. Nothing is lost: ask again.
    Timeout {
        /// The thing that was waited for.
        what: &'static str,
    },
    /// The pool takes no more tasks.
    Closed {
        /// `closed` or `terminated`.
        state: &'static str,
        /// The call that closed it.
        hint: &'static str,
    },
    /// The queue takes nothing more, and for a `get`: has nothing left.
    QueueClosed,
    /// The pool was terminated before the task was done.
    Terminated,
    /// The task was cancelled.
    Cancelled,
    /// A callback on a job's results panicked; a face reads the payload.
    Callback {
        /// In the codec of the face.
        payload: Vec<u8>,
    },
    /// A worker's initializer did not return; a face reads the tag and the payload.
    Initializer {
        /// See [`crate::outcome::tag`].
        tag: u32,
        /// In the codec of the face.
        payload: Vec<u8>,
    },
    /// A child could not be confined as it was to be.
    Unconfined {
        /// The child.
        pid: u32,
        /// The reason, in the child's words.
        why: String,
    },
    /// The pool can run no more tasks: no worker can be kept, or its shared memory was overwritten.
    Broken(std::sync::Arc<Error>),
    /// A worker has written where only the engine writes.
    Overwritten {
        /// The part of shared memory that is overwritten.
        what: &'static str,
        /// The worker whose words these were; `None` if any may have done it.
        pid: Option<u32>,
    },
    /// A signal's handler ended the call; the face knows what it raised.
    Interrupted,
    /// This process is on its way out.
    Leaving,
    /// The arguments make no sense, or the object cannot do this now.
    Invalid(String),
    /// A mistake of the engine's, or of a face that uses it.
    Bug(&'static str),
    /// The program has closed a file descriptor of the engine.
    DescriptorClosed {
        /// The use that the descriptor had.
        which: String,
    },
    /// The child called `init()` where it cannot begin.
    Misplaced {
        /// The child.
        pid: u32,
        /// The reason, in the child's words.
        why: String,
    },
    /// A worker ended before it was ready for tasks, and not by its initializer's failure.
    WorkerFailed {
        /// The worker.
        pid: u32,
        /// Its exit status; `None`: another wait in this program took it.
        status: Option<ExitStatus>,
    },
    /// The exit status of a child was taken by somebody else.
    StatusLost {
        /// The child.
        pid: u32,
    },
    /// A process started by procession, but not by a function's fault, ended when it was needed.
    ForkServerLost {
        /// The server.
        pid: u32,
        /// Its exit status; `None` if it did not end, but its children did.
        status: Option<ExitStatus>,
        /// Attempts made.
        tries: usize,
    },
    /// The system refused something.
    Os {
        /// The operation that was tried, and its object.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The process that held the lock died, and the data behind the lock may be half-changed.
    OwnerDied {
        /// The kind of the lock.
        what: &'static str,
    },
    /// A barrier that not all parties will reach.
    BarrierBroken,
    /// The tracker ended while it was started.
    TrackerLost {
        /// The tracker.
        pid: u32,
        /// Its exit status.
        status: ExitStatus,
        /// Attempts made.
        tries: usize,
    },
    /// Each tracker that was started was killed before it was told of a name.
    TrackerKilled {
        /// Attempts made.
        tries: usize,
    },
    /// As [`NotInitialized`](Self::NotInitialized), of a tracker.
    NoTracker,
    /// Other memory has this name.
    NameTaken {
        /// The name.
        name: String,
    },
    /// No memory has this name.
    NameAbsent {
        /// The name.
        name: String,
    },
    /// The other end of a connection is gone, and all it sent has been received.
    ConnectionClosed,
    /// The bytes that came over a connection are no frame, or a frame was cut off.
    Malformed(String),
    /// The listener was closed, before or while a connection was waited for.
    ListenerClosed,
    /// The two ends of a connection do not know the same key.
    Authentication(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotInitialized { method } => write!(
                f,
                "a process started by `{method}` executes this program again and would run its `main` from the top: turn on \
                 procession's feature `startup`, or make `procession::init();` the first line of `main` (or use the fork start \
                 method)"
            ),
            Error::NotReached { pid, status } => write!(
                f,
                "process {pid} ({status}) ended before it began as a child: turn on procession's feature `startup` in the program \
                 that is executed, or make `procession::init();` the first line of its `main`"
            ),
            Error::NotPreloaded { pid, status, program, object } => write!(
                f,
                "process {pid} ({}) did not begin as a child: {program} was executed with {object} preloaded (LD_PRELOAD), which \
                 it did not load. A program that is linked statically, or has a set-user-id bit or capabilities, does not, nor \
                 one that lacks what the object takes from its host. Name another one by set_executable(), or use the fork \
                 start method",
                status.map_or("unknown status".into(), |status| status.to_string()),
                program = program.display(),
                object = object.display(),
            ),
            Error::NotPortable => write!(
                f,
                "the function cannot be called in another process: it lies in no program or shared object, or in one that was \
                 linked without a build id (`-Wl,--build-id`) and whose file cannot be read"
            ),
            Error::OtherBuild { pid, ours, theirs } => write!(
                f,
                "process {pid} runs another build of this program (ours is {ours}, its is {theirs}): functions cannot be found \
         there. Was the binary replaced while running, or is another one set by set_executable()? Restart the program"
            ),
            Error::OtherThreads(threads) => write!(
                f,
                "fork refused: {threads}. Start processes before threads, use Context::forkserver() or Context::spawn(), or \
                 allow it with ThreadsAtFork::assume_safe()"
            ),
            Error::Inherited { what } => write!(
                f,
                "this {what} belongs to the process that this one was forked from, and can only be used there: make a new one \
         in this process"
            ),
            Error::Timeout { what } => write!(f, "the time given ran out before {what}; nothing is lost, it goes on"),
            Error::Closed { state, hint } => {
                write!(f, "the pool is {state} and takes no more tasks: make a new Pool, or submit before {hint}")
            }
            Error::QueueClosed => {
                write!(f, "the queue is closed: nothing more can be put, and what was put before has been taken")
            }
            Error::Terminated => write!(
                f,
                "the pool was terminated before this task was done: call close() and join() first to let tasks finish"
            ),
            Error::Cancelled => write!(f, "the task was cancelled"),
            Error::Callback { .. } => write!(f, "a callback on the result panicked"),
            Error::Initializer { .. } => write!(f, "a worker's initializer failed"),
            Error::Broken(cause) => write!(f, "{}", broken(cause)),
            Error::Overwritten { what, pid } => write!(
                f,
                "the shared memory of the pool was overwritten: {what}{}. Native code that a task calls has written outside of its \
         own memory: find it (valgrind, AddressSanitizer), and make a new Pool",
                pid.map_or_else(String::new, |pid| format!(" of worker process {pid}"))
            ),
            Error::Interrupted => write!(f, "a signal's handler ended the call"),
            Error::Leaving => {
                write!(f, "no process can be started any more: this one is exiting, and its children with it")
            }
            Error::Invalid(text) => write!(f, "{text}"),
            Error::Bug(text) => write!(f, "{text}: this is a bug in procession, please report it"),
            Error::DescriptorClosed { which } => write!(
                f,
                "the program has closed or replaced the file descriptor {which}: a program that closes all of its descriptors, as \
         to become a daemon, does so before it starts processes and pools"
            ),
            Error::Unconfined { pid, why } => write!(f, "process {pid} cannot be confined as it was to be: {why}"),
            Error::Misplaced { pid, why } => write!(f, "process {pid} cannot begin: {why}"),
            Error::WorkerFailed { pid, status } => write!(
                f,
                "worker process {pid} ended before it was ready ({})",
                status.map_or("unknown status".into(), |status| status.to_string())
            ),
            Error::StatusLost { pid } => write!(
                f,
                "the exit status of process {pid} was taken by another wait in this program: do not ignore SIGCHLD and do not \
         wait for processes that procession started"
            ),
            Error::ForkServerLost { pid, status, tries } => write!(
                f,
                "the fork server (process {pid}) could not start a process: {}; tried {tries} times",
                status
                    .map_or("each child was killed before it began".into(), |status| format!("it ended with {status}"))
            ),
            Error::Os { what, source } => write!(f, "{what}: {source}"),
            Error::OwnerDied { what } => write!(
                f,
                "the owner of this {what} died holding it, and what it guards may be half-changed: make that whole, then \
         recover() the {what} from this error"
            ),
            Error::BarrierBroken => write!(
                f,
                "the barrier is broken: a party was killed, ran out of its time, or had it aborted or reset; reset() makes it \
         whole once nobody waits for the others any more"
            ),
            Error::TrackerLost { pid, status, tries } => write!(
                f,
                "the tracker of shared memory (process {pid}) ended while it started ({status}); tried {tries} times"
            ),
            Error::TrackerKilled { tries } => {
                write!(f, "the tracker of shared memory was killed {tries} times before it was told of a name")
            }
            Error::NoTracker => write!(
                f,
                "shared memory with a name needs a tracker, a process that executes this program again and would run its `main` \
                 from the top: turn on procession's feature `startup`, make `procession::init();` the first line of `main`, or \
                 use memory without a name (SharedMemory::new)"
            ),
            Error::NameTaken { name } => write!(
                f,
                "shared memory {name:?} exists already: attach to it with SharedMemory::attach(), choose another name, or let \
         SharedMemory::create_named() choose one"
            ),
            Error::NameAbsent { name } => write!(
                f,
                "there is no shared memory {name:?}: it was never created, or is unlinked, or its program has ended"
            ),
            Error::ConnectionClosed => write!(
                f,
                "the connection is closed: its other end was closed or its process ended, and nothing it sent is left"
            ),
            Error::Malformed(text) => {
                write!(f, "{text}. This connection cannot be used any more: close it, and make a new one")
            }
            Error::ListenerClosed => write!(f, "the listener is closed"),
            Error::Authentication(text) => {
                write!(f, "a connection's authentication failed: {text}. Give both ends the same key")
            }
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::Broken(cause) => Some(&**cause),
            Error::Os { source, .. } => Some(source),
            _ => None,
        }
    }
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
            ForkError::Threads(threads) => Error::OtherThreads(threads),
            ForkError::Os(source) => Error::Os { what: "cannot fork this process".into(), source },
        }
    }
}
