//! Prose is at most 100 columns wide, so that it can be read beside a diff. Tables and blocks of
//! code are as wide as they must be, and a URL is not counted.

use super::prose;
use super::source::{Finding, Source};

const MAX_COLUMNS: usize = 100;

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    sources.iter().flat_map(check_source).collect()
}

fn check_source(source: &Source) -> impl Iterator<Item = Finding> + '_ {
    prose::lines(source).into_iter().filter(|line| !is_directive(line.whole)).filter_map(|line| {
        let columns = columns(line.whole);
        (columns > MAX_COLUMNS)
            .then(|| source.finding(line.number, format!("{columns} columns of prose; wrap it at {MAX_COLUMNS}")))
    })
}

/// Returns whether the comment behind a line of code is for a tool, which wants it there.
fn is_directive(line: &str) -> bool {
    let begins_with_code = !line.trim_start().starts_with('#');
    begins_with_code && ["  # type: ", "  # noqa"].iter().any(|directive| line.contains(directive))
}

/// The width of a line without its URLs.
fn columns(line: &str) -> usize {
    let mut rest = line;
    let mut columns = 0;
    while let Some(begin) = rest.find("https://").or_else(|| rest.find("http://")) {
        columns += rest[..begin].chars().count();
        let url = &rest[begin..];
        rest = &url[url.find([' ', ')', '>', ']']).unwrap_or(url.len())..];
    }
    columns + rest.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<usize> {
        check(&[Source::new(path, text)]).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn prose_is_found_if_it_is_wide() {
        let wide = "word ".repeat(20) + "x";
        assert_eq!(found("a.md", &format!("{wide}\n")), [1]);
        assert_eq!(found("a.md", &format!("{}\n| {wide} |\n```\n{wide}\n```\n", &wide[..100])), []);
        assert_eq!(found("a.rs", &format!("//! {wide}\nfn f() {{ g(\"{wide}\") }}\n")), [1]);
        assert_eq!(found("a.py", &format!("'''Head.\n\n{wide}\n'''\nx = '{wide}'\n# {wide}\n")), [3, 6]);
    }

    #[test]
    fn columns_are_characters_without_urls() {
        assert_eq!(columns("é─▶"), 3);
        assert_eq!(columns("[a](https://example.org/b), [c](http://example.org) d"), "[a](), [c]() d".len());
    }

    #[test]
    fn a_directive_behind_code_does_not_count() {
        let code = "1 + ".repeat(25);
        assert_eq!(found("a.py", &format!("x = {code}1  # type: ignore[misc]\n")), []);
        assert_eq!(found("a.py", &format!("x = {code}1  # for a reason\n")), [1]);
    }

    #[test]
    fn a_comment_behind_code_counts_with_the_code() {
        assert_eq!(found("a.rs", &format!("let x = {}; // why\n", "1 + ".repeat(25))), [1]);
    }
}
