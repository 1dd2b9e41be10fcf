//! Little of everything: 64 file descriptors and 400 tasks outstanding; 1 GiB of address space.
//!
//! The test runs this program again under a limit (`argument: a start method`).

mod harness;

use std::process::Command;

use harness::{for_each_context, run};
use procession::Context;

fn main() {
    procession::init();
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, method] = &arguments[..]
        && role == "limited"
    {
        limited(Context::new(method.parse().unwrap()));
        return;
    }
    let mut trials: Vec<_> =
        for_each_context("400_tasks_under_64_fds", |context| under("ulimit -n 64", context)).collect();
    trials.extend(for_each_context("400_tasks_in_1_gib_of_addresses", |context| under("ulimit -v 1048576", context)));
    run(trials);
}

fn under(limit: &str, context: Context) {
    let output = Command::new("sh")
        .args(["-c", &format!("{limit}; exec \"$0\" limited \"$1\"")])
        .arg(std::env::current_exe().unwrap())
        .arg(context.start_method().to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "sum 79800\n");
}

fn limited(context: Context) {
    let pool = context.pool(4).unwrap();
    let results: Vec<_> = (0..400u64).map(|x| pool.apply_async(|x: u64| x, x).unwrap()).collect();
    let sum: u64 = results.iter().map(|result| result.get().unwrap()).sum();
    println!("sum {sum}");
}
