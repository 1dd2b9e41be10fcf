//! A barrier makes a number of parties wait for each other, again and again. A party that is killed
//! breaks the barrier, so that the others do not wait for ever. So does a party whose time is out,
//! and a call of `abort`.
//!
//! A party that waits has a [`Waiter`] record, by which others learn of its death. A process that
//! has waited once is a party also while it does not wait: it is registered as a *member*, with its
//! start time, until it drops its last handle or exits normally. Everything changes under a robust
//! mutex. The arrived parties are counted anew each time from the records, so no death leaves a
//! wrong count. Waiters look now and then whether a party has died.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | **wait** 1. lock | a dead owner: the next to lock breaks the barrier |
//! | 2. register the process as a member | the same |
//! | 3. register the waiter: waiting | the same; once the lock is released, a member and an abandoned record |
//! | 4. sleep while the record says waiting | an abandoned record: the next party that looks or arrives breaks the barrier |
//! | 5. unregister the waiter | a member, which the next waiters find dead: they break the barrier |
//! | **the last to arrive** 3. each waiter := passed, **commit** for this waiter | passed, or broken, for each |
//! | 4. wake the waiter | a waiter that looks by itself |
//! | with an action: 3. register, and release the lock: the others see all parties | as after wait 3, all through the action |
//! | **breaking** 1. the word := broken, **commit** | the same; a waiter that looks goes on |
//! | 2. each waiter := broken, and wake | the same |

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use procession_sys::identity::Identity;
use procession_sys::mutex::{Acquired, Relock, RobustMutex};
use procession_sys::per_process::{PerProcess, fork_generation};

use super::arena::{self, Cell, Handle, Head, Held};
use super::waiter::{FREE, Waiter};
use super::{Refused, spin};
use crate::fault::{Step, point};
use crate::gate::Gate;
use crate::interrupt;
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::segment::{PlacedArray, Words};

/// A waiter's state, besides those that every waiter has: all parties have arrived.
const PASSED: u32 = 2;
/// Not all parties will arrive.
const BROKEN: u32 = 3;

#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct BarrierCell {
    /// Its measure is the number of parties. As many waiters follow, then as many members.
    head: Head,
    /// 1 while the barrier is broken.
    broken: AtomicU32,
    mutex: RobustMutex,
    /// If more threads come than there are parties, they wait here for a free record.
    room: Gate,
}

// SAFETY: repr(C); atomics and a process-shared mutex. Zero is a cell that `find` refuses.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for BarrierCell {}

/// A process that has waited.
#[derive(Debug)]
#[repr(C)]
struct Member {
    /// [`Identity`]; 0 is no member.
    process: AtomicU64,
    /// The number of the process's handles that have waited and are not dropped.
    handles: AtomicU32,
}

// SAFETY: repr(C), nothing but atomics; zero is no member.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for Member {}

impl Cell for BarrierCell {
    const KIND: u32 = 9;

    fn head(&self) -> &Head {
        &self.head
    }

    fn len(parties: u32) -> Option<usize> {
        (1..=Barrier::MAX_PARTIES)
            .contains(&parties)
            .then(|| members_at(parties as usize) + parties as usize * size_of::<Member>())
    }
}

fn members_at(parties: usize) -> usize {
    size_of::<BarrierCell>() + parties * size_of::<Waiter>()
}

/// See the module.
#[derive(Debug)]
pub struct Barrier(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    cell: Held<BarrierCell>,
    waiters: PlacedArray<Waiter>,
    members: PlacedArray<Member>,
    /// The fork generation plus one in which the process became a member by this handle; 0 if it
    /// has not.
    joined: AtomicU64,
}

/// Takes this process out of all barriers that it is a member of, so that its exit does not break
/// them. A process calls it when it exits normally and will not wait again.
pub fn leave_barriers() {
    joined().drain(..).filter_map(|parts| parts.upgrade()).for_each(|parts| parts.resign());
}

fn joined() -> MutexGuard<'static, Vec<Weak<Parts>>> {
    static JOINED: PerProcess<Mutex<Vec<Weak<Parts>>>> = PerProcess::new(Mutex::default);
    JOINED.get().lock().unwrap_or_else(PoisonError::into_inner)
}

impl Barrier {
    /// The most parties.
    pub const MAX_PARTIES: u32 = 65_536;

