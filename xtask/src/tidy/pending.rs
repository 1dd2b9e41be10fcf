//! The folders whose prose is not yet written by the rules. Used by the rules for its width and its
//! words. A folder that is done leaves this list; the list goes when it is empty.

use super::source::Source;

const FOLDERS: [&str; 3] = ["crates/procession/", "crates/procession-core/", "crates/procession-python/"];

pub(super) fn is_pending(source: &Source) -> bool {
    FOLDERS.iter().any(|folder| source.path.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_no_prefix_of_another() {
        let source = |path: &str| Source::new(path, "");
        assert!(is_pending(&source("crates/procession/src/lib.rs")));
        assert!(!is_pending(&source("crates/procession-sys/src/lib.rs")));
    }
}
