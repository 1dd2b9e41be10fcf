//! The kinds of errors, each a predicate. Asked in any process and thread.

use procession_core::Error as Engine;

use super::{Error, Kind, Whose};

impl Error {
    /// The time given to a call ran out. Nothing is lost: the process or task goes on, and can be
    /// asked again.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// use std::time::Duration;
    ///
    /// let result = pool.apply_async(|()| std::thread::sleep(Duration::from_secs(3600)), ())?;
    /// assert!(result.get_timeout(Duration::from_millis(1)).unwrap_err().is_timeout());
    /// # Ok(()) }
    /// ```
    pub fn is_timeout(&self) -> bool {
        matches!(self.engine(), Some(Engine::Timeout { .. }))
    }

    /// The worker that ran this task died: see [`pid`](Error::pid), [`signal`](Error::signal),
    /// [`exit_code`](Error::exit_code) and [`task`](Error::task).
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let error = pool.apply(|()| -> () { std::process::abort() }, ()).unwrap_err();
    /// assert!(error.is_worker_lost());
    /// assert_eq!(pool.apply(|x: u64| x, 7)?, 7, "another worker has taken its place");
    /// # Ok(()) }
    /// ```
    pub fn is_worker_lost(&self) -> bool {
        matches!(*self.0, Kind::Lost { whose: Whose::Task { .. }, .. })
    }

    /// A [`Process`](crate::Process) ended without a result: killed, aborted, or by `exit`.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let mut process = ctx.process(|()| -> () { std::process::exit(3) }, ()).start()?;
    /// let error = process.join().unwrap_err();
    /// assert!(error.is_process_lost());
    /// assert_eq!(error.exit_code(), Some(3));
    /// # Ok(()) }
    /// ```
    pub fn is_process_lost(&self) -> bool {
        matches!(*self.0, Kind::Lost { whose: Whose::Process { .. }, .. })
    }

    /// The task ran longer than [`Pool::timeout`](crate::Pool::timeout) gave it; its worker was
    /// ended and replaced.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// use std::time::Duration;
    ///
    /// let briefly = pool.timeout(Duration::from_millis(50));
    /// let error = briefly.apply(|()| std::thread::sleep(Duration::from_secs(3600)), ()).unwrap_err();
    /// assert!(error.is_task_timeout());
    /// # Ok(()) }
    /// ```
    pub fn is_task_timeout(&self) -> bool {
        matches!(*self.0, Kind::TimedOut { .. })
    }

    /// The task was [cancelled](crate::AsyncResult::cancel).
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let result = pool.apply_async(|()| std::thread::sleep(std::time::Duration::MAX), ())?;
    /// result.cancel()?;
    /// assert!(result.get().unwrap_err().is_cancelled());
    /// # Ok(()) }
    /// ```
    pub fn is_cancelled(&self) -> bool {
        matches!(self.engine(), Some(Engine::Cancelled))
    }

    /// The function panicked, or a [callback](crate::AsyncResult::on_complete) on its result; the
    /// text says which.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let error = pool.apply(|x: u64| assert!(x > 1, "too small"), 1).unwrap_err();
    /// assert!(error.is_panic());
    /// assert!(error.panic_message().unwrap().contains("too small"));
    /// # Ok(()) }
    /// ```
    pub fn is_panic(&self) -> bool {
        matches!(*self.0, Kind::Panic { .. })
    }

    /// The function returned an error of its own: one that was called by
    /// [`try_map`](crate::Pool::try_map) and its like. See [`task_error`](Error::task_error).
    pub fn is_task_error(&self) -> bool {
        matches!(*self.0, Kind::Failed { .. })
    }

    /// The pool is closed, or was terminated before the task was done; or the queue is closed; or
    /// the other end of the connection is, or its process ended.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// pool.close();
    /// assert!(pool.apply(|x: u64| x, 1).unwrap_err().is_closed());
    /// # Ok(()) }
    /// ```
    pub fn is_closed(&self) -> bool {
        matches!(
            self.engine(),
            Some(Engine::Closed { .. } | Engine::Terminated | Engine::QueueClosed | Engine::ConnectionClosed)
        )
    }

