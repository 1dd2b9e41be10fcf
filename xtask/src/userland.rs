//! Userlands: whole Debian systems in folders, with another libc and other Pythons than this
//! machine has. `mmdebstrap` makes them below `target/userlands`, as root, once. After `rm -r` of
//! one it is made of what the archive holds today.
//!
//! A program runs inside one with private mounts and process numbers, so that nothing stays mounted
//! or running whatever happens. The checkout has the same path inside as outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::cargo::{run, target};
use crate::debian::{self, VALID_FOR_EVER};
use crate::{Outcome, cargo, stamp};

const MAKE_LIMIT: Duration = Duration::from_secs(15 * 60);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Arguments: the userland's folder, the folder in which the program runs, the folders that are
/// visible inside at the same path, `--`, and the program. The shell stays, as process 1 of the
/// namespace, because signals have another meaning for a process 1.
const ENTER: &str = r#"
set -e
root=$1 folder=$2
shift 2
mount -t tmpfs tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/dev/shm"
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then
        mkdir -p "$root$1"
    elif ! [ -e "$root$1" ]; then
        mkdir -p "$root${1%/*}"
        : > "$root$1"
    fi
    mount --bind "$1" "$root$1"
    shift
done
shift
set +e
chroot "$root" env --default-signal sh -c 'cd "$0" && exec "$@"' "$folder" "$@"
exit $?
"#;

