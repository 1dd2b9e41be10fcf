//! No identities. As [`linux/identity.rs`](../linux/identity.rs).

use super::pidfd::current_pid;

/// A process, by its pid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity(u64);

impl Identity {
    /// Returns this process.
    pub fn of_self() -> Identity {
        Identity(current_pid().into())
    }

    /// Returns the word.
    pub fn to_word(self) -> u64 {
        self.0
    }

    /// Makes one of a word; 0 is nobody.
    pub fn from_word(word: u64) -> Option<Identity> {
        (word != 0).then_some(Identity(word))
    }

    /// Returns the pid.
    pub fn pid(self) -> u32 {
        self.0 as u32
    }

    /// Returns `false`: no process is declared dead on a suspicion.
    pub fn has_ended(self) -> bool {
        false
    }
}
