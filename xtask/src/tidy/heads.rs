//! Each source file begins with what it is: a doc comment in Rust, a docstring in Python.

use super::source::{Finding, Source};

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    sources.iter().filter_map(check_source).collect()
}

fn check_source(source: &Source) -> Option<Finding> {
    let mut lines = source.text.lines().filter(|line| !line.starts_with("#!/") && !line.trim().is_empty());
    let first = lines.next().unwrap_or_default();
    let wanted = match source.extension() {
        "rs" if !first.starts_with("//! ") => "a line of `//!`",
        "py" if !first.starts_with("\"\"\"") => "a docstring",
        _ => return None,
    };
    Some(source.finding(1, format!("no head; begin the file with {wanted} that says what it is and who uses it")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_good(path: &str, text: &str) -> bool {
        check(&[Source::new(path, text)]).is_empty()
    }

    #[test]
    fn rust_begins_with_a_doc_comment() {
        assert!(is_good("a.rs", "//! What it is.\n"));
        assert!(!is_good("a.rs", "// What it is.\n"));
        assert!(!is_good("a.rs", "use std::fs;\n\n//! Late.\n"));
        assert!(!is_good("a.rs", ""));
    }

    #[test]
    fn python_begins_with_a_docstring() {
        assert!(is_good("a.py", "#!/usr/bin/env python3\n\"\"\"What it is.\"\"\"\n"));
        assert!(!is_good("a.py", "import os\n"));
    }

    #[test]
    fn other_files_need_no_head() {
        assert!(is_good("a.toml", "[package]\n"));
    }
}
