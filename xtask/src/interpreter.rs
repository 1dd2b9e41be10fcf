//! Finds a Python that can make virtual environments. Called by `venv`, and by `test` before
//! anything long begins.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest minor version of Python 3 that the package is for.
const OLDEST: u32 = 11;
const NEWEST_NAMED: u32 = 16;

/// An interpreter that can make environments.
pub(crate) struct Found {
    pub(crate) program: PathBuf,
    /// As in 3.12.1.
    pub(crate) version: String,
}

impl Found {
    /// Returns the minor version, as in 3.12.
    pub(crate) fn minor(&self) -> &str {
        self.version.rsplit_once('.').map_or(&self.version, |(minor, _)| minor)
    }
}

/// An interpreter's answer about itself.
enum Answer {
    Python {
        found: Found,
        minor: u32,
        is_free_threaded: bool,
        has_venv: bool,
    },
    /// There is none of this name, or it does not run: a shim of a version manager, for instance.
    Nothing,
}

/// Returns the Python of this version, as in `3.12`; without a version, the first that is new
/// enough.
pub(crate) fn find(version: Option<&str>) -> Result<Found, String> {
    let mut others = Vec::new();
    for candidate in candidates(version) {
        let Answer::Python { found, minor, is_free_threaded, has_venv } = ask(&candidate) else { continue };
        let shown = format!("{} is {}", found.program.display(), found.version);
        if version.is_some_and(|version| version != found.minor()) || minor < OLDEST {
            others.push(shown);
        } else if is_free_threaded {
            others.push(format!("{shown} without the global lock, for which an abi3 wheel cannot be built"));
        } else if !has_venv {
            others.push(format!("{shown} without `venv` and `ensurepip`: apt install python{}-venv", found.minor()));
        } else {
            return Ok(found);
        }
    }
    let wanted = version.map_or(format!("3.{OLDEST} or later"), str::to_owned);
    others.dedup();
    let others = if others.is_empty() { "no `python3` is in PATH".into() } else { others.join(", ") };
    Err(format!(
        "Python {wanted} with its venv module is missing ({others}). Install one (Debian and Ubuntu: apt install python3 \
         python3-venv) and put it in PATH"
    ))
}

/// Returns programs that may be the one, the likeliest first: `python3`, then those that name their
/// version, in PATH and among pyenv's.
fn candidates(version: Option<&str>) -> Vec<PathBuf> {
    let minors: Vec<String> = match version {
        Some(version) => vec![version.to_owned()],
        None => (OLDEST..=NEWEST_NAMED).rev().map(|minor| format!("3.{minor}")).collect(),
    };
    let mut candidates = vec![PathBuf::from("python3")];
    candidates.extend(minors.iter().map(|minor| PathBuf::from(format!("python{minor}"))));
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv"));
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from).or_else(home);
    let versions = pyenv.and_then(|pyenv| fs::read_dir(pyenv.join("versions")).ok());
    let mut installed: Vec<_> = versions.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    installed.sort();
    for minor in &minors {
        let is_of = |path: &&PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{minor}.")))
        };
        candidates.extend(installed.iter().filter(is_of).map(|path| path.join("bin").join("python3")));
    }
    candidates
}

fn ask(program: &Path) -> Answer {
    const QUESTION: &str = "\
import sys, sysconfig, importlib.util as util
print(sys.executable)
print('%d.%d.%d' % sys.version_info[:3])
print(int(bool(sysconfig.get_config_var('Py_GIL_DISABLED'))))
print(int(all(util.find_spec(name) for name in ('venv', 'ensurepip'))))
";
    let Ok(output) = Command::new(program).args(["-I", "-c", QUESTION]).output() else { return Answer::Nothing };
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    let [program, version, is_free_threaded, has_venv] = lines[..] else { return Answer::Nothing };
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let minor = if major == 3 { minor } else { 0 };
    Answer::Python {
        found: Found { program: program.into(), version: version.to_owned() },
        minor,
        is_free_threaded: is_free_threaded == "1",
        has_venv: has_venv == "1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_python_is_asked_first() {
        assert_eq!(candidates(None)[0], Path::new("python3"));
        assert_eq!(candidates(Some("3.12"))[..2], [Path::new("python3"), Path::new("python3.12")]);
    }

    #[test]
    fn program_that_is_no_python_has_no_version() {
        for program in ["/nonexistent/python3", "true", "false"] {
            assert!(matches!(ask(Path::new(program)), Answer::Nothing), "{program}");
        }
    }

    #[test]
    fn a_missing_version_is_named() {
        let problem = find(Some("3.999")).err().expect("there is no such Python");
        assert!(problem.contains("Python 3.999 with its venv module is missing"), "{problem}");
    }
}
