//! One idle worker at a time looks for work; the others sleep. A worker that looks costs a core,
//! and two that look in turns take each other's time and the caller's. A worker that has just run a
//! task lingers for a moment, since the next one often follows. Used by the workers of a pool, and
//! by the parent when it pushes tasks.
//!
//! The word is 0, or one more than the slot of the worker that looks.
//!
//! | worker | parent |
//! |---|---|
//! | 1. word: 0 becomes its own | 1. push tasks |
//! | 2. looks at the ring for a few times as long as a wake takes | 2. fence |
//! | 3. word: its own becomes 0 | 3. word not 0: wake one sleeper fewer than there are tasks |
//! | 4. claims, or sleeps at the gate, which looks again behind a fence | |
//! | 5. after a claim that leaves tasks in the ring: wake one sleeper | |
//!
//! **No task is left behind.** Of the fences in the parent's 2 and the worker's 4 one is first. If
//! it is the parent's, the worker's look in 4 finds the task; if it is the worker's, the parent
//! sees 0 and wakes a sleeper. A claim that takes some of several tasks wakes the next worker, who
//! does the same. `models/tests/search.rs` checks it.
//!
//! | death, or stop | what it leaves |
//! |---|---|
//! | after 1 | the word names a worker that does not look: when the worker is reaped, and at a tick that finds tasks in the ring, the parent [ends](Search::end) the search and wakes a sleeper |
//! | after 3, before 4 or 5 | tasks of which no sleeper knows: the same tick wakes one |

use crate::fault::{Step, point};
use crate::primitive::{AtomicU32, Ordering, fence};
use crate::spin::Spin;

const NOBODY: u32 = 0;

/// Names the worker that looks for work. All zero names none.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Search {
    word: AtomicU32,
}

impl Search {
    /// Makes one in which nobody looks.
    #[allow(clippy::new_without_default, reason = "only models and tests make one that is not in a segment")]
    pub fn new() -> Search {
        Search { word: AtomicU32::new(NOBODY) }
    }

    /// Worker: looks by `spin` until the condition holds; by `beside` while another worker looks.
    /// Returns whether the condition holds.
    pub fn look(&self, slot: u32, spin: &Spin, beside: &Spin, mut condition: impl FnMut() -> bool) -> bool {
        let own = slot + 1;
        let begin = || self.word.compare_exchange(NOBODY, own, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let mut is_own = begin();
        if !is_own {
            let holds = beside.until(&mut || {
                is_own = self.word.load(Ordering::Relaxed) == NOBODY && begin();
                is_own || condition()
            });
            if !is_own {
                return holds;
            }
        }
        point(Step::SearchBegun);
        let holds = spin.until(&mut condition);
        // Unless the parent has ended it, and another looks.
        let _ = self.word.compare_exchange(own, NOBODY, Ordering::Release, Ordering::Relaxed);
        point(Step::SearchEnded);
        fence(Ordering::SeqCst);
        holds
    }

    /// Parent: returns whether a worker looks, who finds what the caller has pushed.
    pub fn is_on(&self) -> bool {
        fence(Ordering::SeqCst);
        self.word.load(Ordering::Relaxed) != NOBODY
    }

    /// Parent: ends a search, if there is one. The worker that looks goes on, and another may.
    pub fn end(&self) {
        self.word.store(NOBODY, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn look(search: &Search, slot: u32, condition: impl FnMut() -> bool) -> bool {
        search.look(slot, &Spin::none(), &Spin::none(), condition)
    }

    #[test]
    fn one_worker_looks_at_a_time() {
        let search = Search::new();
        assert!(look(&search, 3, || {
            let mut looks = 0;
            let found = look(&search, 4, || {
                looks += 1;
                false
            });
            // It has a last look before it sleeps.
            search.is_on() && !found && looks == 1
        }));
        assert!(!search.is_on());
    }

    #[test]
    fn a_worker_that_lingers_looks_on_when_the_other_has_found_work() {
        let search = Search::new();
        let found = look(&search, 0, || {
            let mut looks = 0;
            search.look(1, &Spin::new(2), &Spin::new(2), || {
                looks += 1;
                if looks == 2 {
                    // As the other does once it has found work.
                    search.end();
                }
                looks > 3 && search.word.load(Ordering::Relaxed) == 2
            })
        });
        assert!(found && !search.is_on());
    }

    #[test]
    fn a_search_that_was_ended_does_not_end_the_next() {
        let search = Search::new();
        look(&search, 0, || {
            search.end();
            search.word.store(2, Ordering::Relaxed);
            true
        });
        assert!(search.is_on(), "slot 1 looks");
    }
}
