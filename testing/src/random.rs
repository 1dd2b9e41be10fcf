//! Random numbers that a seed replays.

use std::time::{SystemTime, UNIX_EPOCH};

/// Numbers that depend on a seed and on nothing else.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Begins the numbers of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number that is less than `below`; 0 if `below` is 0.
    pub fn below(&mut self, below: u64) -> u64 {
        self.number() % below.max(1)
    }

    /// Returns the index of one of `count` things; 0 if there are none.
    pub fn index(&mut self, count: usize) -> usize {
        self.below(count as u64) as usize
    }
}

/// Returns a seed that no other run is likely to have.
pub fn seed_of_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64 >> 8)
}

/// Returns the number in an environment variable, if it is set.
///
/// # Panics
///
/// If the variable holds something else.
pub(crate) fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_replays_its_numbers() {
        let numbers = |seed| {
            let mut random = Random::new(seed);
            [(); 20].map(|()| random.below(1000))
        };
        assert_eq!(numbers(5), numbers(5));
        assert_ne!(numbers(5), numbers(7));
    }
}
