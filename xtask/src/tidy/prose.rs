//! The lines of a file that are prose: comments, docstrings, Markdown. Used by the rules for their
//! width and their words.

use super::python::Part;
use super::source::Source;

/// One line of prose.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) number: usize,
    /// The prose alone.
    pub(super) text: &'a str,
    /// The whole line of the file, in which it stands.
    pub(super) whole: &'a str,
}

/// A file's prose without code blocks and the rows of tables.
pub(super) fn lines(source: &Source) -> Vec<Line<'_>> {
    let numbers: Vec<(usize, Option<&str>)> = match source.extension() {
        "md" => (1..=source.text.lines().count()).map(|number| (number, None)).collect(),
        "toml" => comments(&source.text).collect(),
        "rs" => source.rust().comments.iter().map(|one| (one.line, Some(one.text.as_str()))).collect(),
        "py" => source.python().iter().flat_map(|(line, part)| python_lines(*line, part)).collect(),
        _ => Vec::new(),
    };
    let wholes: Vec<&str> = source.text.lines().collect();
    let mut is_code = false;
    let mut previous = 0;
    let mut found = Vec::new();
    for (number, text) in numbers {
        let whole = wholes.get(number - 1).copied().unwrap_or_default();
        let text = text.map_or(whole, |text| &whole[whole.rfind(text).unwrap_or(0)..]);
        // A block that nobody has closed ends with its comment.
        is_code &= number == previous + 1;
        previous = number;
        let content = content(text);
        if content.starts_with("```") || content.starts_with("~~~") {
            is_code = !is_code;
        } else if !is_code && !content.starts_with('|') {
            found.push(Line { number, text, whole });
        }
    }
    found
}

/// The lines of a TOML file that are comments.
fn comments(text: &str) -> impl Iterator<Item = (usize, Option<&str>)> {
    text.lines().enumerate().filter(|(_, line)| line.starts_with('#')).map(|(index, line)| (index + 1, Some(line)))
}

/// Returns the text behind the signs of a comment.
fn content(text: &str) -> &str {
    text.trim_start().trim_start_matches(['/', '#']).trim_start_matches('!').trim_start()
}

fn python_lines(line: usize, part: &Part) -> Vec<(usize, Option<&str>)> {
    match part {
        Part::Word(_) => Vec::new(),
        Part::Comment(text) => vec![(line, Some(text))],
        Part::Docstring(text) => text.split('\n').enumerate().map(|(index, text)| (line + index, Some(text))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(path: &str, text: &str) -> Vec<usize> {
        let source = Source::new(path, text);
        lines(&source).iter().map(|line| line.number).collect()
    }

    #[test]
    fn code_and_tables_are_no_prose() {
        assert_eq!(numbers("a.md", "one\n| a | b |\n```console\n$ x\n```\nsix"), [1, 6]);
        assert_eq!(numbers("a.rs", "//! One.\n//! ```\n//! code();\n//! ```\n//! Five.\nfn f() {} // six"), [1, 5, 6]);
    }

    #[test]
    fn each_line_of_a_docstring_is_prose() {
        assert_eq!(numbers("a.py", "'''One.\n\nThree.'''\nx = 1  # four\n"), [1, 2, 3, 4]);
    }

    #[test]
    fn comments_of_manifests_are_prose() {
        assert_eq!(numbers("a.toml", "# One.\n[a]\nb = \"# no\"\n"), [1]);
    }

    #[test]
    fn a_block_that_is_not_closed_ends_with_its_comment() {
        assert_eq!(numbers("a.rs", "// ```\n// code\nfn f() {}\n// four"), [4]);
    }

    #[test]
    fn the_text_is_what_the_comment_says() {
        let source = Source::new("a.rs", "let x = 1; // why\n");
        assert_eq!(lines(&source), [Line { number: 1, text: "// why", whole: "let x = 1; // why" }]);
    }
}
