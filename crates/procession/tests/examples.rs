//! Every example runs and prints what it promises. Run the whole of `cargo test -p procession`:
//! cargo builds no examples for `--test examples` alone, and those of an earlier build would be
//! tested.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use procession_testing::{in_time, once, run, tests};

fn main() {
    run(tests! {
        once: [
            hello_prints_what_its_process_returned,
            contexts_prints_a_result_by_each_start_method,
            pool_map_prints_its_results_and_its_time,
            wordcount_counts_the_words_of_all_files,
            crash_loses_one_task_and_the_pool_serves_on,
            watched_runs_until_its_input_ends,
        ],
    })
}

fn hello_prints_what_its_process_returned() {
    let text = output_of("hello", &[]);
    assert!(text.contains("hello bob, from Process-1"), "{text}");
    assert!(text.contains("bob has 3 letters; exit code Some(0)"), "{text}");
}

fn contexts_prints_a_result_by_each_start_method() {
    let text = output_of("contexts", &[]);
    assert!(text.contains("fork: (9, \"forked\")"), "{text}");
    assert!(text.contains("spawn: (16, \"spawned\")"), "{text}");
    assert!(text.contains("a closure that borrows: 13"), "{text}");
    assert!(text.contains("a pool by spawn: [1, 2, 3, 4, 5]"), "{text}");
}

fn pool_map_prints_its_results_and_its_time() {
    let text = output_of("pool_map", &[]);
    assert!(text.starts_with("[1, 2, 3, 4] after "), "{text}");
    let seconds = text.split_whitespace().rev().nth(1).unwrap().parse::<f64>();
    assert!(seconds.is_ok(), "{text}");
}

fn wordcount_counts_the_words_of_all_files() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    std::fs::write(&one, "the cat and the dog").unwrap();
    std::fs::write(&two, "The end. (the-cat)").unwrap();
    let text = output_of("wordcount", &[one.to_str().unwrap(), two.to_str().unwrap()]);
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    assert_eq!(lines, ["4 the", "2 cat", "1 and", "1 dog", "1 end"]);
}

fn crash_loses_one_task_and_the_pool_serves_on() {
    let text = output_of("crash", &[]);
    assert!(text.contains("5: lost, by signal Some(6)"), "{text}");
    for x in (0..10).filter(|x| *x != 5) {
        assert!(text.contains(&format!("{x}: {}\n", x * 10)), "{text}");
    }
    assert!(text.contains("and the pool still serves: [10, 20, 30]"), "{text}");
}

fn watched_runs_until_its_input_ends() {
    let text = output_of("watched", &["fork"]);
    assert!(text.starts_with("python -m procession top ") && text.contains("\nit has run "), "{text}");
}

/// Returns the output of an example. Cargo builds the examples with the tests, beside their folder.
fn output_of(name: &str, arguments: &[&str]) -> String {
    let test = std::env::current_exe().unwrap();
    let program: PathBuf = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
    let mut child = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{}: {error}; run `cargo test -p procession`, which builds it", program.display())
        });
    let deadline = in_time();
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{name} hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    assert!(status.success(), "{name}: {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}
