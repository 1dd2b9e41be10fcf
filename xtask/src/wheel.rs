//! The wheel: one for every version of Python (abi3), and for every Linux with glibc 2.28 or later.
//! Built for the environments of `python`, and checked as a step of `test`.
//!
//! Symbols of the machine's own glibc would bind the wheel to its version. Zig's linker knows the
//! symbols of each older one, so that no old Linux is needed to build for it. Maturin calls Zig,
//! and refuses a wheel that needs more than its tag says. `auditwheel` looks a second time, as the
//! package index would. Both look at versions only. A call that glibc 2.28 lacks has no version:
//! the linker leaves it open, as it does Python's own. So the symbols themselves are checked as
//! well.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cargo::{run, target};
use crate::stamp::{read as read_stamp, write};
use crate::venv::{Environment, made};
use crate::{Outcome, cargo};

/// The oldest glibc, 2.x, on which the wheel works.
const OLDEST_GLIBC: u32 = 28;

const BUILD_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Prints the symbols that a wheel's modules need and that neither Python nor glibc 2.28 has.
const UNRESOLVED: &str = "\
import io, sys, zipfile
from elftools.elf.elffile import ELFFile
wheel = zipfile.ZipFile(sys.argv[1])
for module in (name for name in wheel.namelist() if name.endswith('.so')):
    elf = ELFFile(io.BytesIO(wheel.read(module)))
    versions = elf.get_section_by_name('.gnu.version')
    for index, symbol in enumerate(elf.get_section_by_name('.dynsym').iter_symbols()):
        needed = symbol['st_shndx'] == 'SHN_UNDEF' and symbol['st_info']['bind'] == 'STB_GLOBAL'
        if needed and versions.get_symbol(index)['ndx'] in ('VER_NDX_LOCAL', 'VER_NDX_GLOBAL'):
            if not symbol.name.startswith(('Py', '_Py')):
                print(symbol.name)
";

/// Everything that a wheel is made of, below the workspace's root.
const SOURCES: [&str; 9] = [
    "pyproject.toml",
    "xtask/src/wheel.rs",
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE-MIT",
    "crates/procession-sys",
    "crates/procession-shm",
    "crates/procession-core",
    "crates/procession-python",
];

/// Builds the wheel of the current sources, unless it exists. Returns its path, and a text that
/// identifies its sources.
pub(crate) fn build() -> Result<(PathBuf, String), String> {
    let folder = target().join("python").join("wheel");
    let stamp = folder.join("wheel.stamp");
    let made_from = sources()?;
    if read_stamp(&stamp) != made_from {
        let tools = tools()?;
        println!("building the wheel");
        // It may be there from another version of the package.
        if folder.is_dir() {
            fs::remove_dir_all(&folder).map_err(|error| format!("cannot remove {}: {error}", folder.display()))?;
        }
        let mut maturin = Command::new(tools.program("maturin"));
        maturin.args(["build", "--quiet", "--locked", "--zig", "--compatibility"]).current_dir(cargo::root());
        maturin.arg(format!("manylinux_2_{OLDEST_GLIBC}")).env("CARGO_ZIGBUILD_PYTHON_PATH", tools.python());
        maturin.arg("--interpreter").arg(tools.python()).arg("--out").arg(&folder);
        // These take the place of those in pyproject.toml.
        maturin.args(["--", "-Clink-arg=-Wl,--build-id=sha1"]).arg(format!("-Clink-arg={}", unwinder()?.display()));
        run(maturin, BUILD_LIMIT)?;
        write(&stamp, &made_from)?;
    }
    let files = fs::read_dir(&folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let mut wheels =
        files.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "whl"));
    let wheel = wheels.next().ok_or_else(|| format!("no wheel in {}", folder.display()))?;
    Ok((wheel, made_from))
}

/// Returns the C library's unwinder, to link with. Zig would put one of its own into the module.
/// But the C library ends a daemon thread of Python with its own unwinder, which cannot find its
/// way through frames of another.
fn unwinder() -> Result<PathBuf, String> {
    let path = answer(Command::new("cc").arg("-print-file-name=libgcc_s.so.1"))?;
    let path = PathBuf::from(path.trim());
    if path.is_absolute() { Ok(path) } else { Err("the C compiler `cc` has no libgcc_s.so.1: install GCC's".into()) }
}

