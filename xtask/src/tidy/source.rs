//! The files that the rules look at, and what a rule says of one. Used by every rule.

use std::cell::OnceCell;
use std::fmt;
use std::fs;
use std::path::Path;

use super::python::{self, Part};
use super::rust::{self, Lexed};

/// The extensions of the files that are read.
const EXTENSIONS: [&str; 4] = ["rs", "py", "md", "toml"];

/// One file of the project.
pub(super) struct Source {
    /// From the project's root, with `/` between the parts.
    pub(super) path: String,
    pub(super) text: String,
    rust: OnceCell<Lexed>,
    python: OnceCell<Vec<(usize, Part)>>,
}

impl Source {
    pub(super) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into(), rust: OnceCell::new(), python: OnceCell::new() }
    }

    /// The tokens and comments of Rust source. Several rules look at them.
    pub(super) fn rust(&self) -> &Lexed {
        self.rust.get_or_init(|| rust::lex(&self.text))
    }

    /// The parts of Python source. Several rules look at them.
    pub(super) fn python(&self) -> &[(usize, Part)] {
        self.python.get_or_init(|| python::parts(&self.text))
    }

    /// Returns the part of its name behind the last dot.
    pub(super) fn extension(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }

    pub(super) fn finding(&self, line: usize, text: impl Into<String>) -> Finding {
        Finding { place: self.path.clone(), line, text: text.into() }
    }
}

/// The fault in one line, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// A file's path, or a commit.
    pub(super) place: String,
    /// From 1.
    pub(super) line: usize,
    pub(super) text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.place, self.line, self.text)
    }
}

/// Reads all sources below `root`, in the order of their paths. Hidden folders and what a build has
/// written are left out.
pub(super) fn read(root: &Path) -> Result<Vec<Source>, String> {
    let mut sources = Vec::new();
    visit(root, "", &mut sources)?;
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(sources)
}

fn visit(folder: &Path, prefix: &str, sources: &mut Vec<Source>) -> Result<(), String> {
    let cannot_read = |error: std::io::Error| format!("cannot read {}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(cannot_read)? {
        let entry = entry.map_err(cannot_read)?;
        let kind = entry.file_type().map_err(cannot_read)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if kind.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "__pycache__" {
                visit(&entry.path(), &format!("{path}/"), sources)?;
            }
        } else if kind.is_file() && EXTENSIONS.iter().any(|extension| name.ends_with(&format!(".{extension}"))) {
            let text = fs::read_to_string(entry.path()).map_err(|error| format!("cannot read {path}: {error}"))?;
            sources.push(Source::new(path, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_found_in_folders_but_not_in_hidden_and_built_ones() {
        let root = tempfile::tempdir().expect("a folder");
        for path in ["b/x.rs", "a.md", ".git/x.rs", "b/target/x.rs", "b/x.png"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is made");
            fs::write(path, "text").expect("the file is written");
        }
        let sources = read(root.path()).expect("all can be read");
        assert_eq!(sources.iter().map(|source| source.path.as_str()).collect::<Vec<_>>(), ["a.md", "b/x.rs"]);
        assert_eq!(sources[1].extension(), "rs");
    }

    #[test]
    fn finding_names_its_place() {
        let source = Source::new("a/b.rs", "");
        assert_eq!(source.finding(7, "too long").to_string(), "a/b.rs:7: too long");
    }
}
