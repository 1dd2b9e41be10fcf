//! Finds the words, comments and docstrings of Python source. Used by the rules that look into
//! `.py` files.

/// A part of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Word(String),
    /// One line, from its `#` on.
    Comment(String),
    /// A string that is a statement of its own: its content.
    Docstring(String),
}

impl Part {
    pub(super) fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// The parts of a file, each with the line in which it begins. Other strings are left out.
pub(super) fn parts(text: &str) -> Vec<(usize, Part)> {
    let mut found = Vec::new();
    let (mut rest, mut line, mut depth) = (text, 1, 0_usize);
    let mut is_at_start = true;
    while let Some(first) = rest.chars().next() {
        let (length, part) = match first {
            '#' => {
                let length = rest.find('\n').unwrap_or(rest.len());
                (length, Some(Part::Comment(rest[..length].to_owned())))
            }
            _ if opening_of_string(rest).is_some() => {
                let (length, content) = string(rest);
                let is_docstring = is_at_start && depth == 0;
                (length, is_docstring.then(|| Part::Docstring(content.to_owned())))
            }
            '_' | 'a'..='z' | 'A'..='Z' | '0'..='9' => {
                let length = rest.find(|one: char| one != '_' && !one.is_alphanumeric()).unwrap_or(rest.len());
                (length, Some(Part::Word(rest[..length].to_owned())))
            }
            '(' | '[' | '{' => {
                depth += 1;
                (1, None)
            }
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                (1, None)
            }
            _ => (first.len_utf8(), None),
        };
        let taken = &rest[..length];
        is_at_start = first == '\n' || (is_at_start && (first.is_whitespace() || first == '#'));
        found.extend(part.map(|part| (line, part)));
        line += taken.matches('\n').count();
        rest = &rest[length..];
    }
    found
}

/// The length of a string's prefix and quotes, if the source begins with one.
fn opening_of_string(rest: &str) -> Option<(usize, &str)> {
    let prefix = rest.find(|one| !"rRbBfFuUtT".contains(one)).filter(|&prefix| prefix <= 2)?;
    if !rest[prefix..].starts_with(['"', '\'']) {
        return None;
    }
    let quotes = &rest[prefix..];
    let length = if quotes.starts_with("\"\"\"") || quotes.starts_with("'''") { 3 } else { 1 };
    Some((prefix, &quotes[..length]))
}

/// The length of the string with which the source begins, and its content.
fn string(rest: &str) -> (usize, &str) {
    let (prefix, quotes) = opening_of_string(rest).expect("a string begins here");
    let begin = prefix + quotes.len();
    let content = &rest[begin..];
    let mut is_escaped = false;
    for (index, one) in content.char_indices() {
        if is_escaped {
            is_escaped = false;
        } else if one == '\\' {
            is_escaped = true;
        } else if content[index..].starts_with(quotes) {
            return (begin + index + quotes.len(), &content[..index]);
        }
    }
    (rest.len(), content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docstrings_are_told_from_other_strings() {
        let text = "\"\"\"Head.\n\nMore.\n\"\"\"\nx = '# no'\ndef f(y='z'):\n    # why\n    'Does.'\n    return g(\n        'a')\n";
        let found: Vec<_> = parts(text).into_iter().filter(|(_, part)| !matches!(part, Part::Word(_))).collect();
        let head = Part::Docstring("Head.\n\nMore.\n".into());
        let expected = [(1, head), (7, Part::Comment("# why".into())), (8, Part::Docstring("Does.".into()))];
        assert_eq!(found, expected);
    }

    #[test]
    fn words_are_found_outside_of_strings() {
        let words: Vec<_> = parts("rest = rb'\\' in' + f\"\"\"it's\"\"\" if number else 1").into_iter().collect();
        let expected = ["rest", "if", "number", "else", "1"].map(|word| (1, Part::Word(word.into())));
        assert_eq!(words, expected);
    }
}
