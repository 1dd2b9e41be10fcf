//! Conditions between processes.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use procession_core::sync as engine;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Lock, LockError, LockGuard, deadline, give, take};
use crate::{Error, Result};

/// The time after which a wait for a predicate asks it again, notified or not.
const LOOK: Duration = Duration::from_millis(500);

/// To wait, without a [`Lock`] that goes with it, for what others change while they hold that lock.
///
/// Exactly as many waiters are notified as are asked for, those first that came first. One that was
/// killed is not waited for, and what it was notified of goes to the next. A process can be killed
/// between a change and its notification, though: [`wait_while`](Condition::wait_while) looks now
/// and then by itself, and should be preferred.
///
/// ```
/// use procession::Process;
/// use procession::sync::{Condition, Lock, Mutex};
///
/// # fn main() -> procession::Result<()> {
/// let (lock, items) = (Lock::new()?, Mutex::new(0u32)?);
/// let not_empty = Condition::new(&lock)?;
/// let produce = || -> Result<(), String> {
///     let locked = lock.lock().map_err(|error| error.to_string())?;
///     *items.lock().map_err(|error| error.to_string())? += 1;
///     drop(locked);
///     not_empty.notify_one().map(drop).map_err(|error| error.to_string())
/// };
/// let mut producer = Process::fork(produce).start()?;
/// let _locked = not_empty.wait_while(lock.lock()?, || items.lock().is_ok_and(|items| *items == 0))?;
/// *items.lock()? -= 1;
/// # drop(_locked);
/// assert_eq!(producer.join()?, Ok(()));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Condition {
    lock: Lock,
    engine: Arc<engine::Condition>,
}

type Locked<'a> = Result<LockGuard<'a>, LockError<LockGuard<'a>>>;
type LockedAndToldOf<'a> = Result<(LockGuard<'a>, bool), LockError<LockGuard<'a>>>;

