//! The dependencies in a `Cargo.toml`. Used by the rule of layers. It reads the tables of
//! dependencies line by line, as this project writes them, and nothing else of TOML.

/// One dependency of a crate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) line: usize,
    /// True if only tests, examples and benchmarks of the crate see it.
    pub(super) is_for_tests: bool,
}

pub(super) fn dependencies(text: &str) -> Vec<Dependency> {
    let mut found = Vec::new();
    let mut table = "";
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        if let Some(header) = line.trim().strip_prefix('[') {
            table = header.trim_end_matches(']');
            // `[dependencies.serde]` is one dependency.
            if let Some((_, name)) = table.rsplit_once("dependencies.") {
                found.push(dependency(name, line_number, table));
            }
        } else if table.ends_with("dependencies") {
            let name: String = line.chars().take_while(|one| one.is_alphanumeric() || "-_\"".contains(*one)).collect();
            if !name.is_empty() {
                found.push(dependency(&name, line_number, table));
            }
        }
    }
    found
}

fn dependency(name: &str, line: usize, table: &str) -> Dependency {
    Dependency { name: name.trim_matches('"').to_owned(), line, is_for_tests: table.contains("dev-dependencies") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_found_in_each_table() {
        let text = "[package]\nname = \"x\"\n[dependencies]\n# Why.\na.workspace = true\nb-c = \"1\"\n\n\
                    [target.'cfg(loom)'.dependencies]\nd = { path = \"d\" }\n[dependencies.e]\nversion = \"1\"\n\
                    [dev-dependencies]\nf = \"1\"\n[lints]\nworkspace = true\n";
        let found: Vec<_> = dependencies(text).into_iter().map(|one| (one.name, one.line, one.is_for_tests)).collect();
        let expected = [("a", 5, false), ("b-c", 6, false), ("d", 9, false), ("e", 10, false), ("f", 13, true)];
        assert_eq!(found, expected.map(|(name, line, is_for_tests)| (name.to_owned(), line, is_for_tests)));
    }
}
