//! A plain value behind a lock for many readers or one writer. The lock is sixteen robust mutexes,
//! the *lanes*: a reader holds one of them, a writer all. So the kernel knows of every holder and
//! reports the dead, and there is no count of readers that a death could leave wrong.
//!
//! A writer that waits for readers holds the **turnstile**. New readers wait there, so that the
//! writer is not starved. A reader that has a lane already goes on: it counts once more on its
//! lane, so it does not wait behind a writer that waits for it. A reader that wants to write, or a
//! writer that locks again, would wait for itself and gets an error.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | **read** 1. a lane; one more of its depth | a dead owner's lane, which its next owner marks consistent: nothing was changed |
//! | **write** 1. the turnstile | a dead owner's, which the next owner marks consistent |
//! | 2. the lanes, in order | the same, of each |
//! | 3. the word := writing | the word: a process that has a lane and reads *writing* knows that the writer is dead |
//! | **unlock** 1. the word := clean | dead owners of lanes, as in 2 |
//! | 2. lanes and turnstile | nothing |
//!
//! The word is clean, writing, or died, which stays until somebody recovers. A process that finds
//! *writing* makes it *died*.
//!
//! **No deadlock.** A reader waits only while it has no lane, and a writer takes the lanes in order
//! behind one turnstile.

#![allow(unsafe_code, reason = "gives references to shared memory, to who holds its lock")]

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use bytemuck::Pod;
use procession_sys::mutex::{Acquired, Relock, RobustMutex};
use procession_sys::per_process::fork_generation;
use procession_sys::pidfd::current_pid;

use super::Refused;
use super::arena::{self, Cell, Handle, Head, Held};
use super::mutex::{check_generation, check_measure, measure, value_behind};
use crate::fault::{Step, point};
use crate::primitive::{AtomicU32, Ordering};
use crate::segment::{Guarded, Words};

const LANES: usize = 16;

/// Nobody writes, and no writer died.
const CLEAN: u32 = 0;
/// A writer writes, or died while it wrote.
const WRITING: u32 = 1;
/// A writer died, and nobody has recovered.
const DIED: u32 = 2;

#[derive(Debug)]
#[repr(C, align(64))]
struct Lane {
    mutex: RobustMutex,
    /// The number of its owner's reads that have not ended. The owner writes it.
    depth: AtomicU32,
}

#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct RwCell {
    head: Head,
    /// One of the states above. The holder of a lane changes it.
    state: AtomicU32,
    turnstile: RobustMutex,
    lanes: [Lane; LANES],
}

// SAFETY: repr(C); atomics and process-shared mutexes. Zero is a cell that `find` refuses.
unsafe impl Words for RwCell {}

impl Cell for RwCell {
    const KIND: u32 = 4;

    fn head(&self) -> &Head {
        &self.head
    }

    fn len(measure: u32) -> Option<usize> {
        size_of::<Self>().checked_add(measure as usize)
    }
}

/// See the module.
#[derive(Debug)]
pub struct RwLock<T: Pod> {
    cell: Held<RwCell>,
    value: Guarded<T>,
}

impl<T: Pod> RwLock<T> {
    /// Makes a lock that nobody holds.
    ///
    /// # Errors
    ///
    /// As [`Mutex::create`](super::Mutex::create).
    pub fn create(value: T) -> io::Result<RwLock<T>> {
        let cell = arena::make::<RwCell>(measure::<T>()?, |cell| {
            cell.turnstile.init_as(Relock::Refused)?;
            cell.lanes.iter().try_for_each(|lane| lane.mutex.init_as(Relock::Refused))?;
            // SAFETY: the cell is being made, and nobody else knows of it.
            unsafe { *value_behind::<T, _>(cell).get_mut() = value };
            Ok(())
        })?;
        RwLock::at(cell)
    }

