//! Counts words in files, and adds counts. Runs in the workers.
//!
//! A word is a run of ASCII letters and digits, whatever their case:
//! `examples/python/word_count.py` has the same definition.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The number of times that each word occurs.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Words(HashMap<String, u64>);

impl Words {
    /// Adds another count.
    pub(crate) fn plus(mut self, other: Words) -> Words {
        for (word, count) in other.0 {
            *self.0.entry(word).or_default() += count;
        }
        self
    }

    /// Returns how many words there are.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Returns the `n` commonest words, the commonest first.
    pub(crate) fn commonest(&self, n: usize) -> Vec<(&str, u64)> {
        let mut ranked: Vec<_> = self.0.iter().map(|(word, count)| (word.as_str(), *count)).collect();
        ranked.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        ranked.truncate(n);
        ranked
    }

    fn add(&mut self, bytes: &[u8]) {
        for word in bytes.split(|byte| !byte.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
            let word = String::from_utf8_lossy(word).to_ascii_lowercase();
            *self.0.entry(word).or_default() += 1;
        }
    }
}

/// The task: counts the words of some files. A path is any bytes: serde takes an `OsString` as it
/// is, a `PathBuf` only if it is UTF-8.
pub(crate) fn count(files: Vec<OsString>) -> Result<Words, String> {
    let mut words = Words::default();
    for path in &files {
        words.add(&fs::read(path).map_err(|error| format!("cannot read {}: {error}", Path::new(path).display()))?);
    }
    Ok(words)
}

/// Returns the first `max` files below `path` with their lengths, in the order of their paths'
/// bytes.
pub(crate) fn files_below(path: &Path, max: usize) -> Result<Vec<(PathBuf, u64)>, String> {
    let mut files = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let unreadable = |error| format!("cannot read {}: {error}", folder.display());
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            // The kind of a link itself, so that a tree with a link to itself has an end.
            let kind = entry.file_type().map_err(unreadable)?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push((entry.path(), entry.metadata().map_err(unreadable)?.len()));
            }
        }
    }
    files.sort_by(|(one, _), (other, _)| one.as_os_str().as_bytes().cmp(other.as_os_str().as_bytes()));
    files.truncate(max);
    Ok(files)
}

/// Cuts files into about `wanted` batches of about the same number of bytes.
pub(crate) fn batches(files: &[(PathBuf, u64)], wanted: usize) -> Vec<Vec<OsString>> {
    let total: u64 = files.iter().map(|(_, len)| len).sum();
    let share = (total / wanted as u64).max(1);
    let mut batches = Vec::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for (path, len) in files {
        batch.push(path.clone().into_os_string());
        bytes += len;
        if bytes >= share {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
    }
    batches.extend((!batch.is_empty()).then_some(batch));
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("below")).unwrap();
        fs::write(folder.path().join("a"), "The cat.\nthe DOG").unwrap();
        fs::write(folder.path().join("below/b"), "cat and \u{c4}pfel\n").unwrap();
        let files = files_below(folder.path(), 10).unwrap();
        let paths = |files: &[(PathBuf, u64)]| files.iter().map(|(path, _)| path.clone().into_os_string()).collect();
        let together = count(paths(&files)).unwrap();
        let apart = count(paths(&files[..1])).unwrap().plus(count(paths(&files[1..])).unwrap());
        assert_eq!(together, apart);
        assert_eq!(together.total(), 7);
        assert_eq!(together.commonest(3), [("cat", 2), ("the", 2), ("and", 1)]);
        assert_eq!(files_below(folder.path(), 1).unwrap(), files[..1]);
    }

    #[test]
    fn batches_hold_every_file_once() {
        let files: Vec<_> = (0..100u64).map(|i| (PathBuf::from(i.to_string()), i * i)).collect();
        for wanted in [1, 7, 1000] {
            let batched: Vec<_> = batches(&files, wanted).concat();
            assert!(batched.iter().eq(files.iter().map(|(path, _)| path.as_os_str())), "{wanted} wanted");
        }
    }
}
