//! A program that was started with a standard stream closed (`program >&-`), and its children,
//! under each start method.
//!
//! Rust's runtime opens `/dev/null` in the place of a closed stream. So nothing of the engine's is
//! found under the three numbers, and what is printed changes nothing.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use procession::{Context, Queue};
use procession_testing::{CONTEXTS, Trial, run, tests, trial};

const REDIRECTIONS: [&str; 3] = ["0<&-", "1>&-", "2>&-"];

type Streams = Vec<Option<PathBuf>>;

fn main() {
    procession::init();
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, method, number, verdict] = &arguments[..] {
        let (context, closed) = (Context::new(method.parse().unwrap()), number.parse().unwrap());
        let said = std::panic::catch_unwind(|| check(context, closed)).map_or("a panic", |()| "all is well");
        return std::fs::write(verdict, said).unwrap();
    }
    run(tests! {
        for_each_stream_and_context: [program_works_with_a_stream_closed],
    })
}

fn for_each_stream_and_context(name: &str, body: fn(&'static str, Context)) -> Vec<Trial> {
    let both = REDIRECTIONS.into_iter().flat_map(|redirection| CONTEXTS.map(|context| (redirection, context)));
    let test = |(redirection, (method, context))| {
        trial(&format!("{name}::{redirection}::{method}"), move || body(redirection, context))
    };
    both.map(test).collect()
}

fn program_works_with_a_stream_closed(redirection: &'static str, context: Context) {
    let folder = tempfile::tempdir().unwrap();
    let verdict = folder.path().join("verdict");
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("exec \"$@\" {redirection}")).arg("sh").arg(std::env::current_exe().unwrap());
    command.args([&context.start_method().to_string(), &redirection[..1]]).arg(&verdict).stdin(Stdio::null());
    let ended = command.output().unwrap();
    let said = std::fs::read_to_string(&verdict).unwrap_or_default();
    assert!(ended.status.success() && said == "all is well", "{said}: {ended:?}");
}

fn check(context: Context, closed: usize) {
    let pool = context.pool(2).unwrap();
    let mut seen = Vec::new();
    for (x, (y, streams)) in pool.map(work, 0..20).unwrap().into_iter().enumerate() {
        assert_eq!(y, x + 1);
        seen.push(streams);
    }
    let queue = Queue::<Streams>::new().unwrap();
    let mut child = context.process(tell, queue.clone()).start().unwrap();
    print_much();
    seen.extend([queue.get().unwrap(), streams()]);
    child.join().unwrap();
    for streams in seen {
        assert_eq!(streams[closed].as_deref(), Some("/dev/null".as_ref()), "{streams:?}");
    }
}

fn work(x: usize) -> (usize, Streams) {
    print_much();
    (x + 1, streams())
}

fn tell(queue: Queue<Streams>) {
    print_much();
    queue.put(streams()).unwrap();
}

fn print_much() {
    let text = [b'x'; 20_000];
    // It need not succeed: a stream may be closed.
    let _ = (std::io::stdout().write_all(&text), std::io::stderr().write_all(&text));
}

/// Returns the file that has the number of each standard stream.
fn streams() -> Streams {
    (0..3).map(|number| std::fs::read_link(format!("/proc/self/fd/{number}")).ok()).collect()
}
