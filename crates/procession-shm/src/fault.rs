//! Fault points: every numbered step of every protocol. With `--cfg procession_fault_injection` a
//! process can be armed to kill itself at one of them, as a SIGKILL from outside would. Without it
//! they compile to nothing. It is no feature, because no user of the crate may turn it on.

/// The steps, in the order of their protocols. The table in each module's head says what a death
/// after each step leaves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
pub enum Step {
    /// Ring: the tail is locked, nothing is done.
    TailLocked = 1,
    /// Ring: the head is locked, nothing is done.
    HeadLocked,
    /// Joinable queue: the item is counted for its consumer, and still in the ring.
    TakeCounted,
    /// Block: its place is chosen, and nobody knows.
    BlockPlaced,
    /// Block: its entry says that it is sent.
    BlockSent,
    /// Block: its bytes are there, and no frame or record names it.
    BlockCopied,
    /// Block: its receiver holds it.
    BlockHeld,
    /// Ring push: the frame is written behind the tail.
    PushCopied,
    /// Ring push: the tail is advanced.
    PushCommitted,
    /// Ring growth: the frames stand where the larger ring expects them.
    GrowCopied,
    /// Ring growth: the capacity is doubled.
    GrowCommitted,
    /// Ring shrinking: the pages are given back.
    ShrinkPunched,
    /// Ring shrinking: the capacity is the initial one.
    ShrinkCommitted,
    /// Window growth: bytes of the file are given out.
    WindowTaken,
    /// Window growth: the file has these bytes.
    WindowLengthened,
    /// Window growth: the window has them.
    WindowCommitted,
    /// Ring take: the frame is copied out.
    TakeCopied,
    /// Ring take: the head is advanced.
    TakeCommitted,
    /// Ring claim: the frames are in the inbox.
    ClaimCopied,
    /// Ring claim: the slot says where the frames came from.
    ClaimLeased,
    /// Ring claim: the slot counts the frames as claimed.
    ClaimCounted,
    /// Ring claim: the head is advanced.
    ClaimCommitted,
    /// Claim: it is finished, and the slot counts none.
    ClaimFinished,
    /// Inbox trimming: the pages are given back.
    TrimPunched,
    /// Claim: a frame is begun.
    FrameBegun,
    /// Running: the word says which task runs.
    RunningBegun,
    /// Running: the word says that no task runs.
    RunningFinished,
    /// Stream: a record is written behind the tail.
    StreamCopied,
    /// Stream: the tail is advanced.
    StreamCommitted,
    /// Stream: a piece of a record larger than the room is committed.
    StreamPiece,
    /// Gate: the word says that somebody may sleep.
    GateFlagged,
    /// Gate: a sleep has ended.
    GateWoken,
    /// Gate: the word has changed, nobody is woken yet.
    GateBumped,
    /// Search: the word names the worker that looks.
    SearchBegun,
    /// Search: the word names nobody, and nothing is claimed.
    SearchEnded,
    /// Lock: it is held, nothing is done.
    LockHeld,
    /// Lock: the word says that its owner died, and the mutex is not yet marked consistent.
    LockNoted,
    /// RwLock: the writer has the turnstile and no lane.
    RwTurned,
    /// RwLock: the writer has half of the lanes.
    RwLanes,
    /// RwLock: the word says that somebody writes.
    RwWriting,
    /// RwLock: the word says that nobody writes any more, and all lanes are still held.
    RwWritten,
    /// RwLock: the reader has its lane.
    RwReading,
    /// Semaphore: a permit is taken.
    SemaphoreTaken,
    /// Semaphore: the permit is back, and nobody is woken yet.
    SemaphoreReleased,
    /// Binary semaphore: the word names its new owner.
    BinaryTaken,
    /// Binary semaphore: it has no owner, and nobody is woken yet.
    BinaryReleased,
    /// Event: it is set, and nobody is woken yet.
    EventSet,
    /// Condition: the waiter is registered, and still holds its lock.
    WaiterRegistered,
    /// Condition: the waiter's sleep has ended, and it is still registered.
    WaiterSlept,
    /// Condition: the waiter's record says that it is notified, and it is not woken yet.
    WaiterNotified,
    /// Condition: a dead waiter's notification is passed on, and its record is not free yet.
    NotificationPassed,
    /// Barrier: the process is a member, and has not arrived.
    BarrierJoined,
    /// Barrier: the party is registered and waits.
    BarrierArrived,
    /// Barrier: one of the others may pass, and is not woken yet.
    BarrierPassed,
    /// Barrier: the party's wait is over, and it is still registered.
    BarrierLeft,
    /// Barrier: it is broken, and nobody is woken yet.
    BarrierBroken,
    /// Name: the memory is made and has no name yet.
    NameMade,
    /// Name: the tracker knows of it.
    NameRegistered,
    /// Name: the memory has it.
    NameLinked,
    /// Name: it is taken from the memory.
    NameUnlinked,
    /// Name: the tracker knows that it is gone.
    NameForgotten,
    /// Tracker: it runs, and nobody knows yet.
    TrackerBegun,
    /// Tracker: a message is taken off its link, and nothing is done.
    TrackerHeard,
    /// Tracker: the last process of the program is gone.
    TrackerAlone,
    /// Tracker: one name is dealt with.
    TrackerUnlinked,
}

