//! A crate imports only crates below it, the engine knows no codec, and the project's commands need
//! nothing of the product. The compiler keeps what a manifest does not name out of a crate, so this
//! looks at manifests.

use super::manifest::{self, Dependency};
use super::source::{Finding, Source};

/// The product's crates.
const PRODUCT: [&str; 6] =
    ["procession-sys", "procession-shm", "procession-core", "procession-mpi", "procession", "procession-python"];

/// The layers: for each, the parts of the product that it may import, and whether it may import
/// serde or a codec.
const LAYERS: [(&str, &[&str], bool); 7] = [
    ("crates/procession-sys/Cargo.toml", &[], false),
    ("crates/procession-shm/Cargo.toml", &["procession-sys"], false),
    ("crates/procession-core/Cargo.toml", &["procession-shm", "procession-sys"], false),
    ("crates/procession-mpi/Cargo.toml", &[], false),
    ("crates/procession/Cargo.toml", &["procession-core", "procession-mpi"], true),
    ("crates/procession-python/Cargo.toml", &["procession-core"], true),
    ("xtask/Cargo.toml", &[], true),
];

/// Crates that give a Rust value its bytes.
const CODECS: [&str; 5] = ["serde", "postcard", "bincode", "rmp", "ciborium"];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, below, may_encode) in LAYERS {
        let Some(source) = sources.iter().find(|source| source.path == path) else {
            findings.push(Finding { place: path.into(), line: 1, text: "not found; name it in xtask's LAYERS".into() });
            continue;
        };
        let dependencies = manifest::dependencies(&source.text);
        // A crate's tests may look at it through the crates above.
        let shipped = dependencies.iter().filter(|one| !one.is_for_tests || path == "xtask/Cargo.toml");
        findings.extend(shipped.filter_map(|one| {
            problem(one, below, may_encode).map(|problem| source.finding(one.line, format!("{}: {problem}", one.name)))
        }));
    }
    findings
}

fn problem(dependency: &Dependency, below: &[&str], may_encode: bool) -> Option<&'static str> {
    let name = dependency.name.as_str();
    if PRODUCT.contains(&name) && !below.contains(&name) {
        return Some("not a crate below this one; move what needs it up, or what is needed down");
    }
    let is_codec = CODECS.iter().any(|codec| name == *codec || name.starts_with(&format!("{codec}_")));
    (is_codec && !may_encode).then_some("the engine moves bytes; leave encoding to the faces")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The findings if one manifest says this and the others depend on nothing.
    fn found(changed: &str, text: &str) -> Vec<String> {
        let manifests = LAYERS.map(|(path, ..)| Source::new(path, if path == changed { text } else { "" }));
        check(&manifests).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_crate_imports_those_below_it() {
        let text = "[dependencies]\nprocession-shm.workspace = true\n";
        assert_eq!(found("crates/procession-core/Cargo.toml", text), [""; 0]);
        let above = found("crates/procession-sys/Cargo.toml", text);
        assert_eq!(above.len(), 1);
        assert!(above[0].starts_with("crates/procession-sys/Cargo.toml:2: procession-shm: not a crate below"));
    }

    #[test]
    fn tests_may_use_what_is_above() {
        let text = "[dev-dependencies]\nprocession = \"1\"\n";
        assert_eq!(found("crates/procession-sys/Cargo.toml", text), [""; 0]);
        assert_eq!(found("xtask/Cargo.toml", text).len(), 1);
    }

    #[test]
    fn the_engine_has_no_codec() {
        let text = "[dependencies]\nserde_bytes = \"1\"\n";
        assert_eq!(found("crates/procession-core/Cargo.toml", text).len(), 1);
        assert_eq!(found("crates/procession/Cargo.toml", text), [""; 0]);
    }

    #[test]
    fn a_manifest_that_is_gone_is_found() {
        assert_eq!(check(&[]).len(), LAYERS.len());
    }
}
