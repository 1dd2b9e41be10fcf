//! The use that a worker makes of its time, and its slowest calls. A slot of a pool that measures
//! has such words. The worker alone writes them, in its only thread. The parent reads them at any
//! time and distrusts them; it sets them back before the next worker of the slot starts.
//!
//! | word | what it says |
//! |---|---|
//! | ready at | when the worker became ready for tasks; 0: it has not |
//! | phase | what it does now |
//! | spent | nanoseconds in each phase that is over |
//! | calls | how many calls have ended |
//! | kept | which entries of slow calls count: a bit for each |
//! | slow | [`KEPT`] entries and a spare one: duration, job, task, call, shortened text |
//!
//! A worker is in one phase at any time, so the parent needs no word for how long the phase that is
//! not over has lasted: it is what is left of the worker's life. A kill loses no time.
//!
//! The worker shows the arguments of a slow call itself, as text in the segment. The parent could
//! not: it has only encoded arguments, and those are gone with their frame. A record in the
//! worker's stream would be lost if the worker is killed before the end of its job, or would need a
//! reader for each result. The text is made only for a call that is among the slowest so far, which
//! of many calls few are.
//!
//! A new entry is written over the spare one. One store to *kept* then commits it, and makes the
//! entry of the quickest of the slow calls the spare one:
//!
//! | death of the worker | what it leaves |
//! |---|---|
//! | before that store | the slowest calls without this one |
//! | after it | the slowest calls with this one |

use std::cell::Cell;

use crate::primitive::{AtomicU64, Ordering, fence};
use crate::segment::{Placed, Words};

/// The number of slow calls that are kept of each worker.
pub const KEPT: usize = 5;
const ENTRIES: usize = KEPT + 1;
/// The most bytes of the text of a call.
const MAX_TEXT: usize = 512;
/// The parent reads so often if entries change meanwhile.
const MAX_LOOKS: u32 = 4;

/// An activity of a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It is not ready for tasks.
    StartUp = 0,
    /// It waits for tasks, or is about to take some.
    Waiting = 1,
    /// It runs the user's function.
    Working = 2,
    /// It decodes arguments or encodes results.
    Pickling = 3,
    /// It takes no more tasks.
    Over = 4,
}

impl Phase {
    /// `None` for a word that no worker writes.
    fn of(word: u64) -> Option<Phase> {
        use Phase::{Over, Pickling, StartUp, Waiting, Working};
        [StartUp, Waiting, Working, Pickling, Over].into_iter().find(|phase| *phase as u64 == word)
    }
}

/// See the module. All zero: of a worker that starts.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct MeterWords {
    ready_at: AtomicU64,
    phase: AtomicU64,
    /// Of waiting, working and pickling.
    spent: [AtomicU64; 3],
    calls: AtomicU64,
    kept: AtomicU64,
    slow: [SlowWords; ENTRIES],
}

#[derive(Debug)]
#[repr(C)]
struct SlowWords {
    nanos: AtomicU64,
    job: AtomicU64,
    /// The task's index in its job; in the upper half, which of the task's calls.
    place: AtomicU64,
    /// The length of the text in bytes.
    len: AtomicU64,
    text: [AtomicU64; MAX_TEXT / 8],
}

// SAFETY: repr(C), nothing but atomics; zero is a worker that starts.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for MeterWords {}

/// The worker's end.
#[derive(Debug)]
pub struct Meter {
    words: Placed<MeterWords>,
    clock: fn() -> u64,
    phase: Cell<Phase>,
    /// The time at which the phase began, or the call after the first of a task.
    since: Cell<u64>,
    job: Cell<u64>,
    task: Cell<u32>,
    /// Calls of the task that have begun.
    begun: Cell<u32>,
    /// This worker's own copy: how long the call of each entry took. A lower bound for a new entry
    /// is the least of them.
    nanos: Cell<[u64; ENTRIES]>,
    kept: Cell<u64>,
}

impl Meter {
    /// `clock` gives nanoseconds of the monotonic clock.
    pub(crate) fn new(words: Placed<MeterWords>, clock: fn() -> u64) -> Meter {
        Meter {
            words,
            clock,
            phase: Cell::new(Phase::StartUp),
            since: Cell::new(clock()),
            job: Cell::new(0),
            task: Cell::new(0),
            begun: Cell::new(0),
            nanos: Cell::new([0; ENTRIES]),
            kept: Cell::new(0),
        }
    }

    /// Says that the worker takes tasks from now on.
    pub fn set_ready(&self) {
        let now = (self.clock)();
        self.words.ready_at.store(now.max(1), Ordering::Relaxed);
        self.begin(Phase::Waiting, now);
    }

    /// Says that another phase begins.
    pub fn enter(&self, phase: Phase) {
        let now = (self.clock)();
        self.spend(now);
        self.begin(phase, now);
    }