    /// Locks it for reading, until the deadline. Reports a writer's death until a writer recovers.
    ///
    /// # Errors
    ///
    /// [`Refused::TimedOut`]; [`Refused::Deadlock`] for a thread that writes.
    pub fn read(&self, deadline: Option<Instant>) -> Result<(RwLockReadGuard<'_, T>, Acquired), Refused> {
        let lane = self.cell.enter(deadline)?;
        point(Step::RwReading);
        let guard = RwLockReadGuard { lock: self, lane, generation: fork_generation(), not_send: PhantomData };
        Ok((guard, self.cell.verdict()))
    }

    /// Locks it for writing, until the deadline.
    ///
    /// # Errors
    ///
    /// [`Refused::TimedOut`]; [`Refused::Deadlock`] for a thread that reads or writes.
    pub fn write(&self, deadline: Option<Instant>) -> Result<(RwLockWriteGuard<'_, T>, Acquired), Refused> {
        self.cell.turn(deadline)?;
        point(Step::RwTurned);
        for (taken, lane) in self.cell.lanes.iter().enumerate() {
            if let Err(refused) = lock(&lane.mutex, deadline) {
                self.cell.lanes[..taken].iter().for_each(|lane| lane.mutex.unlock());
                self.cell.turnstile.unlock();
                return Err(refused);
            }
            // A dead reader may have left a depth.
            lane.depth.store(0, Ordering::Relaxed);
            if taken == LANES / 2 {
                point(Step::RwLanes);
            }
        }
        let acquired = self.cell.verdict();
        if acquired == Acquired::Clean {
            self.cell.state.store(WRITING, Ordering::Relaxed);
        }
        point(Step::RwWriting);
        let guard = RwLockWriteGuard { lock: self, generation: fork_generation(), not_send: PhantomData };
        Ok((guard, acquired))
    }
}

impl RwCell {
    /// Takes the turnstile. A reader must not sleep for it, because it would keep its lane from the
    /// writer that has the turnstile.
    fn turn(&self, deadline: Option<Instant>) -> Result<(), Refused> {
        if let Some(acquired) = self.turnstile.try_lock()? {
            return Ok(make_good(&self.turnstile, acquired)?);
        }
        for lane in &self.lanes {
            // An error if the calling thread has the lane.
            if let Some(acquired) = lane.mutex.try_lock()? {
                make_good(&lane.mutex, acquired)?;
                lane.mutex.unlock();
            }
        }
        lock(&self.turnstile, deadline)
    }

    /// Takes a lane.
    fn enter(&self, deadline: Option<Instant>) -> Result<usize, Refused> {
        let own = own_lane();
        loop {
            let is_turned = self.turnstile.is_held();
            for index in (own..LANES).chain(0..own) {
                let lane = &self.lanes[index];
                match lane.mutex.try_lock() {
                    Ok(None) => {}
                    // A writer comes first. Only a thread that reads already goes on.
                    Ok(Some(acquired)) if is_turned => {
                        make_good(&lane.mutex, acquired)?;
                        lane.mutex.unlock();
                    }
                    Ok(Some(acquired)) => {
                        make_good(&lane.mutex, acquired)?;
                        lane.depth.store(1, Ordering::Relaxed);
                        return Ok(index);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Deadlock => return self.enter_again(index),
                    Err(error) => return Err(error.into()),
                }
            }
            if is_turned {
                lock(&self.turnstile, deadline)?;
                self.turnstile.unlock();
            } else {
                let lane = &self.lanes[own];
                lock(&lane.mutex, deadline)?;
                lane.depth.store(1, Ordering::Relaxed);
                return Ok(own);
            }
        }
    }

    /// Locks again for a thread that has this lane: a reader counts once more; a writer, which has
    /// all lanes and no depth, gets an error.
    fn enter_again(&self, index: usize) -> Result<usize, Refused> {
        let depth = &self.lanes[index].depth;
        let depth_now = depth.load(Ordering::Relaxed);
        if depth_now == 0 {
            return Err(Refused::Deadlock);
        }
        depth.store(depth_now + 1, Ordering::Relaxed);
        Ok(index)
    }

    /// Owner of a lane: returns whether a writer died.
    fn verdict(&self) -> Acquired {
        let dying = self.state.compare_exchange(WRITING, DIED, Ordering::Relaxed, Ordering::Relaxed);
        match dying {
            Err(CLEAN) => Acquired::Clean,
            _ => Acquired::OwnerDied,
        }
    }
}

impl<T: Pod> Handle for RwLock<T> {
    type Cell = RwCell;

