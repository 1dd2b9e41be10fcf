//! `cargo xtask vm`: runs the Rust tests on another kernel, or another processor, that qemu
//! emulates. Debian's cloud kernels boot an initramfs that holds the test binaries and little else.
//! It uses no KVM and is some ten times slower than here, so the limits of the tests are scaled.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::binaries::{self, Binary};
use crate::cargo::{run as run_command, target};
use crate::initramfs::Initramfs;
use crate::machine::{MACHINES, Machine};
use crate::results::{self, Row};
use crate::{Outcome, stamp};

const USAGE: &str = "it takes aarch64, 5.10 or 6.1, and names of test binaries; without names all run";
const SCALE: &str = "PROCESSION_TEST_TIME_SCALE";
/// Seconds that one test binary may take in the machine, and that booting may take.
const BINARY_SECONDS: u64 = 30 * 60;
const BOOT_SECONDS: u64 = 5 * 60;
const STRIP_LIMIT: Duration = Duration::from_secs(60);

/// Test binaries that cannot run there, and why.
const LEFT_OUT: [(&str, &str); 4] = [
    ("compile_errors", "it runs the compiler, which is not in the machine"),
    ("python", "the Rust tests of the extension module are linked against this machine's Python"),
    ("examples", "it runs programs that lie beside it where it was built"),
    ("other_build", "it runs a program that lies beside it where it was built"),
];

/// The script of the machine's process 1. It frames each test's output, for `read_results`.
const INIT: &str = r#"#!/bin/sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
ifconfig lo 127.0.0.1 up
ulimit -n 4096
. /settings
cd /tmp
echo "@kernel $(uname -rm)"
for test in $TESTS; do
    echo "@begin $test"
    begun=$(cut -d. -f1 /proc/uptime)
    timeout "$LIMIT" "/tests/$test" </dev/null >/printed 2>&1
    code=$?
    cat /printed
    echo
    echo "@end $code $(($(cut -d. -f1 /proc/uptime) - begun))"
done
poweroff -f
"#;

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let (machine, names) = parse(arguments)?;
    machine.check()?;
    let folder = target().join("vm").join(machine.name);
    machine.fetch(&folder)?;
    let built = binaries::built(machine.build()?)?;
    let mut chosen = binaries::chosen(built, names)?;
    for (name, reason) in LEFT_OUT {
        if chosen.iter().any(|binary| binary.name == name) {
            println!("left out: {name}: {reason}");
            chosen.retain(|binary| binary.name != name);
        }
    }
    pack(machine, &folder, &chosen)?;
    let rows = boot(machine, &folder, chosen.len())?;
    if rows.len() < chosen.len() {
        println!("the machine ended early: {} of {} ran", rows.len(), chosen.len());
        results::conclude(&rows)?;
        return Err(format!("see {}", folder.join("console.log").display()));
    }
    results::conclude(&rows)
}

fn parse<'a>(arguments: &'a [&'a str]) -> Result<(&'static Machine, &'a [&'a str]), String> {
    let [name, names @ ..] = arguments else { return Err(USAGE.into()) };
    let machine = MACHINES.iter().find(|machine| machine.name == *name);
    let machine = machine.ok_or_else(|| format!("there is no machine {name}: {USAGE}"))?;
    match names.iter().find(|name| name.starts_with('-')) {
        Some(option) => Err(format!("{option} is not known: {USAGE}")),
        None => Ok((machine, names)),
    }
}

/// Makes the initramfs.
fn pack(machine: &Machine, folder: &Path, binaries: &[Binary]) -> Outcome {
    let mut files = Initramfs::default();
    for path in ["bin", "dev", "lib", "lib64", "proc", "root", "sys", "tests", "tmp", "etc"] {
        files.add_folder(path);
    }
    files.add_copy("bin/busybox", &folder.join("files").join("bin").join("busybox"))?;
    files.add_link("bin/sh", "busybox");
    files.add_program("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n");
    files.add_program("init", INIT.as_bytes());
    files.add_program("settings", settings(binaries, &std::env::var(SCALE).unwrap_or("10".into())).as_bytes());
    let loader = Path::new(machine.loader);
    let loader_here = Path::new(machine.libraries).join(loader.file_name().expect("it is a file"));
    files.add_copy(machine.loader.trim_start_matches('/'), &loader_here)?;
    for library in ["libc.so.6", "libm.so.6", "libgcc_s.so.1"] {
        files.add_copy(&format!("lib/{library}"), &Path::new(machine.libraries).join(library))?;
    }
    let stripped = folder.join("stripped");
    for binary in binaries {
        let mut strip = Command::new(machine.strip);
        strip.arg("--strip-debug").arg("-o").arg(&stripped).arg(&binary.path);
        run_command(strip, STRIP_LIMIT)?;
        files.add_copy(&format!("tests/{}", binary.name), &stripped)?;
    }
    files.save(&folder.join("initramfs"))
}