    /// Says which task is next, and that its arguments are decoded now.
    pub fn begin_task(&self, job: u64, task: u32) {
        self.job.set(job);
        self.task.set(task);
        self.begun.set(0);
        self.enter(Phase::Pickling);
    }

    /// Says that the next call of the user's function begins. One that follows another at once
    /// began when that ended.
    pub fn begin_call(&self) {
        self.begun.set(self.begun.get().wrapping_add(1));
        if self.phase.get() != Phase::Working {
            self.enter(Phase::Working);
        }
    }

    /// Says that the call has ended. Returns whether it is among the slowest; then
    /// [`keep_call`](Meter::keep_call) is to follow.
    pub fn end_call(&self) -> Option<u64> {
        let (now, since) = ((self.clock)(), self.since.get());
        self.spend(now);
        self.since.set(now);
        self.words.calls.store(self.words.calls.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        let nanos = now.saturating_sub(since);
        let (kept, of) = (self.kept.get(), self.nanos.get());
        let is_slow = kept.count_ones() < KEPT as u32 || entries(kept).any(|entry| of[entry] < nanos);
        is_slow.then_some(nanos)
    }

    /// Keeps the call that has just ended as one of the slowest.
    pub fn keep_call(&self, nanos: u64, text: &str) {
        let (kept, mut of) = (self.kept.get(), self.nanos.get());
        let Some(spare) = entries(!kept).next() else { return };
        let words = &self.words.slow[spare];
        let call = self.begun.get().saturating_sub(1);
        words.nanos.store(nanos, Ordering::Relaxed);
        words.job.store(self.job.get(), Ordering::Relaxed);
        words.place.store(u64::from(call) << 32 | u64::from(self.task.get()), Ordering::Relaxed);
        let end = text.char_indices().map(|(at, char)| at + char.len_utf8()).take_while(|end| *end <= MAX_TEXT).last();
        let text = &text.as_bytes()[..end.unwrap_or(0)];
        for (word, bytes) in words.text.iter().zip(text.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
        }
        words.len.store(text.len() as u64, Ordering::Relaxed);
        of[spare] = nanos;
        let mut now_kept = kept | 1 << spare;
        if now_kept.count_ones() > KEPT as u32
            && let Some(least) = entries(now_kept).min_by_key(|entry| of[*entry])
        {
            now_kept &= !(1 << least);
        }
        self.nanos.set(of);
        self.kept.set(now_kept);
        self.words.kept.store(now_kept, Ordering::Release);
    }

    /// After the last call of a task: says that its results are encoded now.
    pub fn end_work(&self) {
        // The call ended then.
        self.begin(Phase::Pickling, self.since.get());
    }

    fn spend(&self, now: u64) {
        let spent = match self.phase.get() {
            Phase::StartUp | Phase::Over => return,
            phase => &self.words.spent[phase as usize - 1],
        };
        let nanos = now.saturating_sub(self.since.get());
        spent.store(spent.load(Ordering::Relaxed).wrapping_add(nanos), Ordering::Relaxed);
    }

    fn begin(&self, phase: Phase, now: u64) {
        self.since.set(now);
        self.phase.set(phase);
        self.words.phase.store(phase as u64, Ordering::Release);
    }
}

/// The indices of the entries whose bits are set.
fn entries(bits: u64) -> impl Iterator<Item = usize> {
    (0..ENTRIES).filter(move |entry| bits >> entry & 1 == 1)
}

/// A worker's words as the parent reads them: they may say anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MeterReading {
    /// The time at which the worker became ready.
    pub ready_at: Option<u64>,
    /// Its phase; `None`: a word that no worker writes.
    pub phase: Option<Phase>,
    /// Nanoseconds of waiting, working and pickling, without the phase that is not over.
    pub spent: [u64; 3],
    /// Calls that have ended.
    pub calls: u64,
}

/// A slow call as its worker says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlowCall {
    /// Its duration.
    pub nanos: u64,
    /// The number of its job.
    pub job: u64,
    /// Its task's index in the job.
    pub task: u32,
    /// Its index among the task's calls.
    pub call: u32,
    /// The function and its arguments.
    pub text: String,
}

impl MeterWords {
    /// Parent: returns where the time went.
    pub(crate) fn read(&self) -> MeterReading {
        let phase = Phase::of(self.phase.load(Ordering::Acquire));
        let ready_at = Some(self.ready_at.load(Ordering::Relaxed)).filter(|at| *at > 0);
        let spent = self.spent.each_ref().map(|spent| spent.load(Ordering::Relaxed));
        MeterReading { ready_at, phase, spent, calls: self.calls.load(Ordering::Relaxed) }
    }

