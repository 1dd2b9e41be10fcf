//! The compiler's errors for programs that cannot work: each says what to write. The programs are
//! compiled here, against the crate as it was built for this test.

use std::path::{Path, PathBuf};
use std::process::Command;

use procession_testing::{once, run, skip, tests};

fn main() {
    run(tests! {
        once: [
            file_and_sockets_are_handles,
            errors_that_do_not_travel_go_by_try_map,
            locks_and_channels_of_threads_have_counterparts,
            pointers_to_functions_are_no_messages,
            a_type_of_ones_own_needs_serde,
            an_error_of_ones_own_implements_error,
            a_borrowed_argument_is_refused,
            a_closure_that_captures_is_told_of_map_with,
        ],
    })
}

/// The stage to which the compiler goes.
#[derive(Clone, Copy)]
enum Stage {
    /// As `cargo check`.
    Check,
    /// To the code of functions, as `cargo build`.
    Build,
}

fn file_and_sockets_are_handles() {
    let error = compile(
        Stage::Check,
        "pool.apply(|file: std::fs::File| file.metadata().is_ok(), std::fs::File::open(\"x\").unwrap())",
    );
    says(&error, &["`File` cannot travel between processes", "write `Handle<File>` for a file"]);
}

fn errors_that_do_not_travel_go_by_try_map() {
    for call in [
        "pool.map(|path: String| std::fs::read(path), [\"x\"])",
        "pool.map(|text: String| -> Result<u32, Box<dyn std::error::Error>> { Ok(text.parse()?) }, [\"1\"])",
    ] {
        let error = compile(Stage::Check, call);
        says(&error, &["cannot travel between processes", "call the function by `try_map` or `try_apply`"]);
    }
}

fn locks_and_channels_of_threads_have_counterparts() {
    let error = compile(
        Stage::Check,
        "pool.map(|sum: std::sync::Arc<std::sync::Mutex<u64>>| *sum.lock().unwrap(), [Default::default()])",
    );
    says(&error, &["Mutex<u64>>` cannot travel", "write `Handle<File>`"]);
    let error = compile(
        Stage::Check,
        "pool.map_with(std::sync::Arc::new(std::sync::Mutex::new(1_u32)), |_: &_, x: u32| x, [1])",
    );
    says(&error, &["cannot travel to a function that takes", "`procession::sync::Mutex` for `Arc<Mutex<_>>`"]);
    let error = compile(
        Stage::Check,
        "pool.apply(|sender: std::sync::mpsc::Sender<u8>| sender.send(1).is_ok(), std::sync::mpsc::channel().0)",
    );
    says(&error, &["Sender<_>` cannot travel between processes", "`queue::Sender` for `mpsc::Sender`"]);
}

fn pointers_to_functions_are_no_messages() {
    let error = compile(Stage::Check, "pool.apply(|f: fn(u32) -> u32| f(1), (|x| x) as fn(u32) -> u32)");
    says(&error, &["cannot travel between processes", "a `fn` pointer or a closure is given as the function itself"]);
}

fn a_type_of_ones_own_needs_serde() {
    let error = compile(Stage::Check, "{ struct Mine(u32); pool.map(|mine: Mine| mine.0, [Mine(1)]) }");
    says(&error, &["`Mine` cannot travel", "derive them for a type of your own"]);
}

fn an_error_of_ones_own_implements_error() {
    let error =
        compile(Stage::Check, "{ struct Mine; pool.try_map(|x: u32| if x > 1 { Err(Mine) } else { Ok(x) }, [1]) }");
    says(&error, &["`Mine` is not an error that a task can return", "`.map_err(|error| error.to_string())`"]);
}

fn a_borrowed_argument_is_refused() {
    let error = compile(Stage::Check, "pool.map(|word: &str| word.len(), [\"a\"])");
    says(&error, &["is not general enough", "`&str` must implement"]);
    let error = compile(Stage::Check, "pool.map(|bytes: &Vec<u8>| bytes.len(), &[vec![1]])");
    says(&error, &["expected closure signature `fn(Vec<", "so it does not borrow its argument"]);
    compiles("pool.map(|word: String| word.len(), [\"a\"])");
    compiles("pool.map(|bytes: Vec<u8>| bytes.len(), &[vec![1]])");
}

/// The compiler learns only when it makes code that a closure captures: no bound says that a type
/// has no bytes.
fn a_closure_that_captures_is_told_of_map_with() {
    let call = "{ let factor = std::hint::black_box(3); pool.map(move |x: u32| x * factor, [1]) }";
    let error = compile(Stage::Build, call);
    says(&error, &["this function captures a value", "as the state of `map_with`"]);
    compiles("{ let factor = std::hint::black_box(3); pool.map_with(factor, |factor, x: u32| x * factor, [1]) }");
}

/// Asserts that the compiler's text has all of these.
fn says(error: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(error.contains(wanted), "{wanted:?} is not said:\n{error}");
    }
}

#[track_caller]
fn compiles(call: &str) {
    if let Err(error) = run_compiler(Stage::Build, call) {
        panic!("{call} does not compile:\n{error}");
    }
}

/// Returns what the compiler says of a program that makes this call.
#[track_caller]
fn compile(stage: Stage, call: &str) -> String {
    run_compiler(stage, call).expect_err("such a program is refused")
}

fn run_compiler(stage: Stage, call: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("program.rs");
    let program = format!("pub fn program(pool: &procession::Pool) {{\n    let _ = {call};\n}}\n");
    std::fs::write(&source, program).unwrap();
    let deps = deps();
    let Some(library) = library(&deps) else { skip("the crate was built elsewhere") };
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let emit = match stage {
        Stage::Check => "--emit=metadata",
        Stage::Build => "--emit=obj",
    };
    let output = Command::new(rustc)
        .args(["--edition=2024", "--crate-type=lib", "--diagnostic-width=400", emit])
        .arg(format!("--extern=procession={}", library.display()))
        .arg(format!("-Ldependency={}", deps.display()))
        .arg("--out-dir")
        .arg(dir.path())
        .arg(&source)
        .output()
        .expect("a compiler runs");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Returns the folder of the crates that this test was linked with.
fn deps() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    me.parent().expect("a program is in a folder").to_owned()
}

/// The crate, as it was built last; `None` where the tests run apart from what was built.
fn library(deps: &Path) -> Option<PathBuf> {
    let libraries = std::fs::read_dir(deps).unwrap().map(|entry| entry.unwrap().path());
    let libraries = libraries.filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("libprocession-") && name.ends_with(".rlib")
    });
    libraries.max_by_key(|path| path.metadata().unwrap().modified().unwrap())
}
