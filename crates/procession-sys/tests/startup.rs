//! A child that begins before `main`: each constructor of the program has run once by then,
//! wherever the linker has put it, and `main` is not reached.

// The constructors of this program, and a read of what they noted.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use procession_sys::startup::Place;
use procession_testing::{once, run, tests};

const MARK: &CStr = c"child of a test";

/// The number of times that each of the other constructors has run.
static RUNS: [AtomicU32; 5] = [const { AtomicU32::new(0) }; 5];
/// The number of them that had run when the child was found to be one.
static BEFORE: AtomicU32 = AtomicU32::new(0);

macro_rules! constructor {
    ($name:ident, $section:literal, $number:literal) => {
        // SAFETY: the section holds functions of this type.
        #[used]
        #[unsafe(link_section = $section)]
        static $name: extern "C" fn() = {
            extern "C" fn note() {
                RUNS[$number].fetch_add(1, Ordering::Relaxed);
            }
            note
        };
    };
}

constructor!(FIRST, ".init_array", 0);
constructor!(EARLY, ".init_array.00200", 1);
procession_sys::before_main!(ENTRY: enter);
constructor!(THIRD, ".init_array", 2);
constructor!(LATE, ".init_array.65000", 3);
constructor!(LAST, ".init_array", 4);

fn enter(program: &CStr, place: Place) -> Option<fn() -> !> {
    assert_eq!(place, Place::Program);
    let have_run = RUNS.iter().map(|runs| runs.load(Ordering::Relaxed)).sum();
    BEFORE.store(have_run, Ordering::Relaxed);
    (program == MARK).then_some(report)
}

/// The child.
fn report() -> ! {
    let runs = RUNS.each_ref().map(|runs| runs.load(Ordering::Relaxed));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    println!("{runs:?} {arguments:?}, {} before", BEFORE.load(Ordering::Relaxed));
    procession_sys::exit::exit(7)
}

fn main() {
    assert_ne!(std::env::args().next().unwrap().as_bytes(), MARK.to_bytes(), "a child has reached main");
    run(tests! {
        once: [
            constructors_run_once_before_the_child,
            program_that_is_no_child_reaches_main,
        ],
    })
}

fn constructors_run_once_before_the_child() {
    let mut program = Command::new(std::env::current_exe().unwrap());
    let ended = program.arg0(MARK.to_str().unwrap()).args(["one", "two"]).output().unwrap();
    let text = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(ended.status.code(), Some(7), "{ended:?}");
    let before = text.strip_prefix("[1, 1, 1, 1, 1] [\"one\", \"two\"], ").expect(&text);
    // Otherwise this shows nothing.
    assert!(["2 before\n", "3 before\n", "4 before\n"].contains(&before), "{text}");
}

fn program_that_is_no_child_reaches_main() {
    assert_eq!(RUNS.each_ref().map(|runs| runs.load(Ordering::Relaxed)), [1; 5]);
    assert!((2..5).contains(&BEFORE.load(Ordering::Relaxed)));
}
