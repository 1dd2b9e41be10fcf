//! Limits of what children may take, and process groups of their own, under each start method. What
//! a limit ends is one task, whose error names the limit.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::process::Command;
use std::time::Duration;

use procession::confinement::{Limit, Limits};
use procession::{Context, Pool, Process};
use procession_testing::{eventually, for_each_context, kill, once, patience, run, runs, tests};

const MIB: usize = 1 << 20;

fn main() {
    procession::init();
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, method] = &arguments[..]
        && role == "sleeper"
    {
        return start_sleeper(Context::new(method.parse().unwrap()));
    }
    run(tests! {
        for_each_context: [
            task_out_of_processor_time_fails_alone,
            processor_time_is_each_tasks_own,
            task_out_of_memory_fails_alone,
            limit_of_a_task_is_not_retried,
            refused_address_space_is_named,
            files_are_limited,
            too_large_a_file_is_named,
            limits_begin_after_the_initializer,
            limit_that_is_passed_already_is_refused,
            process_out_of_processor_time_names_the_limit,
            new_privileges_are_given_up,
            group_ends_with_a_worker_that_leaves,
            group_ends_with_a_worker_that_is_killed,
            group_ends_with_a_process,
            group_ends_with_a_killed_parent,
        ],
        once: [memory_of_a_process_is_refused, process_without_a_group_leaves_what_it_started],
    })
}

fn limited(context: Context, workers: usize, limits: Limits) -> Pool {
    context.pool_builder(workers).limits(limits).start().unwrap()
}

fn spin(_: ()) {
    loop {
        std::hint::spin_loop();
    }
}

/// Takes so much memory, and uses it.
fn fill(bytes: usize) -> usize {
    let taken = std::hint::black_box(vec![1_u8; bytes]);
    std::thread::sleep(Duration::from_millis(100));
    taken.len()
}

fn task_out_of_processor_time_fails_alone(context: Context) {
    let cpu_time = Duration::from_millis(200);
    let pool = limited(context, 2, Limits { cpu_time: Some(cpu_time), ..Limits::default() });
    let results = pool
        .chunk_size(4)
        .map_each(
            |x: u64| {
                if x == 5 {
                    spin(())
                }
            },
            0..16,
        )
        .unwrap();
    let errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    assert_eq!((errors.len(), errors[0].index(), errors[0].limit()), (1, Some(5), Some(Limit::CpuTime(cpu_time))));
    assert!(errors[0].is_worker_lost());
    assert!(errors[0].to_string().contains("cpu_time, 200ms of processor time"), "{}", errors[0]);
    assert_eq!(pool.apply(|x: u64| x + 1, 1).unwrap(), 2);
}

/// A worker may use as much again for the next, however they are cut.
fn processor_time_is_each_tasks_own(context: Context) {
    let pool = limited(context, 1, Limits { cpu_time: Some(Duration::from_millis(300)), ..Limits::default() });
    let work = |_: u32| {
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(60) {
            std::hint::spin_loop();
        }
        std::process::id()
    };
    let pids = pool.chunk_size(10).map(work, 0..10).unwrap();
    assert!(pids.iter().all(|pid| *pid == pids[0]));
}

fn task_out_of_memory_fails_alone(context: Context) {
    let memory = 200 * MIB as u64;
    let pool = limited(context, 2, Limits { memory: Some(memory), ..Limits::default() });
    let sizes = [MIB, MIB, 400 * MIB, MIB, MIB];
    let results = pool.chunk_size(1).map_each(fill, sizes).unwrap();
    for (index, (result, size)) in results.into_iter().zip(sizes).enumerate() {
        if size == MIB {
            assert_eq!(result.unwrap(), size);
        } else {
            let error = result.unwrap_err();
            assert_eq!((error.index(), error.limit()), (Some(index), Some(Limit::Memory(memory))));
        }
    }
}

fn limit_of_a_task_is_not_retried(context: Context) {
    let pool = limited(context, 1, Limits { cpu_time: Some(Duration::from_millis(50)), ..Limits::default() });
    assert!(pool.retries(1_000_000).apply(spin, ()).unwrap_err().limit().is_some());
}

fn refused_address_space_is_named(context: Context) {
    let address_space = 8 << 30;
    let pool = limited(context, 1, Limits { address_space: Some(address_space), ..Limits::default() });
    // Bytes that are not zero would have to be there.
    let error = pool.apply(|bytes: usize| vec![0_u8; bytes].len(), 16 << 30).unwrap_err();
    assert!(error.is_worker_lost() && error.limit() == Some(Limit::AddressSpace(address_space)), "{error}");
    assert!(error.to_string().contains("address_space, 8589934592 bytes"), "{error}");
    assert_eq!(pool.apply(|bytes: usize| vec![0_u8; bytes].len(), MIB).unwrap(), MIB);
}

fn files_are_limited(context: Context) {
    let pool = limited(context, 1, Limits { files: Some(20), ..Limits::default() });
    let open_all = |()| {
        let mut files = Vec::new();
        loop {
            match File::open("/dev/null") {
                Ok(file) => files.push(file),
                Err(error) => return (files.len(), error.raw_os_error()),
            }
        }
    };
    let (opened, error) = pool.apply(open_all, ()).unwrap();
    assert!((1..20).contains(&opened) && error == Some(24), "{opened} files, then {error:?}");
}