/// Boots it, prints each binary's outcome as it ends, and keeps the console's output in a file.
fn boot(machine: &Machine, folder: &Path, count: usize) -> Result<Vec<Row>, String> {
    let kernel = kernel(&folder.join("files").join("boot"))?;
    println!("booting {}", kernel.file_name().unwrap_or_default().to_string_lossy());
    let limit = BOOT_SECONDS + BINARY_SECONDS * count as u64;
    let mut command = Command::new("timeout");
    command.args(["--foreground", &limit.to_string(), machine.qemu]).args(machine.qemu_arguments);
    command.args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "4096", "-nographic", "-no-reboot", "-nic", "none"]);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(folder.join("initramfs"));
    command.arg("-append").arg(format!("console={} quiet panic=-1", machine.console));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut qemu = command.spawn().map_err(|error| format!("cannot run {}: {error}", machine.qemu))?;
    let lines = BufReader::new(qemu.stdout.take().expect("it is piped")).split(b'\n');
    let mut console = String::new();
    let lines = lines.map_while(Result::ok).map(|line| String::from_utf8_lossy(&line).trim_end().to_owned());
    let rows = read_results(machine.name, lines.inspect(|line| console += &format!("{line}\n")));
    qemu.wait().map_err(|error| format!("cannot wait for {}: {error}", machine.qemu))?;
    stamp::write(&folder.join("console.log"), &console)?;
    Ok(rows)
}

/// Returns the settings that the machine's process 1 reads.
fn settings(binaries: &[Binary], scale: &str) -> String {
    let names: Vec<&str> = binaries.iter().map(|binary| binary.name.as_str()).collect();
    format!("export {SCALE}={scale}\nLIMIT={BINARY_SECONDS}\nTESTS='{}'\n", names.join(" "))
}

/// Reads the frames that `INIT` puts around each test's output.
fn read_results(system: &str, lines: impl Iterator<Item = String>) -> Vec<Row> {
    let mut rows = Vec::new();
    let (mut program, mut printed) = (String::new(), String::new());
    for line in lines {
        if let Some(kernel) = line.strip_prefix("@kernel ") {
            println!("Linux {kernel}");
        } else if let Some(name) = line.strip_prefix("@begin ") {
            program = name.to_owned();
            printed.clear();
        } else if let Some(end) = line.strip_prefix("@end ") {
            let (code, seconds) = end.split_once(' ').unwrap_or((end, "0"));
            let row = Row {
                system: system.to_owned(),
                program: std::mem::take(&mut program),
                is_good: code == "0",
                summary: results::summary_of_rust(&printed),
                time: Duration::from_secs(seconds.parse().unwrap_or(0)),
            };
            row.announce(&printed);
            rows.push(row);
        } else {
            printed += &line;
            printed.push('\n');
        }
    }
    rows
}

fn kernel(boot: &Path) -> Result<PathBuf, String> {
    let files = fs::read_dir(boot).map_err(|error| format!("cannot read {}: {error}", boot.display()))?;
    let mut files = files.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"));
    files.next().map(|entry| entry.path()).ok_or_else(|| format!("no kernel in {}", boot.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_is_named_first() {
        let (machine, names) = parse(&["5.10", "sys", "sync"]).unwrap();
        assert_eq!((machine.name, names), ("5.10", &["sys", "sync"][..]));
        assert!(parse(&[]).is_err() && parse(&["2.4"]).unwrap_err().contains("no machine 2.4"));
        assert!(parse(&["6.1", "--fast"]).unwrap_err().contains("--fast is not known"));
    }

    #[test]
    fn results_are_read_from_the_console() {
        let console = "Booting\n@kernel 6.1.0 x86_64\n@begin sys\ntest a ... ok\n\n@end 0 3\n@begin sync\ntest b ... FAILED\n\ntest result: FAILED. 0 passed; 1 failed; 0 ignored\n\n@end 101 65";
        let rows = read_results("6.1", console.lines().map(str::to_owned));
        let seen: Vec<_> =
            rows.iter().map(|row| (&*row.program, row.is_good, &*row.summary, row.time.as_secs())).collect();
        assert_eq!(seen, [("sys", true, "1 passed", 3), ("sync", false, "0 passed, 1 failed", 65)]);
    }

    #[test]
    fn time_scale_reaches_the_machine() {
        let binary = Binary { name: "sys".into(), folder: "/".into(), path: "/sys".into() };
        assert_eq!(settings(&[binary], "10"), "export PROCESSION_TEST_TIME_SCALE=10\nLIMIT=1800\nTESTS='sys'\n");
    }
}