/// Checks that the wheel works on every Linux that it is for.
pub(crate) fn check() -> Outcome {
    let (wheel, _) = build()?;
    let tools = tools()?;
    let mut auditwheel = Command::new(tools.program("auditwheel"));
    let text = answer(auditwheel.args(["show", "--json"]).arg(&wheel))?;
    let tag = overall_tag(&text).ok_or_else(|| format!("auditwheel told no tag: {text}"))?;
    println!("{}: {tag}", wheel.display());
    if glibc(tag).is_none_or(|minor| minor > OLDEST_GLIBC) {
        return Err(format!(
            "the wheel is {tag}, but is to work from glibc 2.{OLDEST_GLIBC} on: `auditwheel show` names the versions"
        ));
    }
    // The interpreter's stable ABI, of every version that the tag promises; what an index shows.
    answer(Command::new(tools.program("abi3audit")).arg("--strict").arg(&wheel))?;
    answer(Command::new(tools.program("twine")).args(["check", "--strict"]).arg(&wheel))?;
    let unresolved = answer(tools.command(&["-c", UNRESOLVED]).arg(&wheel))?;
    if !unresolved.is_empty() {
        let symbols = unresolved.lines().collect::<Vec<_>>().join(", ");
        return Err(format!("the wheel calls what glibc 2.{OLDEST_GLIBC} does not have: {symbols}"));
    }
    Ok(())
}

/// Returns the output of a command.
fn answer(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("cannot run {program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{program}: {error}"))
}

/// Returns an environment with Maturin, Zig and auditwheel.
fn tools() -> Result<Environment, String> {
    let requirements = cargo::root().join("crates").join("procession-python").join("build-requirements.txt");
    Ok(made(None, "build-", &requirements)?.0)
}

/// Returns the tag of the whole wheel in auditwheel's JSON.
fn overall_tag(json: &str) -> Option<&str> {
    json.split_once("\"overall_tag\": \"")?.1.split_once('"').map(|(tag, _)| tag)
}

/// Returns the 28 of `manylinux_2_28_x86_64`.
fn glibc(tag: &str) -> Option<u32> {
    tag.strip_prefix("manylinux_2_")?.split_once('_')?.0.parse().ok()
}

/// Returns a text that identifies the contents of all sources of the wheel, and the compiler.
fn sources() -> Result<String, String> {
    let mut hasher = DefaultHasher::new();
    let rustc =
        Command::new("rustc").arg("--version").output().map_err(|error| format!("cannot run rustc: {error}"))?;
    rustc.stdout.hash(&mut hasher);
    for source in SOURCES.map(|source| cargo::root().join(source)) {
        for path in files_below(source)?.iter().filter(|path| !is_left_over(path)) {
            path.hash(&mut hasher);
            let bytes = fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            bytes.hash(&mut hasher);
        }
    }
    Ok(format!("{:016x}\n", hasher.finish()))
}

/// Returns the file, or every file below the folder, in an order that does not change from run to
/// run.
fn files_below(path: PathBuf) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path]);
    }
    let unreadable = |error| format!("cannot read {}: {error}", path.display());
    let entries = fs::read_dir(&path).map_err(unreadable)?;
    let mut entries: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_, _>>().map_err(unreadable)?;
    entries.sort();
    let files: Result<Vec<_>, String> = entries.into_iter().map(files_below).collect();
    Ok(files?.concat())
}

/// Returns whether running the package where its sources are has made this file.
fn is_left_over(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "so" || extension == "pyc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_is_found_and_its_glibc() {
        let json = "{\n    \"version\": 1,\n    \"overall_tag\": \"manylinux_2_34_x86_64\",\n    \"sym_tag\": \"x\"\n}";
        assert_eq!(overall_tag(json), Some("manylinux_2_34_x86_64"));
        assert_eq!(overall_tag("{}"), None);
        assert_eq!(glibc("manylinux_2_34_x86_64"), Some(34));
        assert_eq!(glibc("linux_x86_64"), None);
        assert_eq!(glibc("musllinux_1_2_x86_64"), None);
    }

    #[test]
    fn files_that_running_leaves_are_no_source() {
        assert!(is_left_over(Path::new("procession/_engine.abi3.so")) && is_left_over(Path::new("__pycache__/a.pyc")));
        assert!(!is_left_over(Path::new("procession/pool.py")) && !is_left_over(Path::new("src/lib.rs")));
    }
}
