//! A process dies at every numbered step of a name's protocol, and the tracker at every one of its
//! own; what is left is what the tables in the tracker's module say.
//!
//! The test runs this program again as the one to die
//! (`arguments: who dies, the step's place, its pass, the names' beginning`).

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use procession::SharedMemory;
use procession_core::fault::{Step, arm};
use procession_testing::{Trial, children_named, eventually, run, runs, tests, trial};

const NAMES: u32 = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let is_tracker = arguments[0].ends_with("[procession-child]");
    if let [_, who, step, nth, names] = &arguments[..] {
        let (step, nth) = (Step::OF_NAMES[step.parse::<usize>().unwrap()], nth.parse().unwrap());
        match who.as_str() {
            "program-dies" if !is_tracker => arm(step, nth),
            // The first tracker only: who makes the file is the first.
            "tracker-dies" if is_tracker => {
                let first = OpenOptions::new().write(true).create_new(true).open(armed(names));
                if first.is_ok() {
                    arm(step, nth);
                }
            }
            _ => {}
        }
        procession::init();
        return match who.as_str() {
            "program-dies" => make_and_unlink(names),
            _ => make_and_leave(names, (step == Step::TrackerHeard).then_some(nth)),
        };
    }
    procession::init();
    run(tests! {
        for_each_step: [death_leaves_what_the_tables_say],
    })
}

fn for_each_step(name: &str, body: fn(Step)) -> Vec<Trial> {
    Step::OF_NAMES.into_iter().map(|step| trial(&format!("{name}::{step:?}"), move || body(step))).collect()
}

fn death_leaves_what_the_tables_say(step: Step) {
    for nth in 1..=NAMES {
        let names = format!("procession_fault_{}_{step:?}_{nth}_", std::process::id());
        match step {
            Step::TrackerBegun | Step::TrackerHeard | Step::TrackerAlone | Step::TrackerUnlinked => {
                of_tracker(step, nth, &names)
            }
            _ => of_program(step, nth, &names),
        }
    }
}

fn of_program(step: Step, nth: u32, names: &str) {
    let others = path(names, nth);
    if step == Step::NameRegistered {
        // Another program was quicker: its file is not to be touched.
        std::fs::write(&others, "another's").unwrap();
    }
    assert_eq!(ended("program-dies", step, nth, names).signal(), Some(9), "it dies at {step:?}, pass {nth}");
    if step == Step::NameRegistered {
        assert_eq!(std::fs::read(&others).unwrap(), b"another's");
        std::fs::remove_file(&others).unwrap();
    }
    eventually(&format!("no name is left after a death at {step:?}, pass {nth}"), || left(names) == 0);
}

fn of_tracker(step: Step, nth: u32, names: &str) {
    assert!(ended("tracker-dies", step, nth, names).success(), "{step:?}, pass {nth}");
    std::fs::remove_file(armed(names)).expect("a tracker was armed");
    let lost = match step {
        Step::TrackerAlone if nth == 1 => NAMES,
        Step::TrackerUnlinked => NAMES - nth,
        // It begins, and is alone, once; and what was told to one that died is told again.
        _ => 0,
    };
    eventually(&format!("{lost} are left after a death at {step:?}, pass {nth}"), || left(names) == lost);
    if lost > 0 {
        eventually("nobody is there to unlink them", || !has_tracker());
        assert_eq!(left(names), lost);
    }
    (1..=NAMES).for_each(|number| drop(std::fs::remove_file(path(names, number))));
}

/// Returns whether a tracker of any process of this program runs: its own parent may have ended.
fn has_tracker() -> bool {
    let program = std::env::current_exe().unwrap();
    let is_tracker = |folder: PathBuf| {
        std::fs::read_link(folder.join("exe")).is_ok_and(|exe| exe == program)
            && std::fs::read_to_string(folder.join("comm")).is_ok_and(|name| name.trim() == "tracker")
    };
    std::fs::read_dir("/proc").unwrap().any(|entry| is_tracker(entry.unwrap().path()))
}

/// Runs this program in one of its roles.
fn ended(who: &str, step: Step, nth: u32, names: &str) -> ExitStatus {
    let place = Step::OF_NAMES.iter().position(|other| *other == step).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args([who, &place.to_string(), &nth.to_string(), names])
        .stdin(Stdio::null())
        .status()
        .unwrap()
}

fn make_and_unlink(names: &str) {
    let made: Vec<SharedMemory> = (1..=NAMES).map(|number| make(names, number)).collect();
    made.iter().for_each(|memory| memory.unlink().unwrap());
}

/// With `dies_at` names made, the tracker is dead.
fn make_and_leave(names: &str, dies_at: Option<u32>) {
    for number in 1..=NAMES {
        make(names, number);
        if dies_at == Some(number) {
            eventually("the tracker is dead", || !children_named("tracker").into_iter().any(runs));
            // The next use.
            make(names, NAMES + 1).unlink().unwrap();
        }
    }
}

fn make(names: &str, number: u32) -> SharedMemory {
    SharedMemory::create(&format!("{names}{number}"), 100).unwrap()
}

fn left(names: &str) -> u32 {
    let entries = std::fs::read_dir("/dev/shm").unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(names)).count() as u32
}

fn armed(names: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{names}armed"))
}

fn path(names: &str, number: u32) -> PathBuf {
    Path::new("/dev/shm").join(format!("{names}{number}"))
}
