//! Debian's archive, by the mirror that this machine's apt is configured for. It installs a program
//! here, and downloads packages of other suites and architectures. Called by `userland` and `vm`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cargo::run;
use crate::stamp;
use crate::{Outcome, cargo};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const INSTALL_LIMIT: Duration = Duration::from_secs(10 * 60);
/// A mirror may be a snapshot, whose indexes have expired.
pub(crate) const VALID_FOR_EVER: &str = "Acquire::Check-Valid-Until \"false\"";

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Returns whether a program of this name is in PATH or in the administrator's folders.
pub(crate) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let others = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(others).any(|folder| folder.join(name).is_file())
}

/// Installs the package of a missing program, if it can. The error says what to do instead.
pub(crate) fn ensure_program(name: &str, package: &str) -> Outcome {
    if has_program(name) {
        return Ok(());
    }
    if !is_root() || !has_program("apt-get") {
        return Err(format!(
            "{name} is missing: install it, on Debian and Ubuntu as root by `apt-get install {package}`"
        ));
    }
    println!("installing {package}");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        run(command, INSTALL_LIMIT)
    };
    apt(&["update", "-qq"])?;
    apt(&["install", "-y", "-qq", "--no-install-recommends", package])
}

/// Returns the line of a `sources.list` for a suite on this machine's mirror.
pub(crate) fn source_line(suite: &str) -> Result<String, String> {
    if !Path::new(KEYRING).exists() {
        return Err(format!("{KEYRING} is missing: apt-get install debian-archive-keyring"));
    }
    Ok(format!("deb [signed-by={KEYRING}] {} {suite} main", mirror()?))
}

/// Returns the address of Debian's archive, from apt's own configuration.
fn mirror() -> Result<String, String> {
    let folder = Path::new("/etc/apt");
    let parts = fs::read_dir(folder.join("sources.list.d")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = parts.chain([folder.join("sources.list")]).collect();
    files.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).ok()?;
        match path.extension()?.to_str()? {
            "sources" => mirror_in_stanzas(&text),
            "list" => mirror_in_lines(&text),
            _ => None,
        }
    };
    files.iter().find_map(read).ok_or_else(|| {
        "apt knows no mirror of Debian: add one, of any suite, to /etc/apt/sources.list.d (component main)".into()
    })
}

/// Reads the form of `*.sources` files.
fn mirror_in_stanzas(text: &str) -> Option<String> {
    text.split("\n\n")
        .find_map(|stanza| {
            let field = |name: &str| {
                let mut lines = stanza.lines().filter(|line| !line.starts_with('#'));
                lines
                    .find_map(|line| line.split_once(':').filter(|(its, _)| its.eq_ignore_ascii_case(name)))
                    .map(|(_, it)| it)
            };
            let is_enabled = !field("Enabled").is_some_and(|value| value.trim().eq_ignore_ascii_case("no"));
            let has = |name, word| field(name).is_some_and(|value| value.split_whitespace().any(|its| its == word));
            let mut addresses = field("URIs")?.split_whitespace();
            addresses
                .find(|address| is_enabled && has("Types", "deb") && has("Components", "main") && is_archive(address))
        })
        .map(str::to_owned)
}

/// Reads the form of `*.list` files.
fn mirror_in_lines(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
        let mut words = rest.split_whitespace();
        let address = words.next()?;
        let _suite = words.next()?;
        (words.any(|component| component == "main") && is_archive(address)).then(|| address.to_owned())
    })
}

/// Returns whether an address is that of the archive itself: not of security updates, nor of
/// another distribution.
fn is_archive(address: &str) -> bool {
    address.trim_end_matches('/').ends_with("/debian")
}

/// Runs apt with a configuration of its own, for one suite and architecture.
pub(crate) struct Archive {
    folder: PathBuf,
    architecture: &'static str,
}

