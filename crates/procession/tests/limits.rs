//! Little of everything: 64 file descriptors and 400 tasks outstanding; 1 GiB of address space; 1
//! GiB of memory and ten times as much to be passed through it; no `/dev/shm`, one of 1 MiB, no
//! `/proc`.
//!
//! The test runs this program again under a limit (`argument: what to do, a start method`). For
//! mounts that takes privileges: without them such a test is skipped.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use procession::{Bytes, Context, StartMethod};
use procession_testing::{Trial, for_each_context, needs_mounts, processes_below, run, tests, trial};

const MIB: usize = 1 << 20;

type Pass = fn(Context, u64) -> u64;

/// By which call, how many tasks of 1 MiB, with an argument that goes in a block or, copied more
/// often, in the ring.
const WAYS: [(&str, u64, Pass); 4] = [
    ("imap_of_bytes", 10_000, |context, tasks| imap(context, tasks, bytes)),
    ("imap_of_text", 1500, |context, tasks| imap(context, tasks, text)),
    ("apply_async_of_bytes", 10_000, |context, tasks| apply_async(context, tasks, bytes)),
    ("apply_async_of_text", 1500, |context, tasks| apply_async(context, tasks, text)),
];

fn main() {
    procession::init();
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, method] = &arguments[..] {
        let context = || Context::new(method.parse().unwrap());
        match role.as_str() {
            "many" => return println!("sum {}", many(context())),
            "no-proc" => return println!("sum {}", without_proc(context())),
            way => {
                if let Some((_, tasks, pass)) = WAYS.iter().find(|(name, ..)| *name == way) {
                    return println!("sum {}", pass(context(), *tasks));
                }
            }
        }
    }
    run(tests! {
        for_each_context: [
            four_hundred_tasks_run_under_64_fds,
            four_hundred_tasks_run_in_1_gib_of_addresses,
            four_hundred_tasks_run_without_dev_shm,
            four_hundred_tasks_run_with_a_dev_shm_of_1_mib,
            four_hundred_tasks_run_without_proc,
        ],
        for_each_way: [many_mib_pass_through_1_gib],
    })
}

fn for_each_way(name: &str, body: fn(&'static str, u64)) -> [Trial; 4] {
    WAYS.map(|(way, tasks, _)| trial(&format!("{name}::{way}"), move || body(way, tasks)))
}

fn four_hundred_tasks_run_under_64_fds(context: Context) {
    limited("ulimit -n 64", context);
}

fn four_hundred_tasks_run_in_1_gib_of_addresses(context: Context) {
    limited("ulimit -v 1048576", context);
}

fn four_hundred_tasks_run_without_dev_shm(context: Context) {
    mounted("mount -t tmpfs tmpfs /dev && ! test -e /dev/shm", "many", context);
}

fn four_hundred_tasks_run_with_a_dev_shm_of_1_mib(context: Context) {
    mounted("mount -t tmpfs -o size=1M tmpfs /dev/shm", "many", context);
}

fn four_hundred_tasks_run_without_proc(context: Context) {
    mounted("mount -t tmpfs tmpfs /proc && ! test -e /proc/self", "no-proc", context);
}

/// Checks that the memory of the program and its workers never reaches 1 GiB. If several have
/// mapped the same memory, each counts its part.
fn many_mib_pass_through_1_gib(way: &'static str, tasks: u64) {
    let mut shell = Command::new("sh");
    let command = again(shell.arg("-c"), "true", way, Context::fork());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let done = std::sync::atomic::AtomicBool::new(false);
    let (most, output) = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let (mut most, mut samples) = (0, 0);
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                most = processes_below(pid).into_iter().map(memory_of).sum::<usize>().max(most);
                samples += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            (most, samples)
        });
        let output = child.wait_with_output().unwrap();
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        (sampler.join().unwrap(), output)
    });
    assert_sum(&output, tasks * MIB as u64);
    let (most, samples) = most;
    println!("{way}: at most {} MiB in {samples} samples", most / MIB);
    assert!(samples >= 5 && most > 2 * MIB, "{samples} samples of {most} bytes at most show nothing");
    assert!(most < 1 << 30, "{} MiB were in memory", most / MIB);
}

fn limited(limit: &str, context: Context) {
    let output = again(Command::new("sh").arg("-c"), limit, "many", context).output().unwrap();
    assert_sum(&output, 400 * 399 / 2);
}

fn mounted(mount: &str, role: &str, context: Context) {
    needs_mounts();
    let output = again(Command::new("unshare").args(["-m", "sh", "-c"]), mount, role, context).output().unwrap();
    assert_sum(&output, 400 * 399 / 2);
}

/// This program again, by a shell that sets a limit first.
fn again<'a>(shell: &'a mut Command, limit: &str, role: &str, context: Context) -> &'a mut Command {
    shell
        .arg(format!("{limit} && exec \"$0\" {role} \"$1\""))
        .arg(std::env::current_exe().unwrap())
        .arg(context.start_method().to_string())
}

fn assert_sum(output: &Output, sum: u64) {
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("sum {sum}\n"));
}

/// Bytes of memory; none of a process that has ended.
fn memory_of(pid: u32) -> usize {
    let Ok(rollup) = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { return 0 };
    let kib =
        rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

fn many(context: Context) -> u64 {
    let pool = context.pool(4).unwrap();
    let results: Vec<_> = (0..400u64).map(|x| pool.apply_async(|x: u64| x, x).unwrap()).collect();
    results.iter().map(|result| result.get().unwrap()).sum()
}

/// The program is found by what it is told. What forks cannot count threads there, and says what
/// helps.
fn without_proc(context: Context) -> u64 {
    procession::set_executable(std::env::args().next().unwrap());
    if context.start_method() == StartMethod::Spawn {
        return many(context);
    }
    let error = context.pool(4).unwrap_err().to_string();
    assert!(error.contains("/proc is not mounted") && error.contains("mount -t proc"), "{error}");
    many(Context::spawn())
}

trait Measured: serde::Serialize + serde::de::DeserializeOwned + 'static {
    fn len(&self) -> usize;
}

impl Measured for Bytes {
    fn len(&self) -> usize {
        self.iter().len()
    }
}

impl Measured for String {
    fn len(&self) -> usize {
        self.as_str().len()
    }
}

fn bytes() -> Bytes {
    vec![7; MIB].into()
}

fn text() -> String {
    "x".repeat(MIB)
}

fn imap<A: Measured>(context: Context, tasks: u64, argument: fn() -> A) -> u64 {
    let pool = context.pool(2).unwrap();
    let sizes = pool.imap(|argument: A| argument.len() as u64, (0..tasks).map(move |_| argument()));
    sizes.map(Result::unwrap).sum()
}

fn apply_async<A: Measured>(context: Context, tasks: u64, argument: fn() -> A) -> u64 {
    let pool = context.pool(2).unwrap();
    let size = |argument: A| argument.len() as u64;
    let results: Vec<_> = (0..tasks).map(|_| pool.apply_async(size, argument()).unwrap()).collect();
    results.iter().map(|result| result.get().unwrap()).sum()
}
