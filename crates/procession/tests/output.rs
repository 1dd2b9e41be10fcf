//! The output of children, which comes home line by line under each start method: of `println!`, of
//! C code, of programs that they start, of children that are killed.

use std::collections::HashMap;
use std::io::Write;
use std::process::Command;
use std::sync::{Arc, Mutex};

use procession::output::{Line, StreamName};
use procession::{Context, Output, Process};
use procession_testing::{Random, eventually, for_each_context, kill, once, patience, run, tests};

/// A line as a test keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Kept {
    name: String,
    slot: Option<usize>,
    pid: u32,
    stream: StreamName,
    text: String,
    is_whole: bool,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<Kept>>>);

impl Lines {
    fn output(&self) -> Output {
        let lines = self.clone();
        Output::callback(move |line: &Line<'_>| {
            let (name, text) = (line.name().to_owned(), line.text().into_owned());
            let (slot, pid, stream, is_whole) = (line.slot(), line.pid(), line.stream(), line.is_whole());
            lines.0.lock().unwrap().push(Kept { name, slot, pid, stream, text, is_whole });
        })
    }

    fn all(&self) -> Vec<Kept> {
        self.0.lock().unwrap().clone()
    }

    fn of(&self, stream: StreamName) -> Vec<String> {
        self.all().into_iter().filter(|line| line.stream == stream).map(|line| line.text).collect()
    }
}

fn main() {
    procession::init();
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, method] = &arguments[..]
        && role == "prefix"
    {
        return print_behind_prefixes(Context::new(method.parse().unwrap()));
    }
    run(tests! {
        for_each_context: [
            lines_of_a_process_have_come_when_it_is_joined,
            lines_of_workers_come_with_their_slots,
            output_of_started_programs_comes_too,
            killed_child_has_lost_nothing_that_it_wrote,
            killed_workers_tear_no_line,
            full_pipe_does_not_stop_a_worker,
            left_behind_program_does_not_hold_up_a_join,
            null_output_is_dropped,
            lines_come_behind_prefixes,
            panicking_callback_loses_no_further_line,
            replaced_worker_prints_while_a_callback_runs,
        ],
        once: [lines_come_at_the_exit_of_a_program_that_does_not_join, callback_may_use_its_pool],
    })
}

fn greet(name: String) -> u32 {
    println!("hello, {name}");
    eprintln!("not to {name}");
    print!("no end");
    std::process::id()
}

fn lines_of_a_process_have_come_when_it_is_joined(context: Context) {
    let lines = Lines::default();
    let process = context.process(greet, "you".to_owned()).name("greeter").output(lines.output());
    let pid = process.start().unwrap().join().unwrap();
    assert_eq!(lines.of(StreamName::Stdout), ["hello, you", "no end"]);
    assert_eq!(lines.of(StreamName::Stderr), ["not to you"]);
    for line in lines.all() {
        assert_eq!((line.name.as_str(), line.slot, line.pid), ("greeter", None, pid));
        assert_eq!(line.is_whole, line.text != "no end");
    }
}

fn lines_of_workers_come_with_their_slots(context: Context) {
    let lines = Lines::default();
    let pool = context.pool_builder(2).output(lines.output()).start().unwrap();
    let count = |number: u32| {
        println!("number {number}");
        std::process::id()
    };
    let ran = pool.chunk_size(1).map(count, 0..100).unwrap();
    let pids = pool.worker_pids();
    pool.close();
    pool.join().unwrap();
    let all = lines.all();
    assert_eq!(all.len(), 100);
    for line in all {
        let number: usize = line.text.strip_prefix("number ").unwrap().parse().unwrap();
        assert_eq!((ran[number], pids[line.slot.unwrap()]), (line.pid, line.pid));
    }
}

fn output_of_started_programs_comes_too(context: Context) {
    let lines = Lines::default();
    let shell = |()| assert!(Command::new("sh").args(["-c", "echo out; echo err >&2"]).status().unwrap().success());
    context.process(shell, ()).output(lines.output()).start().unwrap().join().unwrap();
    assert_eq!((lines.of(StreamName::Stdout), lines.of(StreamName::Stderr)), (vec!["out".into()], vec!["err".into()]));
}

/// Ends itself behind the last line, without any flush.
fn print_and_die(lines: u64) {
    (0..lines).for_each(|line| println!("{line}"));
    print!("torn off");
    std::io::stdout().flush().unwrap();
    kill(std::process::id());
}

fn killed_child_has_lost_nothing_that_it_wrote(context: Context) {
    let lines = Lines::default();
    let process = context.process(print_and_die, 5000).output(lines.output());
    let error = process.start().unwrap().join().unwrap_err();
    assert_eq!(error.signal(), Some(9));
    let mut expected: Vec<String> = (0..5000).map(|line| line.to_string()).collect();
    expected.push("torn off".into());
    assert_eq!(lines.of(StreamName::Stdout), expected);
}

/// A line says whether all of it is there.
fn print_lines(count: u64) {
    let mut random = Random::new(count + u64::from(std::process::id()));
    for number in 0..count {
        let len = random.below(300) as usize;
        println!("{number} {len} {}.", "x".repeat(len));
    }
}