impl Archive {
    /// Reads the index of a suite. apt keeps its files below `folder`.
    pub(crate) fn open(folder: &Path, suite: &str, architecture: &'static str) -> Result<Self, String> {
        for name in ["lists/partial", "cache/archives/partial"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        }
        stamp::write(&folder.join("sources.list"), &format!("{}\n", source_line(suite)?))?;
        let archive = Self { folder: folder.to_owned(), architecture };
        run(archive.apt("apt-get", &["update", "-qq"]), INSTALL_LIMIT)?;
        Ok(archive)
    }

    /// Downloads a package and unpacks it below `into`. If a package only depends on another, to
    /// stand for the newest version of it, the other is unpacked: `its` is how the other's name
    /// begins.
    pub(crate) fn unpack(&self, package: &str, its: Option<&str>, into: &Path) -> Outcome {
        let package = match its {
            Some(beginning) => self.dependency(package, beginning)?,
            None => package.to_owned(),
        };
        println!("downloading {package} for {}", self.architecture);
        let debs = self.folder.join("debs");
        fs::create_dir_all(&debs).map_err(|error| format!("cannot make {}: {error}", debs.display()))?;
        let mut download = self.apt("apt-get", &["download", "-qq", &package]);
        download.current_dir(&debs);
        run(download, INSTALL_LIMIT)?;
        let beginning = format!("{package}_");
        let files = fs::read_dir(&debs).map_err(|error| format!("cannot read {}: {error}", debs.display()))?;
        let mut files = files.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&beginning));
        let file = files.next().ok_or_else(|| format!("apt-get download left no {package}"))?;
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(file.path()).arg(into);
        run(unpack, INSTALL_LIMIT)
    }

    fn dependency(&self, package: &str, beginning: &str) -> Result<String, String> {
        let output = self.apt("apt-cache", &["depends", package]).output();
        let output = output.map_err(|error| format!("cannot run apt-cache: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let name = names.find(|name| name.starts_with(beginning));
        name.map(str::to_owned).ok_or_else(|| format!("the archive has no {package} that depends on a {beginning}*"))
    }

    fn apt(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let folder = self.folder.display();
        for option in [
            format!("Dir::Etc::sourcelist={folder}/sources.list"),
            "Dir::Etc::sourceparts=-".into(),
            format!("Dir::State::lists={folder}/lists"),
            "Dir::State::status=/dev/null".into(),
            format!("Dir::Cache={folder}/cache"),
            format!("APT::Architecture={}", self.architecture),
            format!("APT::Architectures={}", self.architecture),
            "APT::Sandbox::User=root".into(),
            VALID_FOR_EVER.replacen(" \"false\"", "=false", 1),
        ] {
            command.arg("-o").arg(option);
        }
        command.args(arguments).current_dir(cargo::root());
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirror_is_read_from_stanzas() {
        let text = "\
Types: deb\nURIs: http://one.example/debian-security\nSuites: bookworm-security\nComponents: main\n
Types: deb\nEnabled: no\nURIs: http://two.example/debian\nSuites: bookworm\nComponents: main\n
# a remark\nTypes: deb deb-src\nURIs: http://three.example/debian/\nSuites: bookworm bookworm-updates\nComponents: main\n";
        assert_eq!(mirror_in_stanzas(text).as_deref(), Some("http://three.example/debian/"));
        assert_eq!(mirror_in_stanzas("Types: deb\nURIs: http://four.example/ubuntu\nComponents: main\n"), None);
    }

    #[test]
    fn mirror_is_read_from_lines() {
        let text = "\
# deb http://one.example/debian bookworm main
deb-src http://two.example/debian bookworm main
deb [arch=amd64] https://three.example/linux/debian bookworm stable
deb [arch=amd64 signed-by=/k.gpg] http://four.example/debian bookworm main contrib\n";
        assert_eq!(mirror_in_lines(text).as_deref(), Some("http://four.example/debian"));
    }

    #[test]
    fn missing_program_is_found_missing() {
        assert!(has_program("sh") && !has_program("no-such-program-anywhere"));
    }
}
