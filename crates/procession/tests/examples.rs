//! Every example runs and prints what it promises. Run the whole of `cargo test -p procession`: cargo builds no examples for
//! `--test examples` alone, and those of an earlier build would be tested.

#[path = "../../procession-sys/tests/time_scale/mod.rs"]
mod time_scale;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

#[test]
fn hello() {
    let text = run("hello", &[]);
    assert!(text.contains("hello bob, from Process-1"), "{text}");
    assert!(text.contains("bob has 3 letters; exit code Some(0)"), "{text}");
}

#[test]
fn contexts() {
    let text = run("contexts", &[]);
    assert!(text.contains("fork: (9, \"forked\")"), "{text}");
    assert!(text.contains("spawn: (16, \"spawned\")"), "{text}");
    assert!(text.contains("a closure that borrows: 13"), "{text}");
    assert!(text.contains("a pool by spawn: [1, 2, 3, 4, 5]"), "{text}");
}

#[test]
fn pool_map() {
    let text = run("pool_map", &[]);
    assert!(text.starts_with("[1, 2, 3, 4] after "), "{text}");
    let seconds: f64 = text.split_whitespace().rev().nth(1).unwrap().parse().unwrap();
    // One after the other they would take four.
    assert!((1.0..time_scale::scaled(Duration::from_secs(4)).as_secs_f64()).contains(&seconds), "{text}");
}

#[test]
fn wordcount() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    std::fs::write(&one, "the cat and the dog").unwrap();
    std::fs::write(&two, "The end. (the-cat)").unwrap();
    let text = run("wordcount", &[one.to_str().unwrap(), two.to_str().unwrap()]);
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    assert_eq!(lines, ["4 the", "2 cat", "1 and", "1 dog", "1 end"]);
}

#[test]
fn crash() {
    let text = run("crash", &[]);
    assert!(text.contains("5: lost, by signal Some(6)"), "{text}");
    for x in (0..10).filter(|x| *x != 5) {
        assert!(text.contains(&format!("{x}: {}\n", x * 10)), "{text}");
    }
    assert!(text.contains("and the pool still serves: [10, 20, 30]"), "{text}");
}

/// What an example prints. Cargo builds the examples with the tests, beside their folder.
fn run(name: &str, arguments: &[&str]) -> String {
    let test = std::env::current_exe().unwrap();
    let program: PathBuf = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
    let mut child =
        Command::new(&program).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(
            |error| panic!("{}: {error}; run `cargo test -p procession`, which builds it", program.display()),
        );
    let deadline = Instant::now() + time_scale::scaled(Duration::from_secs(60));
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
