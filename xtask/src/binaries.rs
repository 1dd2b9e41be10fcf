//! The crates' test binaries. Cargo builds them and says where they are, and they run elsewhere.
//! Called by `matrix` and `vm`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cargo;

/// A test binary.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Binary {
    /// The name of the file in `tests`; for the tests beside a crate's code, the crate's name
    /// without `procession-`.
    pub(crate) name: String,
    /// The package's folder, in which cargo runs it.
    pub(crate) folder: PathBuf,
    pub(crate) path: PathBuf,
}

/// Builds the test binaries of the crates and returns them. `command` is `cargo test` with
/// arguments that say what to build.
pub(crate) fn built(mut command: Command) -> Result<Vec<Binary>, String> {
    command.args(["--no-run", "--message-format=json-render-diagnostics"]).stdout(Stdio::piped());
    let child = command.spawn().map_err(|error| format!("cannot run cargo: {error}"))?;
    let output = child.wait_with_output().map_err(|error| format!("cannot wait for cargo: {error}"))?;
    if !output.status.success() {
        return Err("the tests were not built; cargo says why".into());
    }
    let crates = cargo::root().join("crates");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut binaries: Vec<Binary> = text.lines().filter_map(|line| of_message(line, &crates)).collect();
    binaries.sort_by(|one, other| (&one.folder, &one.name).cmp(&(&other.folder, &other.name)));
    Ok(binaries)
}

/// Returns the binaries with these names; all of them if there are no names.
pub(crate) fn chosen(binaries: Vec<Binary>, names: &[&str]) -> Result<Vec<Binary>, String> {
    if let Some(unknown) = names.iter().find(|name| binaries.iter().all(|binary| binary.name != **name)) {
        let known: Vec<_> = binaries.iter().map(|binary| binary.name.as_str()).collect();
        return Err(format!("there is no test binary {unknown}; there are {}", known.join(", ")));
    }
    Ok(binaries.into_iter().filter(|binary| names.is_empty() || names.contains(&binary.name.as_str())).collect())
}

/// Reads one of cargo's messages, if it is about a test binary of a package below `crates`.
fn of_message(line: &str, crates: &Path) -> Option<Binary> {
    if !line.contains(r#""reason":"compiler-artifact""#) || !line.contains(r#""test":true}"#) {
        return None;
    }
    let folder = Path::new(field(line, "manifest_path")?).parent()?.to_owned();
    let package = folder.strip_prefix(crates).ok()?.to_str()?;
    let target = line.split_once(r#""target":{"#)?.1;
    let is_of_file = target.starts_with(r#""kind":["test"]"#);
    let name = if is_of_file { field(target, "name")? } else { package.strip_prefix("procession-").unwrap_or(package) };
    Some(Binary { name: name.to_owned(), path: field(line, "executable")?.into(), folder })
}

/// Returns the text of a field. Paths of a checkout hold nothing that JSON escapes.
fn field<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let value = json.split_once(&format!(r#""{name}":""#))?.1;
    value.split_once('"').map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_FILE: &str = r#"{"reason":"compiler-artifact","package_id":"p","manifest_path":"/c/crates/procession/Cargo.toml","target":{"kind":["test"],"crate_types":["bin"],"name":"sync","src_path":"s","edition":"2024","doc":false,"doctest":false,"test":true},"profile":{"opt_level":"0","debug_assertions":true,"overflow_checks":true,"test":true},"features":[],"filenames":["/t/sync-1"],"executable":"/t/sync-1","fresh":true}"#;

    #[test]
    fn test_binaries_are_found_in_messages() {
        let crates = Path::new("/c/crates");
        let sync = of_message(OF_FILE, crates).unwrap();
        assert_eq!(
            sync,
            Binary { name: "sync".into(), folder: "/c/crates/procession".into(), path: "/t/sync-1".into() }
        );
        let beside =
            OF_FILE.replace(r#"["test"]"#, r#"["lib"]"#).replace("crates/procession/", "crates/procession-shm/");
        assert_eq!(of_message(&beside, crates).unwrap().name, "shm");
        assert_eq!(of_message(&OF_FILE.replace("/c/crates/procession/", "/c/xtask/"), crates), None);
        assert_eq!(of_message(&OF_FILE.replace(r#""/t/sync-1","fresh"#, r#"null,"fresh"#), crates), None);
    }

    #[test]
    fn unknown_names_are_errors() {
        let binary = of_message(OF_FILE, Path::new("/c/crates")).unwrap();
        assert_eq!(chosen(vec![binary.clone()], &["sync"]).unwrap().len(), 1);
        assert!(chosen(vec![binary], &["snyc"]).unwrap_err().contains("no test binary snyc; there are sync"));
    }
}
