//! Landlock rules and seccomp filters of children, under each start method.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::Command;

use procession::confinement::{Landlock, Limit, Limits, Seccomp};
use procession::{Bytes, Context, Handle, Pool, Process};
use procession_testing::{for_each_context, once, run, tests};

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            files_beside_the_rules_cannot_be_opened,
            rules_begin_after_the_initializer,
            path_that_is_not_there_is_named,
            forbidden_call_fails_its_task_alone,
            tasks_compute_under_a_filter,
            large_values_and_handles_pass_a_filter,
            panic_passes_a_filter,
            groups_of_calls_can_be_allowed,
            process_ends_with_the_name_of_its_filter,
            everything_goes_together,
        ],
        once: [threads_beside_the_rules_are_refused],
    })
}

fn read(path: String) -> Result<String, bool> {
    fs::read_to_string(path).map_err(|error| error.kind() == ErrorKind::PermissionDenied)
}

fn write(path: String) -> Result<(), bool> {
    fs::write(path, "written").map_err(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// A folder with the folders `read` and `write`, each with a file `file`.
fn folders() -> (tempfile::TempDir, impl Fn(&str) -> String) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["read", "write", "neither"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("file"), name).unwrap();
    }
    let root = dir.path().to_str().unwrap().to_owned();
    (dir, move |path: &str| format!("{root}/{path}"))
}

fn files_beside_the_rules_cannot_be_opened(context: Context) {
    let (_dir, path) = folders();
    let rules = Landlock::new().read(path("read")).read_write(path("write")).read(path("neither/file"));
    let pool = context.pool_builder(1).landlock(rules.clone()).start().unwrap();
    let read = |name: &str| pool.apply(read, path(name)).unwrap();
    let write = |name: &str| pool.apply(write, path(name)).unwrap();
    assert_eq!((read("read/file"), write("read/file")), (Ok("read".into()), Err(true)));
    assert_eq!((read("write/file"), write("write/new")), (Ok("write".into()), Ok(())));
    assert_eq!((read("neither/file"), write("neither/new")), (Ok("neither".into()), Err(true)));
    assert_eq!(pool.apply(self::read, "/etc/passwd".into()).unwrap(), Err(true));
    let mut process = context.process(self::write, path("read/new")).landlock(rules).start().unwrap();
    assert_eq!(process.join().unwrap(), Err(true));
}

fn read_before(path: String) {
    fs::read_to_string(path).unwrap();
}

fn rules_begin_after_the_initializer(context: Context) {
    let (_dir, path) = folders();
    let builder = context.pool_builder(1).initializer(read_before, path("neither/file"));
    let pool = builder.landlock(Landlock::new()).start().unwrap();
    assert_eq!(pool.apply(read, path("neither/file")).unwrap(), Err(true));
}

fn path_that_is_not_there_is_named(context: Context) {
    let pool = context.pool_builder(1).landlock(Landlock::new().read("/no/such/folder")).start().unwrap();
    let error = pool.apply(read, String::new()).unwrap_err();
    assert!(error.is_broken() && error.to_string().contains("/no/such/folder"), "{error}");
}

fn filtered(context: Context, seccomp: Seccomp) -> Pool {
    context.pool_builder(2).seccomp(seccomp).start().unwrap()
}

fn forbidden_call_fails_its_task_alone(context: Context) {
    let pool = filtered(context, Seccomp::new());
    let listen = |x: u32| if x == 3 { TcpListener::bind("127.0.0.1:0").map(|_| x).unwrap_or(0) } else { x };
    let results = pool.map_each(listen, 0..20).unwrap();
    for (index, result) in results.into_iter().enumerate() {
        if index == 3 {
            let error = result.unwrap_err();
            assert_eq!((error.limit(), error.signal()), (Some(Limit::SystemCalls), Some(31)));
            assert!(error.to_string().contains("seccomp filter"), "{error}");
        } else {
            assert_eq!(result.unwrap(), index as u32);
        }
    }
}