fn killed_workers_tear_no_line(context: Context) {
    let lines = Lines::default();
    let pool = context.pool_builder(2).output(lines.output()).start().unwrap();
    for round in 0..10 {
        let printing = pool.map_async(print_lines, [20_000, 20_000]).unwrap();
        // Under fork it is the program's threads that replace workers, as they come by.
        eventually("lines come", || !pool.worker_pids().is_empty() && lines.all().len() > round * 100);
        pool.worker_pids().iter().take(1).for_each(|pid| {
            let _ = kill(*pid);
        });
        let _ = printing.cancel();
    }
    pool.terminate();
    let mut next: HashMap<u32, Vec<u64>> = HashMap::new();
    for line in lines.all() {
        if !line.is_whole {
            continue;
        }
        let parts: Vec<&str> = line.text.split(' ').collect();
        assert_eq!(parts.len(), 3, "{line:?}");
        let (number, len): (u64, usize) = (parts[0].parse().unwrap(), parts[1].parse().unwrap());
        assert!(parts[2].len() == len + 1 && parts[2].ends_with('.'), "{line:?}");
        next.entry(line.pid).or_default().push(number);
    }
    for numbers in next.values() {
        // Of each task all lines up to the kill, in order.
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1 || pair[1] == 0), "a line is missing");
    }
}

fn full_pipe_does_not_stop_a_worker(context: Context) {
    let lines = Lines::default();
    let pool = context.pool_builder(1).output(lines.output()).start().unwrap();
    let print = |count: u64| (0..count).for_each(|_| println!("{}", "y".repeat(999)));
    pool.apply(print, 20_000).unwrap();
    drop(pool);
    let printed = lines.of(StreamName::Stdout);
    assert!(printed.len() == 20_000 && printed.iter().all(|line| line.len() == 999));
}

/// It has the pipes, too, and leads a session, so that nobody ends it.
fn left_behind_program_does_not_hold_up_a_join(context: Context) {
    let lines = Lines::default();
    let leave = |()| {
        println!("mine");
        Command::new("setsid").args(["sleep", "1000"]).spawn().unwrap().id()
    };
    let mut process = context.process(leave, ()).output(lines.output()).start().unwrap();
    let pid = process.join().unwrap();
    assert_eq!(lines.of(StreamName::Stdout), ["mine"]);
    kill(pid);
}

fn null_output_is_dropped(context: Context) {
    let pool = context.pool_builder(1).output(Output::Null).start().unwrap();
    let targets = |()| [1, 2].map(|fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap());
    assert!(pool.apply(targets, ()).unwrap().iter().all(|target| target.to_str() == Some("/dev/null")));
}

fn print_behind_prefixes(context: Context) {
    let pool = context.pool_builder(1).output(Output::Prefix).start().unwrap();
    pool.apply(greet, "pool".to_owned()).unwrap();
    pool.close();
    pool.join().unwrap();
    let process = context.process(greet, "process".to_owned()).name("greeter").output(Output::Prefix);
    process.start().unwrap().join().unwrap();
}

fn lines_come_behind_prefixes(context: Context) {
    let mut program = Command::new(std::env::current_exe().unwrap());
    let output = program.args(["prefix", &context.start_method().to_string()]).output().unwrap();
    assert!(output.status.success());
    let prefixed = ["[worker 0] hello, pool", "[worker 0] no end", "[greeter] hello, process", "[greeter] no end"];
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().collect::<Vec<_>>(), prefixed);
    let errors = ["[worker 0] not to pool", "[greeter] not to process"];
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().collect::<Vec<_>>(), errors);
}

fn panicking_callback_loses_no_further_line(context: Context) {
    let lines = Lines::default();
    let kept = lines.clone();
    let output = Output::callback(move |line: &Line<'_>| {
        kept.0.lock().unwrap().push(Kept {
            name: String::new(),
            slot: None,
            pid: 0,
            stream: line.stream(),
            text: line.text().into_owned(),
            is_whole: true,
        });
        std::panic::resume_unwind(Box::new("in the callback"));
    });
    let print = |()| println!("one\ntwo\nthree");
    context.process(print, ()).output(output).start().unwrap().join().unwrap();
    assert_eq!(lines.of(StreamName::Stdout), ["one", "two", "three"]);
}

/// Under fork no worker is forked while the program's code runs in the thread that reads.
fn replaced_worker_prints_while_a_callback_runs(context: Context) {
    let lines = Lines::default();
    let kept = lines.output();
    let output = Output::callback(move |line: &Line<'_>| {
        std::thread::sleep(std::time::Duration::from_millis(80));
        if let Output::Callback(keep) = &kept {
            keep(line);
        }
    });
    let pool = context.pool_builder(1).output(output).start().unwrap();
    for round in 0..8_u32 {
        let lost = pool.apply(
            |round: u32| {
                println!("{round}");
                std::process::abort();
            },
            round,
        );
        let error: Result<(), _> = lost;
        assert!(error.unwrap_err().is_worker_lost());
    }
    drop(pool);
    let printed: Vec<String> = lines.of(StreamName::Stdout);
    assert_eq!(printed, (0..8).map(|round| round.to_string()).collect::<Vec<_>>());
}

fn lines_come_at_the_exit_of_a_program_that_does_not_join() {
    let lines = Lines::default();
    let inner = || {
        let print = || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            println!("late");
        };
        drop(Process::fork(print).output(Output::Prefix).start().unwrap());
    };
    Process::fork(inner).output(lines.output()).start().unwrap().join().unwrap();
    let printed = lines.of(StreamName::Stdout);
    assert!(printed.len() == 1 && printed[0].ends_with("] late"), "{printed:?}");
}

fn callback_may_use_its_pool() {
    let pool = Context::spawn().pool(1).unwrap();
    let (sender, answers) = std::sync::mpsc::channel();
    let its = pool.clone();
    let output = Output::callback(move |line: &Line<'_>| {
        let length = its.apply(|text: String| text.len(), line.text().into_owned());
        sender.send(length.unwrap()).unwrap();
    });
    Context::spawn().process(|()| println!("four"), ()).output(output).start().unwrap().join().unwrap();
    assert_eq!(answers.recv_timeout(patience()), Ok(4));
}