    /// Makes a barrier for this many parties.
    ///
    /// # Errors
    ///
    /// If the system refuses; `InvalidInput` for no party, or more than
    /// [`MAX_PARTIES`](Self::MAX_PARTIES).
    pub fn create(parties: u32) -> io::Result<Barrier> {
        if !(1..=Self::MAX_PARTIES).contains(&parties) {
            let text = format!("a barrier of {parties} parties: it has 1 to {}", Self::MAX_PARTIES);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Barrier::at(arena::make::<BarrierCell>(parties, |cell| cell.mutex.init_as(Relock::Refused))?)
    }

    /// Waits until all parties wait. Returns the number of this party: 0 is the first that came.
    ///
    /// # Errors
    ///
    /// [`Refused::Broken`]: a party was killed, or its time was out, or somebody aborted or reset
    /// the barrier. [`Refused::TimedOut`]: this party's time was out, and it has broken the
    /// barrier.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<u32, Refused> {
        self.wait_with(deadline, None::<fn() -> bool>)
    }

    /// As [`wait`](Self::wait); the last to arrive calls `action` before any party goes on. During
    /// the action all parties wait, without deadlines. If the action returns `false` or never
    /// returns, the barrier breaks.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_with(&self, deadline: Option<Instant>, action: Option<impl FnOnce() -> bool>) -> Result<u32, Refused> {
        let parts = &*self.0;
        let (registered, is_last) = loop {
            let locked = parts.lock()?;
            if parts.is_broken() {
                return Err(Refused::Broken);
            }
            self.join(&locked);
            point(Step::BarrierJoined);
            if locked.is_anyone_dead() {
                locked.break_all();
                return Err(Refused::Broken);
            }
            let arrived = parts.waiting();
            let is_last = arrived + 1 == parts.parties();
            if is_last && action.is_none() {
                locked.pass_all();
                return Ok(arrived);
            }
            if let Some(waiter) = locked.register(arrived)? {
                break (Registered { parts, waiter }, is_last);
            }
            drop(locked);
            let has_room = || parts.is_broken() || parts.waiters.iter().any(|waiter| waiter.state() == FREE);
            if !parts.cell.room.wait_until(deadline, spin(), has_room) {
                return Err(parts.give_up());
            }
        };
        point(Step::BarrierArrived);
        let state = match action {
            Some(action) if is_last => registered.act(action),
            _ => registered.sleep(deadline),
        };
        point(Step::BarrierLeft);
        match state? {
            Some(PASSED) => Ok(registered.waiter.ticket()),
            Some(_) => Err(Refused::Broken),
            None => Err(Refused::TimedOut),
        }
    }

    /// Makes the barrier whole and empty. Its waiters find it broken.
    ///
    /// # Errors
    ///
    /// If shared memory is damaged.
    pub fn reset(&self) -> Result<(), Refused> {
        let locked = self.0.lock()?;
        locked.break_all();
        self.0.cell.broken.store(0, Ordering::Release);
        Ok(())
    }

    /// Breaks the barrier.
    ///
    /// # Errors
    ///
    /// If shared memory is damaged.
    pub fn abort(&self) -> Result<(), Refused> {
        self.0.lock()?.break_all();
        Ok(())
    }

    /// Returns whether the barrier is broken.
    pub fn is_broken(&self) -> bool {
        self.0.is_broken()
    }

    /// Returns the number of parties.
    pub fn parties(&self) -> u32 {
        self.0.parties()
    }

    /// Returns how many parties wait now. Parties that go on are not counted.
    pub fn waiting(&self) -> u32 {
        // The last party sets all states under the mutex. A party that goes on must not see those
        // that are not yet set.
        let _told = self.0.lock();
        self.0.waiting()
    }

    /// Makes the process a member, the first time that it waits by this handle.
    fn join(&self, _: &Locked<'_>) {
        let generation = fork_generation() + 1;
        if self.0.joined.load(Ordering::Relaxed) == generation {
            return;
        }
        let own = Identity::of_self().to_word();
        let members = &self.0.members;
        let place = members.iter().find(|member| member.process.load(Ordering::Relaxed) == own);
        let place = place.or_else(|| members.iter().find(|member| member.process.load(Ordering::Relaxed) == 0));
        // More processes than parties take turns. A process without a place is known only while it
        // waits.
        let Some(member) = place else { return };
        let is_new = member.process.load(Ordering::Relaxed) == 0;
        let handles = if is_new { 0 } else { member.handles.load(Ordering::Relaxed) };
        member.handles.store(handles + 1, Ordering::Relaxed);
        member.process.store(own, Ordering::Release);
        self.0.joined.store(generation, Ordering::Relaxed);
        register_exit();
        let mut joined = joined();
        joined.retain(|parts| parts.strong_count() > 0);
        joined.push(Arc::downgrade(&self.0));
    }
}