impl Step {
    /// The steps of a name and its tracker, which are in the engine.
    pub const OF_NAMES: [Step; 9] = [
        Step::NameMade,
        Step::NameRegistered,
        Step::NameLinked,
        Step::NameUnlinked,
        Step::NameForgotten,
        Step::TrackerBegun,
        Step::TrackerHeard,
        Step::TrackerAlone,
        Step::TrackerUnlinked,
    ];

    /// Every step of this crate's own protocols.
    pub const ALL: [Step; 56] = [
        Step::TailLocked,
        Step::HeadLocked,
        Step::TakeCounted,
        Step::BlockPlaced,
        Step::BlockSent,
        Step::BlockCopied,
        Step::BlockHeld,
        Step::PushCopied,
        Step::PushCommitted,
        Step::GrowCopied,
        Step::GrowCommitted,
        Step::WindowTaken,
        Step::WindowLengthened,
        Step::WindowCommitted,
        Step::ShrinkPunched,
        Step::ShrinkCommitted,
        Step::TakeCopied,
        Step::TakeCommitted,
        Step::ClaimCopied,
        Step::ClaimLeased,
        Step::ClaimCounted,
        Step::ClaimCommitted,
        Step::ClaimFinished,
        Step::TrimPunched,
        Step::FrameBegun,
        Step::RunningBegun,
        Step::RunningFinished,
        Step::StreamCopied,
        Step::StreamCommitted,
        Step::StreamPiece,
        Step::GateFlagged,
        Step::GateWoken,
        Step::GateBumped,
        Step::SearchBegun,
        Step::SearchEnded,
        Step::LockHeld,
        Step::LockNoted,
        Step::RwTurned,
        Step::RwLanes,
        Step::RwWriting,
        Step::RwWritten,
        Step::RwReading,
        Step::SemaphoreTaken,
        Step::SemaphoreReleased,
        Step::BinaryTaken,
        Step::BinaryReleased,
        Step::EventSet,
        Step::WaiterRegistered,
        Step::WaiterSlept,
        Step::WaiterNotified,
        Step::NotificationPassed,
        Step::BarrierJoined,
        Step::BarrierArrived,
        Step::BarrierPassed,
        Step::BarrierLeft,
        Step::BarrierBroken,
    ];
}

/// Says that a step is done. Without `--cfg procession_fault_injection` it does nothing.
#[cfg(not(procession_fault_injection))]
#[inline(always)]
pub fn point(_: Step) {}

#[cfg(procession_fault_injection)]
pub use armed::{arm, arm_to_stop, point};

#[cfg(procession_fault_injection)]
mod armed {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use procession_sys::Signal;
    use procession_sys::pidfd::PidFd;

    use super::Step;

    static STEP: AtomicU32 = AtomicU32::new(0);
    static PASSES: AtomicU32 = AtomicU32::new(0);
    static STOPS: AtomicBool = AtomicBool::new(false);

    /// Has this process kill itself when it reaches `step` for the `nth` time (1 is the first).
    pub fn arm(step: Step, nth: u32) {
        PASSES.store(nth, Ordering::SeqCst);
        STEP.store(step as u32, Ordering::SeqCst);
    }

    /// As [`arm`], but the process stops there, as by a SIGSTOP from outside.
    pub fn arm_to_stop(step: Step, nth: u32) {
        STOPS.store(true, Ordering::SeqCst);
        arm(step, nth);
    }

    /// Says that a step is done. If the process is armed for it, it kills or stops itself here.
    pub fn point(step: Step) {
        if STEP.load(Ordering::SeqCst) != step as u32 || PASSES.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        let stops = STOPS.load(Ordering::SeqCst);
        let signal = if stops { Signal::STOP } else { Signal::KILL };
        PidFd::of_self().and_then(|me| me.signal(signal)).expect("a process can signal itself");
        if stops {
            return;
        }
        unreachable!("SIGKILL is not survived");
    }
}
