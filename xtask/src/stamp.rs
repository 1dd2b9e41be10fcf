//! Stamps: a file beside a product names the input it was made from, so that nothing is made twice
//! and an interrupted step is repeated.

use std::fs;
use std::path::Path;

use crate::Outcome;

/// Reads a stamp. One that is missing or unreadable is empty.
pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

pub(crate) fn write(path: &Path, text: &str) -> Outcome {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
