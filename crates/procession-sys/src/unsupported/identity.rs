//! No identities. As [`linux/identity.rs`](../linux/identity.rs).

use super::pidfd::current_pid;

/// A process, by its pid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity(u64);

impl Identity {
    /// This process.
    pub fn of_self() -> Identity {
        Identity(current_pid().into())
    }

    /// As a word.
    pub fn to_word(self) -> u64 {
        self.0
    }

    /// From a word; 0 is nobody.
    pub fn from_word(word: u64) -> Option<Identity> {
        (word != 0).then_some(Identity(word))
    }

    /// Its pid.
    pub fn pid(self) -> u32 {
        self.0 as u32
    }

    /// Nobody is declared dead on a suspicion.
    pub fn has_ended(self) -> bool {
        false
    }
}
