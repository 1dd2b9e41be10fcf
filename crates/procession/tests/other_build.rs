//! The program that is executed is another one: found out when a process starts, and said.

use std::path::PathBuf;

use procession_testing::{CONTEXTS, once, run, tests};

fn main() {
    procession::init();
    run(tests! {
        once: [
            another_build_is_refused_by_the_handshake,
            a_program_without_init_is_named,
            a_program_that_is_not_there_is_named,
        ],
    })
}

fn another_build_is_refused_by_the_handshake() {
    procession::set_executable(example("hello"));
    for (method, context) in CONTEXTS.into_iter().skip(1) {
        let error = started(context).unwrap_err();
        assert!(error.is_other_build(), "{method}: {error}");
        assert!(error.to_string().contains("another build"), "{error}");
        let error = context.pool(2).and_then(|pool| pool.apply(|x: u8| x, 1)).unwrap_err();
        assert!(error.is_other_build(), "{method}: {error}");
    }
}

fn a_program_without_init_is_named() {
    procession::set_executable("/bin/true");
    for (method, context) in CONTEXTS.into_iter().skip(1) {
        let error = started(context).unwrap_err();
        assert!(error.is_not_initialized() && error.to_string().contains("init()"), "{method}: {error}");
    }
}

fn a_program_that_is_not_there_is_named() {
    procession::set_executable("/nowhere/at/all");
    for (method, context) in CONTEXTS.into_iter().skip(1) {
        let error = started(context).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{method}: {error}");
    }
}

fn started(context: procession::Context) -> procession::Result<u8> {
    context.process(|x: u8| x, 1).start()?.join()
}

/// Cargo builds the examples with the tests, beside their folder.
fn example(name: &str) -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let path = deps.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --examples`", path.display());
    path
}