fn compute(seed: u64) -> u64 {
    let (sender, numbers) = std::sync::mpsc::channel();
    let threads: Vec<_> = (0..3)
        .map(|part| {
            let sender = sender.clone();
            let named = std::thread::Builder::new().name(format!("part {part}"));
            named.spawn(move || sender.send((0..1000).map(|x| x * part + seed).sum::<u64>()).unwrap()).unwrap()
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    drop(sender);
    let map: std::collections::HashMap<u64, String> = (0..1000).map(|x| (x, x.to_string())).collect();
    std::thread::sleep(std::time::Duration::from_millis(1));
    assert!(std::time::SystemTime::now() > std::time::UNIX_EPOCH && map.len() == 1000);
    numbers.iter().sum()
}

fn tasks_compute_under_a_filter(context: Context) {
    let pool = filtered(context, Seccomp::new());
    let expected: Vec<u64> = (0..40).map(compute).collect();
    assert_eq!(pool.map(compute, 0..40).unwrap(), expected);
    assert_eq!(pool.stats().unwrap().respawns, 0);
    pool.close();
    pool.join().unwrap();
}

fn large_values_and_handles_pass_a_filter(context: Context) {
    use std::io::{Read, Seek, Write};
    let pool = filtered(context, Seccomp::new());
    let echo = |bytes: Bytes| (bytes.len(), Bytes::from(vec![bytes[0]; bytes.len() * 2]), vec![7_u8; bytes.len()]);
    for len in [100_000, 5 << 20] {
        let (got, bytes, vec) = pool.apply(echo, Bytes::from(vec![9; len])).unwrap();
        assert!(got == len && bytes.len() == 2 * len && vec.len() == len && bytes[0] == 9);
    }
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"given").unwrap();
    file.rewind().unwrap();
    let read = |mut file: Handle<fs::File>| {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(pool.apply(read, Handle::from(file)).unwrap(), "given");
    assert_eq!(pool.stats().unwrap().respawns, 0);
}

fn panic_passes_a_filter(context: Context) {
    let pool = filtered(context, Seccomp::new());
    let error = pool.apply(|x: u32| assert_eq!(x, 2), 1).unwrap_err();
    assert!(error.is_panic(), "{error}");
}

fn groups_of_calls_can_be_allowed(context: Context) {
    let pool = filtered(context, Seccomp::new().allow_files());
    assert!(pool.apply(read, "/etc/passwd".into()).unwrap().is_ok());
    let pool = filtered(context, Seccomp::new().allow_network());
    assert!(pool.apply(|()| TcpListener::bind("127.0.0.1:0").is_ok(), ()).unwrap());
    let pool = filtered(context, Seccomp::new().allow_files().allow_processes().allow_network());
    let run = |()| Command::new("true").status().is_ok_and(|status| status.success());
    assert!(pool.apply(run, ()).unwrap());
}

fn process_ends_with_the_name_of_its_filter(context: Context) {
    let seccomp = || Seccomp::new();
    let mut process = context.process(compute, 1).seccomp(seccomp()).start().unwrap();
    assert_eq!(process.join().unwrap(), compute(1));
    let listen = |()| TcpListener::bind("127.0.0.1:0").is_ok();
    let error = context.process(listen, ()).seccomp(seccomp()).start().unwrap().join().unwrap_err();
    assert_eq!(error.limit(), Some(Limit::SystemCalls));
}

fn everything_goes_together(context: Context) {
    let limits = Limits {
        address_space: Some(16 << 30),
        cpu_time: Some(std::time::Duration::from_secs(20)),
        files: Some(64),
        processes: Some(10_000),
        file_size: Some(1 << 30),
        memory: Some(1 << 30),
    };
    let builder = context.pool_builder(2).limits(limits).own_process_group().no_new_privs();
    let pool = builder.landlock(Landlock::new()).seccomp(Seccomp::new()).start().unwrap();
    assert_eq!(pool.map(compute, 0..10).unwrap(), (0..10).map(compute).collect::<Vec<_>>());
    assert!(
        pool.map_each(
            |x: u32| if x == 1 {
                std::process::abort()
            },
            0..3
        )
        .unwrap()[1]
            .is_err()
    );
    assert_eq!(pool.map(|x: u64| x, 0..1000).unwrap(), (0..1000).collect::<Vec<_>>());
}

fn threads_beside_the_rules_are_refused() {
    let start = || {
        std::thread::spawn(std::thread::park);
    };
    let start_one = |()| drop(std::thread::spawn(std::thread::park));
    let pool = Context::spawn().pool_builder(1).initializer(start_one, ()).landlock(Landlock::new()).start().unwrap();
    let error = pool.apply(|x: u32| x, 1).unwrap_err();
    assert!(error.is_broken() && error.to_string().contains("1 other thread"), "{error}");
    Process::fork(start).landlock(Landlock::new()).start().unwrap().join().unwrap();
}