/// Has a process that returns from `main` leave its barriers.
fn register_exit() {
    static REGISTERED: AtomicU32 = AtomicU32::new(0);
    if REGISTERED.swap(1, Ordering::Relaxed) == 0 {
        // If this fails, the exit counts as a death: the barriers break without need.
        let _ = procession_sys::exit::at_exit(leave_barriers);
    }
}

impl Parts {
    fn lock(&self) -> Result<Locked<'_>, Refused> {
        let acquired = self.cell.mutex.lock()?;
        let locked = Locked(self);
        if acquired == Acquired::OwnerDied {
            locked.break_all();
            self.cell.mutex.mark_consistent()?;
        }
        Ok(locked)
    }

    /// Now and then, by a sleeper: breaks the barrier if a party has died.
    fn look(&self) -> Result<(), Refused> {
        // Without the lock, because it asks the kernel about each member.
        let own = Identity::of_self();
        let dead = self.members.iter().filter_map(|member| {
            let process = Identity::from_word(member.process.load(Ordering::Acquire))?;
            (process != own && process.has_ended()).then_some((member, process))
        });
        let dead: Vec<_> = dead.collect();
        let locked = self.lock()?;
        let mut is_broken = locked.is_anyone_dead() || self.is_broken();
        for (member, process) in dead {
            is_broken |= member.process.load(Ordering::Relaxed) == process.to_word();
        }
        if is_broken {
            locked.break_all();
        }
        Ok(())
    }

    fn give_up(&self) -> Refused {
        match self.lock() {
            Ok(_) if self.is_broken() => Refused::Broken,
            Ok(locked) => {
                locked.break_all();
                Refused::TimedOut
            }
            Err(refused) => refused,
        }
    }

    /// Takes back the membership that this handle has given its process.
    fn resign(&self) {
        if self.joined.swap(0, Ordering::Relaxed) != fork_generation() + 1 {
            return;
        }
        // Damaged memory has no members.
        let Ok(_locked) = self.lock() else { return };
        let own = Identity::of_self().to_word();
        let Some(member) = self.members.iter().find(|member| member.process.load(Ordering::Relaxed) == own) else {
            return;
        };
        if member.handles.fetch_sub(1, Ordering::Relaxed) == 1 {
            member.process.store(0, Ordering::Release);
        }
    }

    fn is_broken(&self) -> bool {
        self.cell.broken.load(Ordering::Acquire) != 0
    }

    fn parties(&self) -> u32 {
        self.cell.head.measure.load(Ordering::Relaxed)
    }

    fn waiting(&self) -> u32 {
        self.waiters.iter().filter(|waiter| waiter.is_waiting()).count() as u32
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.resign();
        if self.cell.mutex.may_be_held_here() || self.waiters.iter().any(Waiter::is_in_this_process) {
            self.cell.keep();
        }
    }
}

/// The calling thread's registration. Dropping it unregisters, also if the thread unwinds.
struct Registered<'a> {
    parts: &'a Parts,
    waiter: &'a Waiter,
}

impl Registered<'_> {
    /// Sleeps and returns the new state. Returns `None` once the time is out, and breaks the
    /// barrier.
    fn sleep(&self, mut deadline: Option<Instant>) -> Result<Option<u32>, Refused> {
        loop {
            self.waiter.sleep(deadline, || self.parts.look())?;
            if !self.waiter.is_waiting() {
                return Ok(Some(self.waiter.state()));
            }
            // Under the lock no state changes unseen.
            let locked = self.parts.lock()?;
            if !self.waiter.is_waiting() {
                return Ok(Some(self.waiter.state()));
            }
            if self.parts.waiting() == self.parts.parties() && !interrupt::is_over() {
                // All parties have come, and the last one runs the action.
                deadline = None;
                continue;
            }
            self.waiter.set_state(BROKEN);
            locked.break_all();
            return Ok(None);
        }
    }

    /// Runs the action of the last party. Lets all pass if it returns `true` and nobody has broken
    /// the barrier meanwhile.
    fn act(&self, action: impl FnOnce() -> bool) -> Result<Option<u32>, Refused> {
        let is_done = action();
        let locked = self.parts.lock()?;
        match (self.waiter.is_waiting(), is_done) {
            (true, true) => locked.pass_all(),
            (true, false) => locked.break_all(),
            (false, _) => {}
        }
        Ok(Some(self.waiter.state()))
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        // If the action unwinds, it comes here while all the others wait. In damaged memory there
        // is nobody to wake.
        if self.waiter.is_waiting()
            && let Ok(locked) = self.parts.lock()
        {
            locked.break_all();
        }
        self.waiter.unregister();
        self.parts.cell.room.wake(1);
    }
}

/// Shows that the barrier's mutex is held.
struct Locked<'a>(&'a Parts);

