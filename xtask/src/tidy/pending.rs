//! The folders and files whose prose is not yet written by the rules. Used by the rules for its
//! width and its words. A file that is done leaves this list; the list goes when it is empty.

use super::source::Source;

const PENDING: [&str; 1] = ["crates/procession-python/python/"];

pub(super) fn is_pending(source: &Source) -> bool {
    PENDING.iter().any(|pending| source.path.starts_with(pending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_no_prefix_of_another() {
        let source = |path: &str| Source::new(path, "");
        assert!(is_pending(&source("crates/procession-python/python/procession/pool.py")));
        assert!(!is_pending(&source("crates/procession-python/pythonic.rs")));
    }
}