    /// Parent: returns the slowest calls, of which `is_wanted` says so by duration and job.
    pub(crate) fn slowest(&self, is_wanted: impl Fn(u64, u64) -> bool) -> Vec<SlowCall> {
        let mut slowest = Vec::new();
        for _ in 0..MAX_LOOKS {
            let kept = self.kept.load(Ordering::Acquire);
            let read = |entry: usize| self.slow[entry].read(&is_wanted);
            slowest = entries(kept).filter_map(read).collect();
            fence(Ordering::Acquire);
            if self.kept.load(Ordering::Relaxed) == kept {
                break;
            }
        }
        slowest
    }

    /// Parent, while the slot has no worker: sets all back.
    pub(crate) fn reset(&self) {
        let words = [&self.ready_at, &self.phase, &self.calls, &self.kept];
        words.into_iter().chain(&self.spent).for_each(|word| word.store(0, Ordering::Release));
    }
}

impl SlowWords {
    fn read(&self, is_wanted: impl Fn(u64, u64) -> bool) -> Option<SlowCall> {
        let (nanos, job) = (self.nanos.load(Ordering::Relaxed), self.job.load(Ordering::Relaxed));
        if !is_wanted(nanos, job) {
            return None;
        }
        let place = self.place.load(Ordering::Relaxed);
        let len = (self.len.load(Ordering::Relaxed) as usize).min(MAX_TEXT);
        let text: Vec<u8> = self.text.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect();
        let text = String::from_utf8_lossy(&text[..len]).into_owned();
        Some(SlowCall { nanos, job, task: place as u32, call: (place >> 32) as u32, text })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::control::Control;

    thread_local! {
        static NOW: Cell<u64> = const { Cell::new(1000) };
    }

    fn clock() -> u64 {
        NOW.get()
    }

    fn pass(nanos: u64) {
        NOW.set(NOW.get() + nanos);
    }

    fn control() -> Control {
        Control::measured(1, 1).unwrap()
    }

    fn call(meter: &Meter, nanos: u64, text: &str) {
        meter.begin_call();
        pass(nanos);
        if let Some(nanos) = meter.end_call() {
            meter.keep_call(nanos, text);
        }
    }

    fn texts(control: &Control) -> Vec<String> {
        let mut slowest = control.slowest_calls(0, |_, _| true);
        slowest.sort_by_key(|slow| std::cmp::Reverse(slow.nanos));
        slowest.into_iter().map(|slow| slow.text).collect()
    }

    #[test]
    fn time_is_counted_in_the_phase_in_which_it_passes() {
        let control = control();
        let meter = control.meter(0, clock).unwrap();
        assert_eq!(control.read_meter(0).unwrap().ready_at, None);
        pass(10);
        meter.set_ready();
        pass(5);
        meter.begin_task(7, 3);
        pass(2);
        call(&meter, 100, "one");
        call(&meter, 200, "two");
        meter.end_work();
        pass(4);
        meter.enter(Phase::Waiting);
        pass(1000);
        let reading = control.read_meter(0).unwrap();
        assert_eq!((reading.ready_at, reading.phase), (Some(1010), Some(Phase::Waiting)));
        assert_eq!((reading.spent, reading.calls), ([5, 300, 6], 2));
        let slowest = control.slowest_calls(0, |nanos, job| nanos > 100 && job == 7);
        let second = SlowCall { nanos: 200, job: 7, task: 3, call: 1, text: "two".into() };
        assert_eq!(slowest, [second]);
        control.reset_meter(0);
        assert!(control.slowest_calls(0, |_, _| true).is_empty() && control.read_meter(0).unwrap().calls == 0);
    }

    #[test]
    fn slowest_calls_are_kept_whatever_comes_after_them() {
        let control = control();
        let meter = control.meter(0, clock).unwrap();
        meter.set_ready();
        for nanos in [30, 10, 90, 20, 70, 50, 1, 80, 60] {
            meter.begin_task(1, nanos as u32);
            call(&meter, nanos, &nanos.to_string());
        }
        assert_eq!(texts(&control), ["90", "80", "70", "60", "50"]);
        meter.begin_task(1, 0);
        call(&meter, 1000, &"ä".repeat(400));
        assert_eq!(texts(&control)[0], "ä".repeat(256), "it is cut between two characters");
    }

    #[test]
    fn pool_that_does_not_measure_has_no_words_for_it() {
        let control = Control::create(1).unwrap();
        assert!(control.meter(0, clock).is_none() && control.read_meter(0).is_none());
        control.reset_meter(0);
        assert!(control.slowest_calls(0, |_, _| true).is_empty());
    }

    #[test]
    fn any_words_are_read() {
        let mut state = 1_u64;
        for _ in 0..200 {
            let control = control();
            let file = File::from(control.as_fd().try_clone_to_owned().unwrap());
            for _ in 0..400 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                file.write_all_at(&state.to_ne_bytes(), control.meters_at() + (state >> 33) % 3300).unwrap();
            }
            assert!(control.read_meter(0).is_some());
            assert!(control.slowest_calls(0, |_, _| true).len() <= ENTRIES);
        }
    }
}