    /// The pool can run no more tasks: it has no worker left and could start no other, or a task
    /// has overwritten its shared memory. The error's text says why, as do the other predicates.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let pool = ctx.pool_builder(1).initializer(|()| -> () { panic!("no licence") }, ()).start()?;
    /// assert!(pool.apply(|x: u64| x, 1).unwrap_err().is_broken());
    /// # Ok(()) }
    /// ```
    pub fn is_broken(&self) -> bool {
        match &*self.0 {
            Kind::Engine(error) => matches!(**error, Engine::Broken(_)),
            Kind::Panic { whose, .. } | Kind::Undecodable { whose, .. } | Kind::Unencodable { whose, .. } => {
                matches!(whose, Whose::Initializer)
            }
            Kind::Failed { .. } | Kind::Lost { .. } | Kind::TimedOut { .. } => false,
        }
    }

    /// A child that executes this program would not know that it is one: the feature `startup` is
    /// off, here or in the program that was executed, and [`init`](crate::init()) was not called,
    /// or not in the main thread.
    /// `init()` was not called, here or in the program that was executed, or not in its main
    /// thread.
    ///
    /// ```
    /// use procession::Context;
    ///
    /// # fn main() -> procession::Result<()> {
    /// match Context::spawn().process(|x: u64| x, 1).start() {
    ///     Err(error) if error.is_not_initialized() => eprintln!("{error}"), // it says what to write
    ///     started => drop(started?.join()),
    /// }
    /// # Ok(()) }
    /// ```
    pub fn is_not_initialized(&self) -> bool {
        matches!(
            self.engine(),
            Some(
                Engine::NotInitialized { .. }
                    | Engine::NotReached { .. }
                    | Engine::NotPreloaded { .. }
                    | Engine::Misplaced { .. }
                    | Engine::NoTracker
            )
        )
    }

    /// The child is another build of this program.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let mut process = procession::Context::fork().process(|x: u64| x, 1).start()?;
    /// match process.join() {
    ///     Err(error) if error.is_other_build() => eprintln!("the program was updated: restart it"),
    ///     result => println!("{}", result?),
    /// }
    /// # Ok(()) }
    /// ```
    pub fn is_other_build(&self) -> bool {
        matches!(self.engine(), Some(Engine::OtherBuild { .. }))
    }

    /// A fork was refused because other threads are alive.
    ///
    /// ```
    /// use procession::Context;
    ///
    /// let (end, wait) = std::sync::mpsc::channel::<()>();
    /// let other = std::thread::spawn(move || wait.recv().is_err());
    /// let error = Context::fork().process(|x: u64| x, 1).start().unwrap_err();
    /// assert!(error.is_other_threads());
    /// drop(end);
    /// # assert!(other.join().unwrap());
    /// ```
    pub fn is_other_threads(&self) -> bool {
        matches!(self.engine(), Some(Engine::OtherThreads(_)))
    }

    /// The object belongs to the process that this one was forked from.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// use procession::Process;
    ///
    /// let refused = || pool.apply(|x: u64| x, 1).is_err_and(|error| error.is_inherited());
    /// assert!(Process::fork(refused).start()?.join()?, "the workers are the parent's");
    /// # Ok(()) }
    /// ```
    pub fn is_inherited(&self) -> bool {
        matches!(self.engine(), Some(Engine::Inherited { .. }))
    }

    /// The arguments make no sense, or the object cannot do this now; the text says what to do
    /// instead.
    ///
    /// ```
    /// let error = procession::Queue::<u64>::bounded(0).unwrap_err();
    /// assert!(error.is_invalid());
    /// println!("{error}"); // it says what to do instead
    /// ```
    pub fn is_invalid(&self) -> bool {
        matches!(self.engine(), Some(Engine::Invalid(_)))
    }

    /// An argument or result was not understood where it arrived.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// use serde::{Deserialize, Serialize};
    ///
    /// /// It is written as a number and read as a text.
    /// #[derive(Serialize, Deserialize)]
    /// #[serde(into = "u32", try_from = "String")]
    /// struct Odd(u32);
    ///
    /// # impl From<Odd> for u32 { fn from(odd: Odd) -> u32 { odd.0 } }
    /// # impl TryFrom<String> for Odd {
    /// #     type Error = std::num::ParseIntError;
    /// #     fn try_from(text: String) -> Result<Odd, Self::Error> { text.parse().map(Odd) }
    /// # }
    /// # impl Clone for Odd { fn clone(&self) -> Odd { Odd(self.0) } }
    /// assert!(pool.apply(|odd: Odd| odd.0, Odd(1)).unwrap_err().is_decode());
    /// # Ok(()) }
    /// ```
    pub fn is_decode(&self) -> bool {
        matches!(*self.0, Kind::Undecodable { .. })
    }