fn too_large_a_file_is_named(context: Context) {
    let file_size = 64 << 10;
    let pool = limited(context, 1, Limits { file_size: Some(file_size), ..Limits::default() });
    let write = |bytes: usize| {
        let written = tempfile::tempfile().and_then(|mut file| file.write_all(&vec![1; bytes]));
        written.map_err(|error| error.kind() == ErrorKind::FileTooLarge)
    };
    assert_eq!(pool.apply(write, 1000).unwrap(), Ok(()));
    let error = pool.apply(write, 100_000).unwrap_err();
    assert_eq!(error.limit(), Some(Limit::FileSize(file_size)), "{error}");
}

fn open_many(count: usize) {
    let files: Vec<File> = (0..count).map(|_| File::open("/dev/null").unwrap()).collect();
    std::mem::forget(files);
}

fn limits_begin_after_the_initializer(context: Context) {
    let limits = Limits { files: Some(30), ..Limits::default() };
    let pool = context.pool_builder(1).initializer(open_many, 50).limits(limits).start().unwrap();
    assert!(!pool.apply(|()| File::open("/dev/null").is_ok(), ()).unwrap());
}

fn take_much(bytes: usize) {
    std::mem::forget(vec![1_u8; bytes]);
}

fn limit_that_is_passed_already_is_refused(context: Context) {
    let limits = Limits { memory: Some(100 * MIB as u64), ..Limits::default() };
    let pool = context.pool_builder(1).initializer(take_much, 200 * MIB).limits(limits).start().unwrap();
    let error = pool.apply(|x: u32| x, 1).unwrap_err();
    assert!(error.is_broken() && error.to_string().contains("bytes of memory before its first task"), "{error}");
    let limits = Limits { address_space: Some(1000), ..Limits::default() };
    let error = context.process(spin, ()).limits(limits).start().unwrap().join().unwrap_err();
    assert!(error.pid().is_some() && error.to_string().contains("address space"), "{error}");
}

fn process_out_of_processor_time_names_the_limit(context: Context) {
    let cpu_time = Duration::from_secs(1);
    let limits = Limits { cpu_time: Some(cpu_time), ..Limits::default() };
    let error = context.process(spin, ()).limits(limits).start().unwrap().join().unwrap_err();
    assert_eq!((error.limit(), error.signal()), (Some(Limit::CpuTime(cpu_time)), Some(24)));
    assert!(error.to_string().contains("cpu_time, 1s"), "{error}");
}

fn gives_up_privileges(_: ()) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.split_whitespace().eq(["NoNewPrivs:", "1"]))
}

fn new_privileges_are_given_up(context: Context) {
    let pool = context.pool_builder(1).no_new_privs().start().unwrap();
    assert!(pool.apply(gives_up_privileges, ()).unwrap());
    assert!(context.process(gives_up_privileges, ()).no_new_privs().start().unwrap().join().unwrap());
    assert!(!context.process(gives_up_privileges, ()).start().unwrap().join().unwrap());
}

/// Starts a program that outlives this process if nobody ends it.
fn start_sleep(_: ()) -> u32 {
    Command::new("sleep").arg("1000").spawn().unwrap().id()
}

fn group_ends_with_a_worker_that_leaves(context: Context) {
    let pool = context.pool_builder(1).own_process_group().start().unwrap();
    let sleep = pool.apply(start_sleep, ()).unwrap();
    assert!(runs(sleep));
    pool.close();
    pool.join().unwrap();
    eventually("it ends", || !runs(sleep));
}

fn group_ends_with_a_worker_that_is_killed(context: Context) {
    let pool = context.pool_builder(2).own_process_group().start().unwrap();
    let sleeps = pool.chunk_size(1).map(start_sleep, [(); 8]).unwrap();
    pool.worker_pids().iter().for_each(|pid| {
        let _ = kill(*pid);
    });
    eventually("they end", || !sleeps.iter().any(|sleep| runs(*sleep)));
    assert!(runs(pool.apply(start_sleep, ()).unwrap()));
}

fn group_ends_with_a_process(context: Context) {
    let mut process = context.process(start_sleep, ()).own_process_group().start().unwrap();
    let sleep = process.join().unwrap();
    eventually("it ends", || !runs(sleep));
}

/// In a program of its own: prints what runs, and waits for its end.
fn start_sleeper(context: Context) {
    let pool = context.pool_builder(1).own_process_group().start().unwrap();
    println!("{}", pool.apply(start_sleep, ()).unwrap());
    std::thread::sleep(patience());
}

fn group_ends_with_a_killed_parent(context: Context) {
    use std::io::{BufRead, BufReader};
    let mut program = Command::new(std::env::current_exe().unwrap());
    let program = program.args(["sleeper", &context.start_method().to_string()]);
    let mut program = program.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let sleep: u32 = line.trim().parse().unwrap();
    assert!(runs(sleep));
    program.kill().unwrap();
    program.wait().unwrap();
    eventually("it ends", || !runs(sleep));
}

fn memory_of_a_process_is_refused() {
    let limits = Limits { memory: Some(1 << 30), ..Limits::default() };
    let error = Process::fork(|| ()).limits(limits).start().unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("address_space"), "{error}");
}

fn process_without_a_group_leaves_what_it_started() {
    let sleep = Process::fork(|| start_sleep(())).start().unwrap().join().unwrap();
    assert!(runs(sleep));
    kill(sleep);
}