    fn cell(&self) -> &Held<RwCell> {
        &self.cell
    }

    fn at(cell: Held<RwCell>) -> io::Result<Self> {
        check_measure::<T>(&cell.head)?;
        Ok(RwLock { value: value_behind(&cell), cell })
    }
}

impl<T: Pod> Drop for RwLock<T> {
    fn drop(&mut self) {
        let mutexes = self.cell.lanes.iter().map(|lane| &lane.mutex).chain([&self.cell.turnstile]);
        if mutexes.into_iter().any(RobustMutex::may_be_held_here) {
            self.cell.keep();
        }
    }
}

/// The value of an [`RwLock`], for a thread that reads.
pub struct RwLockReadGuard<'a, T: Pod> {
    lock: &'a RwLock<T>,
    lane: usize,
    generation: u64,
    not_send: PhantomData<std::sync::MutexGuard<'static, ()>>,
}

impl<T: Pod> RwLockReadGuard<'_, T> {
    /// Says that the guarded value is valid although a writer died.
    pub fn recover(&self) {
        let _ = self.lock.cell.state.compare_exchange(DIED, CLEAN, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl<T: Pod> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    /// # Panics
    ///
    /// In a child that was forked while this was held.
    fn deref(&self) -> &T {
        check_generation(self.generation);
        // SAFETY: the guard's maker holds a lane. The guard cannot leave its thread, and gives the
        // lane back when dropped; a writer has all lanes. The reference borrows the guard.
        unsafe { self.lock.value.get() }
    }
}

impl<T: Pod> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        if self.generation != fork_generation() {
            return;
        }
        let lane = &self.lock.cell.lanes[self.lane];
        let depth = lane.depth.load(Ordering::Relaxed) - 1;
        lane.depth.store(depth, Ordering::Relaxed);
        if depth == 0 {
            lane.mutex.unlock();
        }
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The value of an [`RwLock`], for the one thread that writes.
pub struct RwLockWriteGuard<'a, T: Pod> {
    lock: &'a RwLock<T>,
    generation: u64,
    not_send: PhantomData<std::sync::MutexGuard<'static, ()>>,
}

impl<T: Pod> RwLockWriteGuard<'_, T> {
    /// Says that the guarded value is valid again.
    pub fn recover(&self) {
        self.lock.cell.state.store(WRITING, Ordering::Relaxed);
    }
}

impl<T: Pod> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    /// # Panics
    ///
    /// In a child that was forked while this was held.
    fn deref(&self) -> &T {
        check_generation(self.generation);
        // SAFETY: the guard's maker holds all lanes. The guard cannot leave its thread, and gives
        // them back when dropped.
        unsafe { self.lock.value.get() }
    }
}

impl<T: Pod> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        check_generation(self.generation);
        // SAFETY: as in `deref`; one thread holds all lanes, and `lock` refuses it a second guard.
        unsafe { self.lock.value.get_mut() }
    }
}

impl<T: Pod> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        if self.generation != fork_generation() {
            return;
        }
        let cell = &self.lock.cell;
        // A death that nobody recovered stays reported.
        let _ = cell.state.compare_exchange(WRITING, CLEAN, Ordering::Relaxed, Ordering::Relaxed);
        point(Step::RwWritten);
        cell.lanes.iter().for_each(|lane| lane.mutex.unlock());
        cell.turnstile.unlock();
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

