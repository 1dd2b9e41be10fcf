//! The machines that `vm` emulates: which kernel and tests each one runs, and where they come from.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::debian::{Archive, has_program};
use crate::{Outcome, cargo, stamp};

/// An emulated machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    /// The suite whose newest cloud kernel it runs.
    suite: &'static str,
    architecture: &'static str,
    pub(crate) qemu: &'static str,
    qemu_package: &'static str,
    pub(crate) qemu_arguments: &'static [&'static str],
    pub(crate) console: &'static str,
    /// The folder of its libc on this machine.
    pub(crate) libraries: &'static str,
    pub(crate) loader: &'static str,
    pub(crate) strip: &'static str,
    /// The target that rustc builds for, if it is not this machine.
    cross: Option<&'static str>,
}

const X86: Machine = Machine {
    name: "6.1",
    suite: "bookworm",
    architecture: "amd64",
    qemu: "qemu-system-x86_64",
    qemu_package: "qemu-system-x86",
    qemu_arguments: &["-cpu", "max"],
    console: "ttyS0",
    libraries: "/lib/x86_64-linux-gnu",
    loader: "/lib64/ld-linux-x86-64.so.2",
    strip: "strip",
    cross: None,
};

pub(crate) const MACHINES: [Machine; 3] = [
    X86,
    Machine { name: "5.10", suite: "bullseye", ..X86 },
    Machine {
        name: "aarch64",
        suite: "bookworm",
        architecture: "arm64",
        qemu: "qemu-system-aarch64",
        qemu_package: "qemu-system-arm",
        // Emulated pointer authentication is slow.
        qemu_arguments: &["-M", "virt", "-cpu", "max,pauth=off"],
        console: "ttyAMA0",
        libraries: "/usr/aarch64-linux-gnu/lib",
        loader: "/lib/ld-linux-aarch64.so.1",
        strip: "aarch64-linux-gnu-strip",
        cross: Some("aarch64-unknown-linux-gnu"),
    },
];

impl Machine {
    /// Returns an error of one line that says what to install, if something is missing.
    pub(crate) fn check(&self) -> Outcome {
        let mut missing = Vec::new();
        if !has_program(self.qemu) {
            missing.push(self.qemu_package);
        }
        if !has_program(self.strip) || (self.cross.is_some() && !Path::new(self.libraries).join("libc.so.6").exists()) {
            missing.extend(if self.cross.is_some() { &["gcc-aarch64-linux-gnu"][..] } else { &["binutils"] });
        }
        if !has_program("apt-get") || !has_program("dpkg-deb") {
            return Err("kernels come from Debian's archive by apt-get and dpkg-deb, which are missing".into());
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!("install what is missing: apt-get install --no-install-recommends {}", missing.join(" ")))
    }

    /// Fetches the kernel and a static busybox to `folder`.
    pub(crate) fn fetch(&self, folder: &Path) -> Outcome {
        let stamp = folder.join("kernel.stamp");
        let made_from = format!("{} {}\n", self.suite, self.architecture);
        if stamp::read(&stamp) == made_from {
            return Ok(());
        }
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(|error| format!("cannot remove {}: {error}", folder.display()))?;
        }
        let archive = Archive::open(&folder.join("apt"), self.suite, self.architecture)?;
        let kernel = format!("linux-image-cloud-{}", self.architecture);
        archive.unpack(&kernel, Some("linux-image-"), &folder.join("files"))?;
        archive.unpack("busybox-static", None, &folder.join("files"))?;
        stamp::write(&stamp, &made_from)
    }

    pub(crate) fn build(&self) -> Result<Command, String> {
        let Some(cross) = self.cross else { return Ok(cargo::cargo(&["test", "--workspace"])) };
        let packages = ["procession", "procession-core", "procession-shm", "procession-sys"];
        let packages: Vec<&str> = packages.iter().flat_map(|package| ["--package", package]).collect();
        let arguments = [&["test", "--target", cross][..], &packages].concat();
        let mut command = if has_std("rustc", cross) {
            cargo::cargo(&arguments)
        } else if has_std("/usr/bin/rustc", cross) {
            // Debian's own toolchain, whose libraries for other processors are packages.
            let mut command = Command::new("/usr/bin/cargo");
            command.args(&arguments).current_dir(cargo::root()).env("RUSTC", "/usr/bin/rustc");
            command.env_remove("RUSTUP_TOOLCHAIN").env_remove("LD_LIBRARY_PATH").env("PATH", "/usr/bin:/bin");
            command
        } else {
            return Err(format!(
                "rustc has no standard library for {cross}: `rustup target add {cross}`, or on Debian `dpkg \
                 --add-architecture arm64` and apt-get install rustc-web cargo-web libstd-rust-web-dev:arm64"
            ));
        };
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
        Ok(command)
    }
}

/// Returns whether a compiler has the standard library for a target.
fn has_std(rustc: &str, target: &str) -> bool {
    let asked = Command::new(rustc).args(["--print", "target-libdir", "--target", target]).output();
    let Ok(output) = asked else { return false };
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success() && Path::new(&folder).is_dir()
}
