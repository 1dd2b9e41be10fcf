//! The parent is SIGKILLed: its children end with it, under each start method, and nothing stays on
//! disk.
//!
//! The test runs this program again as the parent to be killed (`argument: a start method`); that
//! prints its children.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use procession::{Context, active_children};
use procession_testing::{children_named, eventually, for_each_context, run, runs, tests};

fn main() {
    procession::init();
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, method] = &arguments[..]
        && role == "victim"
    {
        victim(Context::new(method.parse().unwrap()));
    }
    run(tests! {
        for_each_context: [children_end_and_nothing_stays],
    })
}

fn children_end_and_nothing_stays(context: Context) {
    let before = left_behind();
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["victim", &context.start_method().to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let children: Vec<u32> = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert!(children.len() >= 5, "{line}");
    assert!(children.iter().all(|pid| runs(*pid)), "all live before: {line}");
    parent.kill().unwrap();
    parent.wait().unwrap();
    eventually("every child ends", || children.iter().all(|pid| !runs(*pid)));
    assert_eq!(left_behind(), before, "/dev/shm and /tmp are as before");
}

/// A pool with workers busy and idle, a process that sleeps and one that computes, each the only
/// holder of its life.
fn victim(context: Context) -> ! {
    let pool = context.pool(3).unwrap();
    let _busy = pool.apply_async(|()| std::thread::sleep(Duration::from_secs(3600)), ()).unwrap();
    let sleeps = context.process(|()| std::thread::sleep(Duration::from_secs(3600)), ()).start().unwrap();
    let computes = context.process(
        |()| loop {
            std::hint::spin_loop();
        },
        (),
    );
    let computes: procession::Process<()> = computes.start().unwrap();
    let mut pids: Vec<u32> = active_children().iter().map(|child| child.pid()).collect();
    pids.extend(children_named("forkserver"));
    println!("{}", pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "));
    std::io::stdout().flush().unwrap();
    std::thread::sleep(Duration::from_secs(3600));
    drop((sleeps, computes));
    unreachable!("the test kills this process")
}

/// Returns the files that procession could have left: other programs use these places too.
fn left_behind() -> BTreeSet<String> {
    let entries = ["/dev/shm", "/tmp"].into_iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path().to_string_lossy().into_owned()))
        .filter(|path| path.contains("procession") || path.starts_with("/dev/shm"))
        .collect()
}