fn lock(mutex: &RobustMutex, deadline: Option<Instant>) -> Result<(), Refused> {
    let acquired = mutex.lock_until(deadline)?.ok_or(Refused::TimedOut)?;
    Ok(make_good(mutex, acquired)?)
}

fn make_good(mutex: &RobustMutex, acquired: Acquired) -> io::Result<()> {
    match acquired {
        Acquired::Clean => Ok(()),
        Acquired::OwnerDied => mutex.mark_consistent(),
    }
}

/// Returns the lane where the calling thread looks first.
fn own_lane() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| number + current_pid() as usize) % LANES
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(20))
    }

    #[test]
    fn readers_share_and_a_writer_is_alone() {
        let lock = RwLock::create(7u32).unwrap();
        std::thread::scope(|scope| {
            let (first, _) = lock.read(None).unwrap();
            let others = scope.spawn(|| {
                assert_eq!(*lock.read(soon()).unwrap().0, 7);
                assert!(matches!(lock.write(soon()), Err(Refused::TimedOut)));
            });
            others.join().unwrap();
            assert_eq!(*first, 7);
        });
        let (mut writer, _) = lock.write(None).unwrap();
        *writer = 8;
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(matches!(lock.read(soon()), Err(Refused::TimedOut))));
        });
        drop(writer);
        assert_eq!(*lock.read(None).unwrap().0, 8);
    }

    #[test]
    fn a_thread_does_not_wait_for_itself() {
        let lock = RwLock::create(0u64).unwrap();
        let reads: Vec<_> = (0..20).map(|_| lock.read(None).unwrap().0).collect();
        assert!(matches!(lock.write(None), Err(Refused::Deadlock)));
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| lock.write(None).map(drop));
            while !lock.cell.turnstile.is_held() {
                std::thread::yield_now();
            }
            drop(lock.read(None).unwrap());
            assert!(matches!(lock.write(None), Err(Refused::Deadlock)), "behind the writer that waits for it");
            drop(reads);
            writer.join().unwrap().unwrap();
        });
        let (_writer, _) = lock.write(None).unwrap();
        assert!(matches!(lock.read(None), Err(Refused::Deadlock)));
        assert!(matches!(lock.write(None), Err(Refused::Deadlock)));
    }

    #[test]
    fn more_readers_than_lanes() {
        let lock = RwLock::create([1u64; 8]).unwrap();
        std::thread::scope(|scope| {
            for number in 0..24 {
                let lock = &lock;
                scope.spawn(move || {
                    for round in 0..200u64 {
                        if (round + number) % 10 == 0 {
                            let (mut value, _) = lock.write(None).unwrap();
                            let next = value[0] + 1;
                            value.iter_mut().for_each(|part| *part = next);
                        } else {
                            let (value, _) = lock.read(None).unwrap();
                            assert!(value.iter().all(|part| *part == value[0]));
                        }
                    }
                });
            }
        });
        assert_eq!(lock.read(None).unwrap().0[0], 1 + 24 * 20);
    }

    #[test]
    fn death_of_a_writer_is_reported_and_of_a_reader_is_not() {
        let lock = RwLock::create(0u32).unwrap();
        std::thread::scope(|scope| scope.spawn(|| std::mem::forget(lock.read(None).unwrap())).join().unwrap());
        assert_eq!(lock.write(None).unwrap().1, Acquired::Clean);
        std::thread::scope(|scope| scope.spawn(|| std::mem::forget(lock.write(None).unwrap())).join().unwrap());
        assert_eq!(lock.read(None).unwrap().1, Acquired::OwnerDied);
        assert_eq!(lock.write(None).unwrap().1, Acquired::OwnerDied);
        let (read, again) = lock.read(None).unwrap();
        assert_eq!(again, Acquired::OwnerDied);
        read.recover();
        drop(read);
        assert_eq!(lock.read(None).unwrap().1, Acquired::Clean);
        assert_eq!(lock.write(None).unwrap().1, Acquired::Clean);
    }
}