impl Condition {
    /// A new one, at which nobody waits, that goes with this lock.
    ///
    /// ```
    /// use procession::sync::{Condition, Lock};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let lock = Lock::new()?;
    /// let (not_empty, not_full) = (Condition::new(&lock)?, Condition::new(&lock)?);
    /// # drop((not_empty, not_full));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn new(lock: &Lock) -> Result<Condition> {
        let engine = engine::made(engine::Condition::create(), "Condition")?;
        Ok(Condition { lock: lock.clone(), engine: Arc::new(engine) })
    }

    /// The lock that goes with it.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # use procession::sync::{Condition, Lock};
    /// # let lock = Lock::new()?;
    /// # let condition = Condition::new(&lock)?;
    /// let guard = condition.lock().lock()?;
    /// # drop(guard);
    /// # Ok(()) }
    /// ```
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Unlocks, waits to be notified, and locks again.
    ///
    /// ```
    /// use procession::{Process, sync::{Condition, Event, Lock}};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let lock = Lock::new()?;
    /// let (condition, begun) = (Condition::new(&lock)?, Event::new()?);
    /// let wait = || {
    ///     let guard = lock.lock().unwrap();
    ///     begun.set();
    ///     condition.wait(guard).is_ok()
    /// };
    /// let mut waiter = Process::fork(wait).start()?;
    /// begun.wait();
    /// let guard = lock.lock()?; // it has been given up by the waiter, which waits now
    /// condition.notify_one()?;
    /// drop(guard);
    /// assert!(waiter.join()?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Lock::lock`]. [`LockError::is_invalid`] for a guard of another lock, and when 255 wait
    /// already; then the lock is not held any more.
    pub fn wait<'a>(&self, guard: LockGuard<'a>) -> Locked<'a> {
        self.wait_until(guard, None).map(|(guard, _)| guard)
    }

    /// As [`wait`](Condition::wait), for no longer than `timeout`; also says whether it was
    /// notified.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # use procession::sync::{Condition, Lock};
    /// # let lock = Lock::new()?;
    /// # let condition = Condition::new(&lock)?;
    /// use std::time::Duration;
    ///
    /// let (guard, was_notified) = condition.wait_timeout(lock.lock()?, Duration::from_millis(1))?;
    /// assert!(!was_notified);
    /// # drop(guard);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`wait`](Condition::wait).
    pub fn wait_timeout<'a>(&self, guard: LockGuard<'a>, timeout: Duration) -> LockedAndToldOf<'a> {
        self.wait_until(guard, deadline(timeout))
    }

    /// Waits for as long as `condition` holds, which is asked under the lock: at first, when
    /// notified, and now and then.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # use procession::sync::{Condition, Lock};
    /// # let lock = Lock::new()?;
    /// # let condition = Condition::new(&lock)?;
    /// let items = procession::SharedValue::new(1u64)?;
    /// let guard = condition.wait_while(lock.lock()?, || items.get() == 0)?; // there is one already
    /// items.fetch_sub(1);
    /// # drop(guard);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`wait`](Condition::wait).
    pub fn wait_while<'a>(&self, guard: LockGuard<'a>, condition: impl FnMut() -> bool) -> Locked<'a> {
        self.wait_while_until(guard, None, condition).map(|(guard, _)| guard)
    }

    /// As [`wait_while`](Condition::wait_while), for no longer than `timeout`; also says whether
    /// the condition ceased to hold.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # use procession::sync::{Condition, Lock};
    /// # let lock = Lock::new()?;
    /// # let condition = Condition::new(&lock)?;
    /// use std::time::Duration;
    ///
    /// let items = procession::SharedValue::new(0u64)?;
    /// let (guard, has_come) = condition.wait_timeout_while(lock.lock()?, Duration::from_millis(1), || items.get() == 0)?;
    /// assert!(!has_come);
    /// # drop(guard);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`wait`](Condition::wait).
    pub fn wait_timeout_while<'a>(
        &self,
        guard: LockGuard<'a>,
        timeout: Duration,
        condition: impl FnMut() -> bool,
    ) -> LockedAndToldOf<'a> {
        self.wait_while_until(guard, deadline(timeout), condition)
    }

    /// Notifies the one that has waited longest, whether or not the lock is held; says how many
    /// that were.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # use procession::sync::{Condition, Lock};
    /// # let lock = Lock::new()?;
    /// # let condition = Condition::new(&lock)?;
    /// let guard = lock.lock()?;
    /// assert_eq!(condition.notify_one()?, 0, "nobody waits");
    /// # drop(guard);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If its shared memory cannot be used.
    pub fn notify_one(&self) -> Result<usize> {
        self.notify(1)
    }

    /// Notifies up to `count` that wait, the longest first.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # use procession::sync::{Condition, Lock};
    /// # let lock = Lock::new()?;
    /// # let condition = Condition::new(&lock)?;
    /// let guard = lock.lock()?;
    /// assert_eq!(condition.notify(2)?, 0, "nobody waits");
    /// # drop(guard);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`notify_one`](Condition::notify_one).
    pub fn notify(&self, count: usize) -> Result<usize> {
        Ok(self.engine.notify(count).map_err(refused)?)
    }

    /// Notifies all that wait.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # use procession::sync::{Condition, Lock};
    /// # let lock = Lock::new()?;
    /// # let condition = Condition::new(&lock)?;
    /// let guard = lock.lock()?;
    /// assert_eq!(condition.notify_all()?, 0, "nobody waits");
    /// # drop(guard);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`notify_one`](Condition::notify_one).
    pub fn notify_all(&self) -> Result<usize> {
        self.notify(usize::MAX)
    }

    fn wait_until<'a>(&self, guard: LockGuard<'a>, deadline: Option<Instant>) -> LockedAndToldOf<'a> {
        let lock = guard.lock;
        if !lock.engine.is(&self.lock.engine) {
            return Err(LockError::failed(Error::invalid("the guard is of another Lock than this Condition's")));
        }
        let waited = self.engine.wait(deadline, || drop(guard));
        let is_notified = waited.map_err(|error| LockError::failed(refused(error)))?;
        Ok((lock.lock()?, is_notified))
    }

    fn wait_while_until<'a>(
        &self,
        mut guard: LockGuard<'a>,
        deadline: Option<Instant>,
        mut condition: impl FnMut() -> bool,
    ) -> LockedAndToldOf<'a> {
        loop {
            if !condition() {
                return Ok((guard, true));
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok((guard, false));
            }
            let look = now + LOOK;
            let until = deadline.map_or(look, |deadline| deadline.min(look));
            (guard, _) = self.wait_until(guard, Some(until))?;
        }
    }
}

/// Only on its way to a child, with its lock; anywhere else the error says what to do.
impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.lock, Sent(&self.engine)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (lock, Came(engine)) = Deserialize::deserialize(deserializer)?;
        Ok(Condition { lock, engine })
    }
}

struct Sent<'a>(&'a engine::Condition);

impl Serialize for Sent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        give(self.0, "Condition", serializer)
    }
}

struct Came(Arc<engine::Condition>);

impl<'de> Deserialize<'de> for Came {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        take("Condition", deserializer).map(Came)
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").field("lock", &self.lock).finish_non_exhaustive()
    }
}

fn refused(refused: engine::Refused) -> procession_core::Error {
    engine::refused("Condition", "it was notified")(refused)
}
