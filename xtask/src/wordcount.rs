//! The demo's work: what is counted in a file, and how counts add up. Runs in the workers.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What some files contain.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) files: u64,
    /// Files that are not UTF-8 text, and so are not counted.
    pub(crate) skipped: u64,
    pub(crate) bytes: u64,
    pub(crate) lines: u64,
    pub(crate) words: u64,
    counts: HashMap<String, u64>,
}

impl Tally {
    /// Counts a file. Words are runs of letters and digits, without regard to case.
    pub(crate) fn add_file(&mut self, path: &Path) -> std::io::Result<()> {
        let bytes = fs::read(path)?;
        match text_of(&bytes) {
            Some(text) => self.add_text(text),
            None => self.skipped += 1,
        }
        Ok(())
    }

    /// Adds what another has counted.
    pub(crate) fn merge(&mut self, other: Tally) {
        self.files += other.files;
        self.skipped += other.skipped;
        self.bytes += other.bytes;
        self.lines += other.lines;
        self.words += other.words;
        for (word, count) in other.counts {
            *self.counts.entry(word).or_default() += count;
        }
    }

    /// The `n` commonest words, the commonest first.
    pub(crate) fn commonest(&self, n: usize) -> Vec<(&str, u64)> {
        let mut ranked: Vec<_> = self.counts.iter().map(|(word, count)| (word.as_str(), *count)).collect();
        ranked.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        ranked.truncate(n);
        ranked
    }

    fn add_text(&mut self, text: &str) {
        self.files += 1;
        self.bytes += text.len() as u64;
        self.lines += text.lines().count() as u64;
        let mut lower = String::new();
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            self.words += 1;
            lower.clear();
            lower.extend(word.chars().flat_map(char::to_lowercase));
            match self.counts.get_mut(&lower) {
                Some(count) => *count += 1,
                None => drop(self.counts.insert(lower.clone(), 1)),
            }
        }
    }
}

/// Every file below `path` with its length, in an order that does not change from run to run.
pub(crate) fn files_below(path: &Path) -> Result<Vec<(PathBuf, u64)>, String> {
    let mut files = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let unreadable = |error| format!("cannot read {}: {error}", folder.display());
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            // A link's own kind: a tree that links to itself has an end.
            let kind = entry.file_type().map_err(unreadable)?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push((entry.path(), entry.metadata().map_err(unreadable)?.len()));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn text_of(bytes: &[u8]) -> Option<&str> {
    const BEGINNING: usize = 1024;
    if bytes[..bytes.len().min(BEGINNING)].contains(&0) {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        fs::write(dir.path().join("a"), "The cat.\nthe DOG").unwrap();
        fs::write(dir.path().join("below/b"), "cat and Äpfel\n").unwrap();
        fs::write(dir.path().join("c"), [0, 1, 2]).unwrap();
        let files = files_below(dir.path()).unwrap();
        let mut together = Tally::default();
        let mut merged = Tally::default();
        for (path, _) in &files {
            together.add_file(path).unwrap();
            let mut one = Tally::default();
            one.add_file(path).unwrap();
            merged.merge(one);
        }
        assert_eq!(together, merged);
        assert_eq!((together.files, together.skipped, together.lines, together.words), (2, 1, 3, 7));
        assert_eq!(together.commonest(3), [("cat", 2), ("the", 2), ("and", 1)]);
    }
}
