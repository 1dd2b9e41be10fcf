//! Words that were coined for this project, where the field has a term. Each is banned where it
//! cannot have its ordinary sense: some in names and prose, the others in names alone.

use std::collections::HashMap;

use super::prose;
use super::source::{Finding, Source};

/// Words that are banned in names and in prose, and what to say for them.
const IN_ALL: [(&[&str], &str); 6] = [
    (&["condemn", "condemns", "condemned"], "stop"),
    (&["bury", "buries", "buried", "burial"], "reap, or what is done for the dead"),
    (&["bereave", "bereaves", "bereaved", "bereft"], "the owner has died"),
    (&["newborn", "newborns"], "new child"),
    (&["senseless"], "invalid"),
    (&["desk", "desks", "seat", "seats"], "handle broker; waiter's mutex"),
];

/// Words that are banned as a part of a name, and what to say for them.
const IN_NAMES: [(&[&str], &str); 4] = [
    (&["taker", "takers"], "holder"),
    (&["hands"], "begun"),
    (&["sight", "sights"], "what is seen: state, progress"),
    (&["letterbox", "tap", "taps"], "mailbox; feed"),
];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut known = HashMap::new();
    sources.iter().flat_map(|source| check_source(source, &mut known)).collect()
}

/// `known`: the coined word in each name that was looked at before.
fn check_source<'a>(source: &'a Source, known: &mut HashMap<&'a str, Option<String>>) -> Vec<Finding> {
    let coined = |name| parts(name).into_iter().find(|part| term(part, true).is_some());
    let names = names(source);
    let in_names = names.iter().filter_map(|(line, name)| {
        let word = known.entry(name).or_insert_with(|| coined(name)).as_deref()?;
        Some(finding(source, *line, word, true))
    });
    let lines = prose::lines(source);
    let in_prose = lines.iter().flat_map(|line| {
        let words = line.text.split(|one: char| !one.is_alphabetic()).map(str::to_lowercase);
        words.filter(|word| term(word, false).is_some()).map(|word| finding(source, line.number, &word, false))
    });
    let mut found: Vec<Finding> = in_names.chain(in_prose).collect();
    found.sort_by_key(|finding| finding.line);
    found.dedup();
    found
}

fn finding(source: &Source, line: usize, word: &str, is_name: bool) -> Finding {
    let term = term(word, is_name).unwrap_or_default();
    source.finding(line, format!("`{word}` was coined here; use the field's term ({term})"))
}

fn term(word: &str, is_name: bool) -> Option<&'static str> {
    let names = if is_name { &IN_NAMES[..] } else { &[] };
    IN_ALL.iter().chain(names).find(|(words, _)| words.contains(&word)).map(|(_, term)| *term)
}

/// The identifiers of a file, each with its line.
fn names(source: &Source) -> Vec<(usize, &str)> {
    match source.extension() {
        "rs" => {
            source.rust().tokens.iter().filter_map(|(line, token)| token.word().map(|word| (*line, word))).collect()
        }
        "py" => source.python().iter().filter_map(|(line, part)| part.word().map(|word| (*line, word))).collect(),
        _ => Vec::new(),
    }
}

/// The words of `a_name`, `ThisName` or `A_NAME`.
fn parts(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_small = false;
    for one in name.chars() {
        if one == '_' || (one.is_uppercase() && was_small) {
            words.push(String::new());
        }
        if one != '_' {
            words.last_mut().expect("one was pushed").extend(one.to_lowercase());
        }
        was_small = one.is_lowercase();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<usize> {
        check(&[Source::new(path, text)]).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn names_are_split_into_words() {
        assert_eq!(parts("take_the_Seat"), ["take", "the", "seat"]);
        assert_eq!(parts("SeatGuard"), ["seat", "guard"]);
        assert_eq!(parts("MAX_SEATS"), ["max", "seats"]);
    }

    #[test]
    fn coined_words_are_found_in_names() {
        assert_eq!(found("a.rs", "fn f() {\n    condemn_slot(SeatGuard);\n}\nlet takers = 1;\n"), [2, 2, 4]);
        assert_eq!(found("a.py", "def bury(pid):\n    return newborn_count\n"), [1, 2]);
        assert_eq!(found("a.rs", "let seatbelt = wiretap(\"seat\");\n"), []);
    }

    #[test]
    fn coined_words_are_found_in_prose_if_they_have_no_other_sense() {
        assert_eq!(found("a.md", "A Seat is taken.\nAt first sight.\nOther hands.\n"), [1]);
        assert_eq!(found("a.rs", "// It is bereft.\nfn f() {}\n"), [1]);
    }
}