/// Prepares a userland for linking from outside. Links to an absolute path would lead to this
/// machine's files, and this machine's libgcc may need a newer libc.
const MAKE_LINKABLE: &str = r#"
for link in "$1"/lib64/* "$1"/usr/lib/*-linux-gnu/*.so; do
    case "$(readlink "$link")" in /*) ln -sfr "$1$(readlink "$link")" "$link" ;; esac
done
for libgcc in "$1"/lib/*-linux-gnu/libgcc_s.so.1; do
    ln -sfr "$libgcc" "$1/usr/lib/$(basename "$(dirname "$libgcc")")/libgcc_s.so"
done
"#;

/// A suite of Debian, and the packages that are installed of it.
#[derive(Debug)]
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    /// As in 3.14. If there is none that the package is for, only Rust's tests run.
    pub(crate) pythons: &'static [&'static str],
    packages: &'static [&'static str],
    /// Packages for some tests only: the standard library's own tests of these Pythons, and the
    /// program `kill`.
    test_packages: &'static [&'static str],
}

pub(crate) const SUITES: [Suite; 3] = [
    Suite {
        name: "sid",
        pythons: &["3.14", "3.15"],
        packages: &["python3.14", "python3.14-venv", "python3.15", "python3.15-venv"],
        test_packages: &["libpython3.14-testsuite", "libpython3.15-testsuite", "procps"],
    },
    Suite {
        name: "trixie",
        pythons: &["3.13"],
        packages: &["python3", "python3-venv"],
        test_packages: &["libpython3.13-testsuite", "procps"],
    },
    Suite { name: "bullseye", pythons: &[], packages: &["libc6-dev", "python3"], test_packages: &["procps"] },
];

impl Suite {
    /// Returns whether its libc may be older than this machine's, so that only binaries linked
    /// against it start in it.
    pub(crate) fn is_linked_against(&self) -> bool {
        self.packages.contains(&"libc6-dev")
    }
}

/// A userland that exists.
pub(crate) struct Userland {
    root: PathBuf,
}

impl Userland {
    /// Returns the userland of a suite with all that the matrix needs, and makes it if it does not
    /// exist.
    pub(crate) fn whole(suite: &Suite) -> Result<Self, String> {
        let packages = [suite.packages, suite.test_packages].concat();
        Self::made(suite.name, suite, &packages)
    }

    /// Returns one without the standard library's tests, unless a whole one exists already.
    pub(crate) fn small(suite: &Suite) -> Result<Self, String> {
        let packages = [suite.packages, suite.test_packages].concat();
        if is_made(&folder(suite.name), suite, &packages) {
            return Self::whole(suite);
        }
        Self::made(&format!("{}-small", suite.name), suite, suite.packages)
    }

    /// Returns the flags by which rustc links against the libc inside.
    pub(crate) fn link_flags(&self) -> String {
        let root = self.root.display();
        // Not every gcc has been built to look for libraries below the sysroot, so they are named
        // as well.
        format!("-C link-arg=--sysroot={root} -C link-arg=-B{root}/usr/lib/{}-linux-gnu", std::env::consts::ARCH)
    }

    /// Returns a command that runs a program inside, in `folder`, and sees the checkout, the target
    /// folder, and pip's configuration.
    pub(crate) fn command(&self, folder: &Path, program: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "userland"]);
        command.arg(&self.root).arg(folder).args(seen_inside()).arg("--");
        command.args(program).env("PATH", PATH).stdin(Stdio::null());
        for name in ["LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "TMPDIR", "VIRTUAL_ENV"] {
            command.env_remove(name);
        }
        command
    }

    /// Returns the first line that a program inside prints.
    pub(crate) fn first_line(&self, program: &[&str]) -> String {
        let output = self.command(Path::new("/"), program).stderr(Stdio::null()).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        text.lines().next().unwrap_or("unknown").to_owned()
    }

    /// Makes a virtual environment inside with the package and the requirements of its tests.
    /// Returns the folder of its programs.
    pub(crate) fn environment(&self, version: &str, wheel: &(PathBuf, String)) -> Result<PathBuf, String> {
        const LIMIT: Duration = Duration::from_secs(10 * 60);
        let venv = Path::new("/venv").join(version);
        let outside = self.root.join("venv").join(version);
        let pip = venv.join("bin").join("pip");
        let pip = pip.to_string_lossy();
        let install = |arguments: &[&str]| {
            let fixed = [&pip, "install", "--quiet", "--disable-pip-version-check", "--no-input", "--prefer-binary"];
            run(self.command(&cargo::root(), &[&fixed[..], arguments].concat()), LIMIT)
        };
        let requirements = cargo::root().join("tests").join("python").join("requirements.txt");
        let made_from = stamp::read(&requirements);
        let stamp = outside.join("environment.stamp");
        if stamp::read(&stamp) != made_from {
            println!("making an environment of Python {version} in {}", self.root.display());
            let program = format!("python{version}");
            let shown = venv.to_string_lossy();
            run(self.command(Path::new("/"), &[&program, "-m", "venv", "--clear", &shown]), LIMIT)?;
            install(&["--requirement", &requirements.to_string_lossy()])?;
            stamp::write(&stamp, &made_from)?;
        }
        let (wheel, made_from) = wheel;
        let stamp = outside.join("package.stamp");
        if stamp::read(&stamp) != *made_from {
            install(&["--force-reinstall", "--no-deps", &wheel.to_string_lossy()])?;
            stamp::write(&stamp, made_from)?;
        }
        Ok(venv.join("bin"))
    }

    fn made(name: &str, suite: &Suite, packages: &[&str]) -> Result<Self, String> {
        if !debian::is_root() {
            return Err("only root can make and enter a userland: run this as root".into());
        }
        // Of two threads that want the same one, the second has it from the first.
        static MAKING: Mutex<()> = Mutex::new(());
        let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        debian::ensure_program("mmdebstrap", "mmdebstrap")?;
        let root = folder(name);
        if !is_made(&root, suite, packages) {
            make(&root, suite, packages)?;
        }
        Ok(Self { root })
    }
}

fn folder(name: &str) -> PathBuf {
    target().join("userlands").join(name)
}

fn is_made(root: &Path, suite: &Suite, packages: &[&str]) -> bool {
    stamp::read(&root.join("userland.stamp")) == made_from(suite, packages)
}

fn made_from(suite: &Suite, packages: &[&str]) -> String {
    format!("{}\n{}\n", suite.name, packages.join(" "))
}

fn make(root: &Path, suite: &Suite, packages: &[&str]) -> Outcome {
    println!("making the userland {}, which takes some minutes", root.display());
    let unfinished = root.with_extension("unfinished");
    for left in [root, &unfinished] {
        if left.exists() {
            fs::remove_dir_all(left).map_err(|error| format!("cannot remove {}: {error}", left.display()))?;
        }
    }
    fs::create_dir_all(&unfinished).map_err(|error| format!("cannot make {}: {error}", unfinished.display()))?;
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--mode=root", "--variant=minbase", "--dpkgopt=force-unsafe-io"]);
    command.arg(format!("--aptopt={VALID_FOR_EVER}")).arg(format!("--include={}", packages.join(",")));
    if suite.is_linked_against() {
        command.arg(format!("--customize-hook={MAKE_LINKABLE}"));
    }
    command.arg(suite.name).arg(&unfinished).arg(debian::source_line(suite.name)?);
    run(command, MAKE_LIMIT).map_err(|_| {
        let name = suite.name;
        format!(
            "mmdebstrap made no userland of {name}: does the mirror that apt is configured for answer, and hold {name}?"
        )
    })?;
    // Some tests want a `python3`; a suite may have only others.
    let python3 = unfinished.join("usr/local/bin/python3");
    if let [version, ..] = suite.pythons
        && !unfinished.join("usr/bin/python3").exists()
    {
        std::os::unix::fs::symlink(format!("/usr/bin/python{version}"), &python3)
            .map_err(|error| format!("cannot make {}: {error}", python3.display()))?;
    }
    stamp::write(&unfinished.join("userland.stamp"), &made_from(suite, packages))?;
    fs::rename(&unfinished, root).map_err(|error| format!("cannot rename {}: {error}", unfinished.display()))
}

/// Returns the folders that have the same path inside: the checkout, the target folder, and the
/// files that pip needs to reach its index.
fn seen_inside() -> Vec<PathBuf> {
    let mut paths = vec![cargo::root()];
    if !target().starts_with(cargo::root()) {
        paths.push(target());
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let links = std::env::var("PIP_FIND_LINKS").unwrap_or_default();
    let of_pip = ["/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs", "/etc/pip.conf"].map(PathBuf::from);
    let of_pip = of_pip.into_iter().chain(home.map(|home| home.join(".config").join("pip")));
    let of_pip = of_pip.chain(links.split_whitespace().map(PathBuf::from));
    paths.extend(of_pip.filter(|path| path.is_absolute() && path.exists()));
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkout_is_seen_inside() {
        assert_eq!(seen_inside()[0], cargo::root());
        assert!(seen_inside().iter().all(|path| path.exists()));
    }

    #[test]
    fn other_packages_are_another_userland() {
        let [sid, trixie, _] = &SUITES;
        assert_ne!(made_from(sid, sid.packages), made_from(sid, &[]));
        assert_ne!(made_from(sid, &[]), made_from(trixie, &[]));
    }
}