impl<'a> Locked<'a> {
    fn register(&self, ticket: u32) -> io::Result<Option<&'a Waiter>> {
        for waiter in self.0.waiters.iter() {
            if waiter.register(ticket)? {
                return Ok(Some(waiter));
            }
        }
        Ok(None)
    }

    /// Returns whether a waiting party is dead. A party that died after it had passed does not
    /// count.
    fn is_anyone_dead(&self) -> bool {
        let mut is_dead = false;
        for waiter in self.0.waiters.iter().filter(|waiter| waiter.lock_if_dead()) {
            is_dead |= waiter.is_waiting();
            waiter.unregister();
        }
        is_dead
    }

    fn pass_all(&self) {
        for waiter in self.0.waiters.iter().filter(|waiter| waiter.is_waiting()) {
            waiter.set_state(PASSED);
            point(Step::BarrierPassed);
            waiter.wake();
        }
    }

    /// It also finishes an earlier break whose process died.
    fn break_all(&self) {
        self.0.cell.broken.store(1, Ordering::Release);
        point(Step::BarrierBroken);
        for waiter in self.0.waiters.iter().filter(|waiter| waiter.is_waiting()) {
            waiter.set_state(BROKEN);
            waiter.wake();
        }
        // These members have died. After a reset the barrier does without them.
        for member in self.0.members.iter() {
            let process = Identity::from_word(member.process.load(Ordering::Relaxed));
            if process.is_some_and(Identity::has_ended) {
                member.process.store(0, Ordering::Release);
                member.handles.store(0, Ordering::Relaxed);
            }
        }
        self.0.cell.room.wake(u32::MAX >> 1);
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.cell.mutex.unlock_if_held();
    }
}

impl Handle for Barrier {
    type Cell = BarrierCell;

    fn cell(&self) -> &Held<BarrierCell> {
        &self.0.cell
    }

    fn at(cell: Held<BarrierCell>) -> io::Result<Self> {
        let parties = cell.head.measure.load(Ordering::Relaxed) as usize;
        let (segment, offset) = (cell.segment().clone(), cell.offset());
        let waiters = segment.array(offset + size_of::<BarrierCell>(), parties);
        let members = segment.array(offset + members_at(parties), parties);
        Ok(Barrier(Arc::new(Parts { cell, waiters, members, joined: AtomicU64::new(0) })))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn nobody_goes_on_before_the_action_is_done_and_no_deadline_comes_meanwhile() {
        let (barrier, done) = (Barrier::create(2).unwrap(), AtomicBool::new(false));
        // Far enough for both to be there before it, also on a machine with other work.
        let deadline = Instant::now() + Duration::from_millis(500);
        let act = || {
            while Instant::now() <= deadline {
                thread::sleep(Duration::from_millis(10));
            }
            done.store(true, Ordering::SeqCst);
            true
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(barrier.wait(Some(deadline)).unwrap(), 0);
                assert!(done.load(Ordering::SeqCst));
            });
            while barrier.waiting() == 0 {
                thread::yield_now();
            }
            assert_eq!(barrier.wait_with(None, Some(act)).unwrap(), 1);
        });
        assert!(!barrier.is_broken() && barrier.waiting() == 0);
    }

    #[test]
    fn released_party_sees_nobody_wait() {
        const PARTIES: u32 = 8;
        for _ in 0..100 {
            let barrier = Barrier::create(PARTIES).unwrap();
            let pass = || {
                barrier.wait(None).unwrap();
                barrier.waiting()
            };
            let seen = thread::scope(|scope| {
                let parties: Vec<_> = (0..PARTIES).map(|_| scope.spawn(pass)).collect();
                parties.into_iter().map(|party| party.join().unwrap()).max()
            });
            assert_eq!(seen, Some(0));
        }
    }

    #[test]
    fn an_action_that_fails_or_unwinds_breaks_it() {
        let fail: fn() -> bool = || false;
        let unwind: fn() -> bool = || std::panic::resume_unwind(Box::new(()));
        for action in [fail, unwind] {
            let barrier = Barrier::create(2).unwrap();
            thread::scope(|scope| {
                let other = scope.spawn(|| barrier.wait(None));
                while barrier.waiting() == 0 {
                    thread::yield_now();
                }
                let last = scope.spawn(|| barrier.wait_with(None, Some(action)));
                assert!(!matches!(last.join(), Ok(Ok(_))));
                assert!(matches!(other.join().unwrap(), Err(Refused::Broken)));
            });
            barrier.reset().unwrap();
            assert!(!barrier.is_broken() && barrier.waiting() == 0);
        }
    }
}
