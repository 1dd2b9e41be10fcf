//! Files of a crate do not import each other in a circle: each can be read with what is below it.

use std::collections::{BTreeMap, BTreeSet};

use super::modules::Modules;
use super::source::{Finding, Source};

/// A crate's root, and how many files each circle may have that is allowed, the largest first.
const LIMITS: [(&str, &[usize]); 9] = [
    ("crates/procession-sys/src/lib.rs", &[]),
    ("crates/procession-shm/src/lib.rs", &[]),
    // A family of at most 5 files in `start/` might be worth one.
    ("crates/procession-core/src/lib.rs", &[]),
    ("crates/procession/src/lib.rs", &[]),
    ("crates/procession-python/src/lib.rs", &[]),
    ("benches/src/main.rs", &[]),
    ("stress/src/main.rs", &[]),
    ("testing/src/lib.rs", &[]),
    ("xtask/src/main.rs", &[]),
];

/// The files that a file imports, each with a line that does.
type Imports = BTreeMap<String, BTreeMap<String, usize>>;

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    LIMITS.iter().flat_map(|(root, limits)| check_crate(sources, root, limits)).collect()
}

fn check_crate(sources: &[Source], root: &str, limits: &[usize]) -> Vec<Finding> {
    let mut imports = Imports::new();
    for (from, line, to) in Modules::read(sources, root).imports() {
        imports.entry(from).or_default().entry(to).or_insert(line);
    }
    let mut circles = circles(&imports);
    circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    let limits = limits.iter().copied().chain(std::iter::repeat(0));
    let circles = circles.iter().zip(limits).filter(|(circle, limit)| circle.len() > *limit);
    circles.map(|(circle, limit)| finding(&imports, circle, limit)).collect()
}

/// The sets of files of which each imports each, by way of the others.
fn circles(imports: &Imports) -> Vec<BTreeSet<&str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|file| (file.as_str(), reached(imports, file))).collect();
    let mut circles = BTreeSet::new();
    for (file, files) in &reached {
        let mutual = |other: &&str| reached.get(other).is_some_and(|files| files.contains(file));
        let circle: BTreeSet<&str> = files.iter().copied().filter(mutual).collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn reached<'a>(imports: &'a Imports, file: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![file];
    while let Some(file) = waiting.pop() {
        for imported in imports.get(file).into_iter().flat_map(BTreeMap::keys) {
            if found.insert(imported.as_str()) {
                waiting.push(imported);
            }
        }
    }
    found
}

/// Names the shortest way round from the circle's first file.
fn finding(imports: &Imports, circle: &BTreeSet<&str>, limit: usize) -> Finding {
    let first = *circle.first().expect("a circle has files");
    let mut ways = vec![vec![first]];
    let mut seen = BTreeSet::new();
    let mut round = Vec::new();
    while round.is_empty() && !ways.is_empty() {
        let mut longer = Vec::new();
        for way in &ways {
            let last = *way.last().expect("a way has a beginning");
            for next in imports[last].keys().filter(|next| circle.contains(next.as_str())) {
                let way = [&way[..], &[next.as_str()]].concat();
                if next == first {
                    round.clone_from(&way);
                } else if seen.insert(next.as_str()) {
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    let steps: Vec<String> =
        round.windows(2).map(|step| format!("{}:{}", step[0], imports[step[0]][step[1]])).collect();
    let line = imports[first][round[1]];
    let text = format!(
        "{} files import each other in a circle, and {limit} may; move what two of them need below both: {} -> {first}",
        circle.len(),
        steps.join(" -> "),
    );
    Finding { place: first.to_owned(), line, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> Vec<Source> {
        files.iter().map(|(path, text)| Source::new(*path, *text)).collect()
    }

    fn crate_with_two_circles() -> Vec<Source> {
        sources(&[
            ("src/lib.rs", "mod a; mod b; mod c; mod d; mod e; mod f;"),
            ("src/a.rs", "use crate::b::B; struct A;"),
            ("src/b.rs", "\nuse crate::c::C; struct B;"),
            ("src/c.rs", "use crate::a::A; struct C;"),
            ("src/d.rs", "use crate::e::E; use crate::a::A; struct D;"),
            ("src/e.rs", "use crate::d::D; struct E;"),
            ("src/f.rs", "use crate::a::A;"),
        ])
    }

    #[test]
    fn each_circle_is_found() {
        let found = check_crate(&crate_with_two_circles(), "src/lib.rs", &[]);
        assert_eq!(found.iter().map(|finding| finding.place.as_str()).collect::<Vec<_>>(), ["src/a.rs", "src/d.rs"]);
        assert!(found[0].text.starts_with("3 files"), "{}", found[0].text);
        assert!(found[0].text.ends_with("src/a.rs:1 -> src/b.rs:2 -> src/c.rs:1 -> src/a.rs"), "{}", found[0].text);
    }

    #[test]
    fn circles_may_be_there_if_they_are_small_and_few() {
        let count = |limits: &[usize]| check_crate(&crate_with_two_circles(), "src/lib.rs", limits).len();
        assert_eq!((count(&[3, 2]), count(&[4, 4, 4])), (0, 0));
        assert_eq!((count(&[3]), count(&[2, 2]), count(&[2])), (1, 1, 2));
    }

    #[test]
    fn files_without_a_circle_are_good() {
        let files = sources(&[
            ("src/lib.rs", "mod a; mod b; use a::A;"),
            ("src/a.rs", "use crate::b::B; struct A;"),
            ("src/b.rs", "struct B;"),
        ]);
        assert_eq!(check_crate(&files, "src/lib.rs", &[]), []);
    }
}
