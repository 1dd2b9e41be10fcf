//! Stamps: a file beside what was made says from what, so that nothing is made twice and what was
//! cut short is repeated.

use std::fs;
use std::path::Path;

use crate::Outcome;

/// A stamp that is not there, or not readable, stands for nothing.
pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

pub(crate) fn write(path: &Path, text: &str) -> Outcome {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