    /// An argument or result could not be encoded where it was made.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// use std::path::PathBuf;
    ///
    /// # use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    /// let not_text = PathBuf::from(OsStr::from_bytes(&[0xff]));
    /// let error = pool.apply(|path: PathBuf| path.exists(), not_text).unwrap_err();
    /// assert!(error.is_encode()); // serde sends paths as text
    /// # Ok(()) }
    /// ```
    pub fn is_encode(&self) -> bool {
        matches!(*self.0, Kind::Unencodable { .. })
    }

    /// Returns whether the holder of the lock died while it held the lock.
    /// [`LockError`](crate::sync::LockError) can recover the lock.
    ///
    /// ```
    /// use procession::{Process, sync::Lock};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let lock = Lock::new()?;
    /// let die = || {
    ///     let _locked = lock.lock().unwrap();
    ///     std::process::abort()
    /// };
    /// assert!(Process::<()>::fork(die).start()?.join().is_err());
    /// let error: procession::Error = lock.lock().unwrap_err().into();
    /// assert!(error.is_owner_died());
    /// # Ok(()) }
    /// ```
    pub fn is_owner_died(&self) -> bool {
        matches!(self.engine(), Some(Engine::OwnerDied { .. }))
    }

    /// The [`Barrier`](crate::sync::Barrier) is broken, and was not made whole by a reset.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let barrier = procession::sync::Barrier::new(2)?;
    /// barrier.abort()?;
    /// assert!(barrier.wait().unwrap_err().is_barrier_broken());
    /// # Ok(()) }
    /// ```
    pub fn is_barrier_broken(&self) -> bool {
        matches!(self.engine(), Some(Engine::BarrierBroken))
    }

    /// Other [`SharedMemory`](crate::SharedMemory) has this name already.
    ///
    /// ```
    /// use procession::SharedMemory;
    ///
    /// # fn main() -> procession::Result<()> {
    /// match SharedMemory::create("my-frames", 1 << 20) {
    ///     Err(error) if error.is_already_exists() => SharedMemory::attach("my-frames")?,
    ///     created => created?,
    /// };
    /// # Ok(()) }
    /// ```
    pub fn is_already_exists(&self) -> bool {
        matches!(self.engine(), Some(Engine::NameTaken { .. }))
    }

    /// No [`SharedMemory`](crate::SharedMemory) has this name, or not this one any more.
    ///
    /// ```
    /// use procession::SharedMemory;
    ///
    /// assert!(SharedMemory::attach("nobody-has-this-name").unwrap_err().is_not_found());
    /// ```
    pub fn is_not_found(&self) -> bool {
        matches!(self.engine(), Some(Engine::NameAbsent { .. }))
    }

    /// Returns whether a frame on a connection was cut off, longer than its limit, or no frame at
    /// all. The connection is of no use any more.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let (left, right) = procession::pipe::<(), ()>(true)?;
    /// right.set_max_frame(10);
    /// left.send_bytes(&[0; 11])?;
    /// assert!(right.recv_bytes().unwrap_err().is_malformed());
    /// # Ok(()) }
    /// ```
    pub fn is_malformed(&self) -> bool {
        matches!(self.engine(), Some(Engine::Malformed(_)))
    }

    /// The two ends of a connection did not prove to each other that they know the same key.
    ///
    /// ```
    /// use procession::{Client, Listener};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let listener = Listener::private()?.authkey(b"a key")?;
    /// let address = listener.address();
    /// let stranger = std::thread::spawn(move || Client::connect_with::<(), ()>(&address, b"no key"));
    /// assert!(listener.accept::<(), ()>().unwrap_err().is_authentication());
    /// assert!(stranger.join().unwrap().unwrap_err().is_authentication());
    /// # Ok(()) }
    /// ```
    pub fn is_authentication(&self) -> bool {
        matches!(self.engine(), Some(Engine::Authentication(_)))
    }
}
