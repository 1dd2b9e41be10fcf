//! The modules of one crate, and which file a path means. Used by the rule against circles.
//!
//! It knows `mod`, `use`, `crate::`, `self::` and `super::`, and follows names that a module hands
//! on. It knows no macros and no types: a method call shows no file. Code for tests is left out.
//! A module owns the modules that it declares, so what it uses of them is no import.

use std::collections::{BTreeMap, BTreeSet};

use super::items::{self, Module, ModulePath};
use super::source::Source;

/// A crate's modules.
#[derive(Debug, Default)]
pub(super) struct Modules(BTreeMap<ModulePath, Module>);

/// The meaning of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    Module(ModulePath),
    /// Something that is defined in this file.
    Item(String),
}

/// Paths that lead through more names than this lead round in a circle of `pub use`.
const MAX_STEPS: usize = 32;

impl Modules {
    /// Reads the crate whose root is the file `root`.
    pub(super) fn read(sources: &[Source], root: &str) -> Self {
        let mut modules = Self::default();
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        modules.read_file(sources, root, folder, Vec::new());
        modules
    }

    /// Each import of one file by another: from, line, to.
    pub(super) fn imports(&self) -> BTreeSet<(String, usize, String)> {
        let mut found = BTreeSet::new();
        // A module comes before those between its braces, which are in the same file.
        let mut own: BTreeMap<&str, &ModulePath> = BTreeMap::new();
        for (path, module) in &self.0 {
            own.entry(&module.file).or_insert(path);
        }
        for (at, module) in &self.0 {
            let uses = module.uses.iter().filter(|one| !one.is_public || module.words.contains(&one.name));
            let uses = uses.map(|one| (one.line, &one.path));
            for (line, path) in uses.chain(module.paths.iter().map(|(line, path)| (*line, path))) {
                let meaning = match path.split_last() {
                    // All names of a module are taken as one name that it defines.
                    Some((last, before)) if last == "*" => match self.resolve(at, before, MAX_STEPS) {
                        Some(Meaning::Module(module)) => Some(Meaning::Item(self.0[&module].file.clone())),
                        meaning => meaning,
                    },
                    _ => self.resolve(at, path, MAX_STEPS),
                };
                if let Some(Meaning::Item(file)) = meaning
                    && file != module.file
                    && !own[file.as_str()].starts_with(at)
                {
                    found.insert((module.file.clone(), line, file));
                }
            }
        }
        found
    }

    fn read_file(&mut self, sources: &[Source], file: &str, folder: &str, at: ModulePath) {
        let Some(source) = sources.iter().find(|source| source.path == file) else { return };
        let items = items::read(source, &at);
        self.0.extend(items.modules);
        for (path, attribute) in items.children {
            let name = path.last().expect("a child has a name");
            let nested = path[at.len()..path.len() - 1].join("/");
            let base = if nested.is_empty() { folder.to_owned() } else { format!("{folder}/{nested}") };
            let own_folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
            let candidates = match &attribute {
                Some(attribute) => vec![format!("{own_folder}/{attribute}")],
                None => vec![format!("{base}/{name}.rs"), format!("{base}/{name}/mod.rs")],
            };
            for candidate in candidates {
                let stem = candidate.trim_end_matches(".rs");
                let folder = stem.strip_suffix("/mod").unwrap_or(stem).to_owned();
                // The first of two `mod` of one name, for two platforms.
                if !self.0.contains_key(&path) {
                    self.read_file(sources, &candidate, &folder, path.clone());
                }
            }
        }
    }

    fn resolve(&self, at: &ModulePath, path: &[String], steps: usize) -> Option<Meaning> {
        let (first, mut rest) = path.split_first()?;
        let mut meaning = match first.as_str() {
            "crate" => Meaning::Module(Vec::new()),
            "self" => Meaning::Module(at.clone()),
            "super" => Meaning::Module(at[..at.len().checked_sub(1)?].to_vec()),
            name => self.look_up(at, name, steps)?,
        };
        while let (Meaning::Module(module), Some((next, after))) = (&meaning, rest.split_first()) {
            meaning = match next.as_str() {
                "super" => Meaning::Module(module[..module.len().checked_sub(1)?].to_vec()),
                "self" => Meaning::Module(module.clone()),
                name => self.look_up(module, name, steps)?,
            };
            rest = after;
        }
        Some(meaning)
    }

