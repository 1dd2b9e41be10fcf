//! The stack of a task's panic, by `RUST_BACKTRACE`. The program runs itself with each setting.

use std::process::Command;

use procession::{Context, Error};
use procession_testing::{for_each_context, run, tests};

/// Tells a run of this program what to do.
const SETTING: &str = "PROCESSION_TEST_SHOW_STACK";

fn main() {
    procession::init();
    if let Some(context) = std::env::var_os(SETTING) {
        return show_stack(&context.to_string_lossy());
    }
    run(tests! {
        for_each_context: [
            stacks_are_there_if_they_are_asked_for,
        ],
    })
}

#[inline(never)]
fn burst(x: u64) -> u64 {
    if std::hint::black_box(x) == 1 { panic!("burst") } else { x }
}

fn show_stack(context: &str) {
    let context = procession_testing::CONTEXTS.into_iter().find(|(name, _)| *name == context).unwrap().1;
    let pool = context.pool(1).unwrap();
    let errors: [Error; 2] = [
        pool.map(|x: u64| burst(x) + 1, [1]).unwrap_err(),
        context.process(|x: u64| burst(x) + 1, 1).start().unwrap().join().unwrap_err(),
    ];
    for error in errors {
        println!("{}\nend of stack", error.panic_backtrace().unwrap_or("no stack"));
    }
}

fn stacks_are_there_if_they_are_asked_for(context: Context) {
    let name = procession_testing::CONTEXTS.into_iter().find(|(_, known)| *known == context).unwrap().0;
    let stacks = |value: Option<&str>| {
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.env(SETTING, name).env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
        let output = program.envs(value.map(|value| ("RUST_BACKTRACE", value))).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let stacks: Vec<_> = text.split("end of stack\n").map(str::to_owned).collect();
        assert_eq!(stacks.len(), 3, "{text}");
        [stacks[0].clone(), stacks[1].clone()]
    };
    for stack in stacks(None).into_iter().chain(stacks(Some("0"))) {
        assert_eq!(stack, "no stack\n");
    }
    for stack in stacks(Some("1")) {
        assert!(stack.starts_with("   0: backtrace::burst\n") && stack.contains("show_stack::{{closure}}"), "{stack}");
        assert!(!stack.contains("panicking") && !stack.contains("procession_core"), "{stack}");
    }
    for stack in stacks(Some("full")) {
        assert!(stack.contains("panicking") && stack.contains("procession_core"), "{stack}");
    }
}