    /// Returns the meaning of a name in a module.
    fn look_up(&self, at: &ModulePath, name: &str, steps: usize) -> Option<Meaning> {
        let steps = steps.checked_sub(1)?;
        let module = self.0.get(at)?;
        let child: ModulePath = [&at[..], &[name.to_owned()]].concat();
        if self.0.contains_key(&child) {
            return Some(Meaning::Module(child));
        }
        if module.defined.contains(name) {
            return Some(Meaning::Item(module.file.clone()));
        }
        if let Some(found) =
            module.uses.iter().find(|one| one.name == name && one.path.last().is_some_and(|last| last != "*"))
        {
            // `use serde;` in the crate's root would look for itself.
            let is_itself = found.path.first().is_some_and(|first| first == name);
            return if is_itself { None } else { self.resolve(at, &found.path, steps) };
        }
        let globs = module.uses.iter().filter(|one| one.path.last().is_some_and(|last| last == "*"));
        globs.into_iter().find_map(|one| {
            let Meaning::Module(module) = self.resolve(at, &one.path[..one.path.len() - 1], steps)? else {
                return None;
            };
            self.look_up(&module, name, steps)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The imports between the files of a crate, `from:line -> to`.
    fn imports(files: &[(&str, &str)]) -> Vec<String> {
        let source = |(path, text): &(&str, &str)| Source::new(format!("src/{path}"), *text);
        let sources: Vec<Source> = files.iter().map(source).collect();
        let short = |path: &str| path.trim_start_matches("src/").to_owned();
        let imports = Modules::read(&sources, "src/lib.rs").imports();
        imports.iter().map(|(from, line, to)| format!("{}:{line} -> {}", short(from), short(to))).collect()
    }

    #[test]
    fn each_form_of_use_is_read() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "use crate::b::B;\nuse super::c::{self, f as g};\nuse crate::{d::*, b};\nuse std::fmt;"),
            ("b.rs", "pub struct B;"),
            ("c.rs", "pub fn f() {}"),
            ("d.rs", ""),
        ];
        assert_eq!(imports(&files), ["a.rs:1 -> b.rs", "a.rs:2 -> c.rs", "a.rs:3 -> d.rs"]);
    }

    #[test]
    fn paths_in_code_are_read() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            (
                "a.rs",
                "use super::b;\npub fn f() { b::c::g(); std::mem::drop(1); }\nmacro_rules! m { () => { $crate::b::B } }",
            ),
            ("b/mod.rs", "pub mod c;\npub struct B;"),
            ("b/c.rs", "pub fn g() {}"),
        ];
        assert_eq!(imports(&files), ["a.rs:2 -> b/c.rs", "a.rs:3 -> b/mod.rs"]);
    }

    #[test]
    fn a_name_that_is_handed_on_means_its_file() {
        let files = [
            ("lib.rs", "mod a; mod b;\npub use b::C;"),
            ("a.rs", "use crate::b::C;\nfn f() { crate::C::new() }"),
            ("b/mod.rs", "mod c;\npub(crate) use c::C;"),
            ("b/c.rs", "pub struct C;"),
        ];
        assert_eq!(imports(&files), ["a.rs:1 -> b/c.rs", "a.rs:2 -> b/c.rs"]);
    }

    #[test]
    fn a_name_that_is_handed_on_and_used_is_imported() {
        let files =
            [("lib.rs", "mod a; mod b;"), ("a.rs", "pub use crate::b::B;\nfn f(b: B) {}"), ("b.rs", "pub struct B;")];
        assert_eq!(imports(&files), ["a.rs:1 -> b.rs"]);
    }

    #[test]
    fn a_module_may_use_those_that_it_owns() {
        let files = [
            ("lib.rs", "mod a; mod b;\nfn f() { a::c::C }"),
            ("a/mod.rs", "mod c;\nuse c::C;\nuse crate::b::B;"),
            ("a/c.rs", "use super::D;\nuse crate::b::B;\npub struct C;"),
            ("b.rs", "pub struct B;"),
        ];
        assert_eq!(imports(&files), ["a/c.rs:2 -> b.rs", "a/mod.rs:3 -> b.rs"]);
    }

    #[test]
    fn modules_inside_a_file_belong_to_it() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "struct A;\nmod inner {\n use super::A;\n use super::super::b::B;\n}"),
            ("b.rs", "pub struct B;"),
        ];
        assert_eq!(imports(&files), ["a.rs:4 -> b.rs"]);
    }

    #[test]
    fn tests_are_left_out() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "#[cfg(test)]\nmod tests {\n use crate::b::B;\n}\n#[cfg(test)]\nuse crate::b::B;\nstruct A;"),
            ("b.rs", "use crate::a::A;\npub struct B;"),
        ];
        assert_eq!(imports(&files), ["b.rs:1 -> a.rs"]);
    }

    #[test]
    fn a_module_is_found_where_its_attribute_says() {
        let files = [
            ("lib.rs", "#[cfg(x)]\n#[path = \"y/mod.rs\"]\nmod p;\nmod z;\nmod a;"),
            ("a.rs", "use crate::p::q::Q;\nuse crate::z::Z;"),
            ("y/mod.rs", "pub mod q;"),
            ("y/q.rs", "pub struct Q;"),
            ("z.rs", "pub struct Z;"),
        ];
        assert_eq!(imports(&files), ["a.rs:1 -> y/q.rs", "a.rs:2 -> z.rs"]);
    }
}
