//! Pools on the ranks of an MPI job. The tests run in rank 0 of a job of 4 ranks. Started without
//! one, this program starts itself in one. Some tests start jobs of their own, in which this
//! program plays a part (`argument: its name`).

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use procession::{Bytes, Context, Pool, Queue};
use procession_testing::{Random, eventually, kill, once, run, runs, seed_of_now, tests};

const RANKS: usize = 4;
const WORKERS: usize = RANKS - 1;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("alone") => return alone(),
        Some("rank-of-two") => return rank_of_two(),
        Some("victim") => return victim(),
        Some("panics") => return panics(),
        Some("exits") => return exits(),
        _ => {}
    }
    if std::env::var_os("OMPI_COMM_WORLD_RANK").is_none() && std::env::var_os("PMI_RANK").is_none() {
        let error = in_a_job(RANKS).arg(own_program()).args(std::env::args_os().skip(1)).exec();
        panic!("cannot run mpiexec: {error}");
    }
    Context::mpi().unwrap();
    run(tests! {
        once: [
            every_method_gives_its_results_in_order,
            ten_thousand_tasks_are_done_once_each,
            workers_are_processes_of_other_ranks,
            state_is_shared_by_the_tasks_of_a_call,
            killed_child_fails_only_its_task,
            task_lost_inside_a_chunk_is_the_only_one,
            idle_child_that_is_killed_is_replaced,
            tasks_behind_the_death_of_an_idle_child_are_not_lost,
            lost_task_is_run_again_if_asked,
            exit_code_of_a_task_is_told,
            time_limit_ends_the_task_alone,
            cancelled_task_ends,
            panics_name_their_task,
            initializer_runs_in_each_child,
            initializer_that_panics_breaks_the_pool,
            child_makes_way_after_its_tasks,
            pool_grows_and_shrinks,
            kills_at_random_cost_retries_and_no_result,
            hundred_megabytes_go_and_come,
            many_large_results_arrive_whole,
            terminated_pool_frees_its_ranks,
            pools_share_the_ranks,
            more_workers_than_ranks_are_refused,
            handles_are_refused,
            settings_for_this_machine_are_refused,
            process_runs_beside_rank_0,
            program_without_a_job_is_told_how_to_start,
            rank_with_another_build_is_refused_and_the_others_serve,
            panic_of_the_program_ends_the_job,
            exit_of_the_program_ends_its_tasks,
            killed_program_leaves_nothing,
            killed_agent_ends_the_job,
        ],
    })
}

fn context() -> Context {
    Context::mpi().unwrap()
}

fn pool(workers: usize) -> Pool {
    context().pool(workers).unwrap()
}

/// Returns how many of its workers are at a task.
fn running(pool: &Pool) -> usize {
    pool.stats().unwrap().workers.iter().filter(|worker| worker.running.is_some()).count()
}

fn square(x: u64) -> u64 {
    x * x
}

fn every_method_gives_its_results_in_order() {
    let pool = pool(WORKERS);
    let squares: Vec<u64> = (0..500).map(square).collect();
    assert_eq!(pool.apply(square, 12).unwrap(), 144);
    assert_eq!(pool.call(|| 5_u8).unwrap(), 5);
    assert_eq!(pool.map(square, 0..500).unwrap(), squares);
    assert_eq!(pool.chunk_size(1).map(square, 0..500).unwrap(), squares);
    assert_eq!(pool.chunk_size(7).map(square, 0..500).unwrap(), squares);
    assert_eq!(pool.map_async(square, 0..500).unwrap().get().unwrap(), squares);
    assert_eq!(pool.imap(square, 0..500).collect::<procession::Result<Vec<_>>>().unwrap(), squares);
    let unordered: BTreeSet<u64> = pool.imap_unordered(square, 0..500).map(Result::unwrap).collect();
    assert_eq!(unordered, squares.iter().copied().collect());
    assert_eq!(pool.imap(square, 0..).take(3).map(Result::unwrap).collect::<Vec<_>>(), [0, 1, 4]);
    let sums = pool.starmap(|a: u32, b: u32| a + b, (0..100).map(|number| (number, 1))).unwrap();
    assert_eq!(sums, (1..101).collect::<Vec<_>>());
    let handles: Vec<_> = (0..50).map(|number| pool.apply_async(square, number).unwrap()).collect();
    assert_eq!(handles.into_iter().map(|handle| handle.get().unwrap()).collect::<Vec<_>>(), squares[..50]);
    let words = pool.map(|word: String| word.len(), ["one".to_owned(), "three".to_owned()]).unwrap();
    assert_eq!(words, [3, 5]);
    pool.close();
    pool.join().unwrap();
}

fn ten_thousand_tasks_are_done_once_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("done").display().to_string();
    let note = |path: &String, number: u32| {
        // One write, so that no two are mixed.
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(format!("{number}\n").as_bytes()).unwrap();
        number
    };
    let numbers = pool(WORKERS).map_with(&path, note, 0..10_000).unwrap();
    assert_eq!(numbers, (0..10_000).collect::<Vec<_>>());
    let text = fs::read_to_string(&path).unwrap();
    let mut done: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    done.sort_unstable();
    assert_eq!(done, numbers);
}

fn workers_are_processes_of_other_ranks() {
    let pool = pool(WORKERS);
    let pids: BTreeSet<u32> = pool.worker_pids().into_iter().collect();
    assert_eq!(pids.len(), WORKERS);
    let own: BTreeSet<u32> = procession_testing::processes_below(std::process::id()).into_iter().collect();
    assert!(pids.is_disjoint(&own) && !pids.contains(&std::process::id()));
    let seen: BTreeSet<u32> =
        pool.chunk_size(1).map(|_: u32| std::process::id(), 0..200).unwrap().into_iter().collect();
    assert!(seen.is_subset(&pids), "{seen:?} {pids:?}");
    let stats = pool.stats().unwrap();
    assert_eq!((stats.done, stats.failed, stats.lost), (200, 0, 0));
}

fn state_is_shared_by_the_tasks_of_a_call() {
    let pool = pool(2);
    // More states than an agent keeps, each of them more than once; short ones and long ones.
    for round in 0..3 {
        for number in 0..7_usize {
            let table: Vec<usize> = (0..if number % 2 == 0 { 3 } else { 3000 }).map(|at| at * number).collect();
            let found = pool.map_with(&table, |table, at: usize| table[at], [2, 0, 1]).unwrap();
            assert_eq!(found, [2 * number, 0, number], "round {round}");
        }
    }
    let lazily = pool.imap_with(7, |factor, x: u64| x * factor, 0..).take(3);
    assert_eq!(lazily.map(Result::unwrap).collect::<Vec<_>>(), [0, 7, 14]);
}

fn abort_at_three(number: u32) -> u32 {
    if number == 3 {
        std::process::abort();
    }
    number
}

fn killed_child_fails_only_its_task() {
    let pool = pool(WORKERS);
    let results = pool.chunk_size(1).map_each(abort_at_three, 0..50).unwrap();
    for (number, result) in (0..50).zip(results) {
        match result {
            Ok(value) => assert!(value == number && number != 3),
            Err(error) => {
                assert!(number == 3 && error.is_worker_lost(), "{error}");
                assert_eq!((error.index(), error.signal()), (Some(3), Some(6)));
                let host = error.host().expect("it says where");
                assert!(error.to_string().contains(&format!(" on {host}")), "{error}");
            }
        }
    }
    eventually("the worker is replaced", || pool.worker_pids().len() == WORKERS);
    assert_eq!(pool.map(abort_at_three, 4..100).unwrap().len(), 96);
}

fn task_lost_inside_a_chunk_is_the_only_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("done").display().to_string();
    let note = |path: &String, number: u32| {
        if number == 4 {
            std::process::exit(9);
        }
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(format!("{number}\n").as_bytes()).unwrap();
        number
    };
    let results = pool(1).chunk_size(10).map_each_with(&path, note, 0..30).unwrap();
    let lost: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert_eq!(lost.len(), 1);
    assert_eq!((lost[0].index(), lost[0].exit_code()), (Some(4), Some(9)));
    let text = fs::read_to_string(&path).unwrap();
    let mut done: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    done.sort_unstable();
    assert_eq!(done, (0..30).filter(|number| *number != 4).collect::<Vec<_>>(), "each ran once");
}

fn idle_child_that_is_killed_is_replaced() {
    let pool = pool(2);
    let before = pool.worker_pids();
    kill(before[0]);
    eventually("another is in its place", || {
        let now = pool.worker_pids();
        now.len() == 2 && !now.contains(&before[0]) && now.contains(&before[1])
    });
    assert_eq!(pool.map(square, 0..100).unwrap().len(), 100);
}

fn tasks_behind_the_death_of_an_idle_child_are_not_lost() {
    let pool = pool(1);
    for round in 0..30 {
        let pid = pool.call(std::process::id).unwrap();
        kill(pid);
        eventually("it has ended", || !runs(pid));
        // Whether or not the driver knows yet.
        let squares = pool.chunk_size(3).map(square, 0..10);
        assert!(squares.is_ok_and(|squares| squares.len() == 10), "round {round}");
    }
    assert_eq!(pool.stats().unwrap().lost, 0);
}

/// The first run of each number notes that and is killed.
fn killed_once(folder: &String, number: u32) -> u32 {
    let path = PathBuf::from(folder).join(number.to_string());
    if number.is_multiple_of(5) && !path.exists() {
        fs::write(path, "").unwrap();
        std::process::abort();
    }
    number
}

fn lost_task_is_run_again_if_asked() {
    let folder = tempfile::tempdir().unwrap();
    let pool = pool(WORKERS);
    let numbers = pool.retries(1).map_with(folder.path().display().to_string(), killed_once, 0..20).unwrap();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    let error = pool.retries(2).apply(|()| -> () { std::process::abort() }, ()).unwrap_err();
    assert!(error.is_worker_lost());
}

fn exit_code_of_a_task_is_told() {
    let error = pool(1).apply(|code: i32| -> () { std::process::exit(code) }, 7).unwrap_err();
    assert_eq!((error.exit_code(), error.signal()), (Some(7), None));
}

fn sleep_for_ever_at_two(number: u32) -> u32 {
    if number == 2 {
        std::thread::sleep(Duration::from_secs(3600));
    }
    number
}

fn time_limit_ends_the_task_alone() {
    let pool = pool(2);
    let results = pool.timeout(Duration::from_millis(300)).map_each(sleep_for_ever_at_two, 0..10).unwrap();
    for (number, result) in (0..10).zip(results) {
        match result {
            Ok(value) => assert!(value == number && number != 2),
            Err(error) => assert!(number == 2 && error.is_task_timeout(), "{error}"),
        }
    }
    assert_eq!(pool.map(square, 0..10).unwrap().len(), 10);
}

fn cancelled_task_ends() {
    let pool = pool(1);
    let task = pool.apply_async(sleep_for_ever_at_two, 2).unwrap();
    eventually("it runs", || running(&pool) == 1);
    let pid = pool.worker_pids()[0];
    assert!(task.cancel().unwrap());
    assert!(task.get().unwrap_err().is_cancelled());
    eventually("its process has ended", || !runs(pid));
    assert_eq!(pool.apply(square, 3).unwrap(), 9);
}

fn panics_name_their_task() {
    let error = pool(WORKERS).chunk_size(8).map(|x: u32| assert!(x != 37, "not {x}"), 0..100).unwrap_err();
    assert_eq!((error.panic_message(), error.index()), (Some("not 37"), Some(37)));
}

static KEPT: std::sync::OnceLock<String> = std::sync::OnceLock::new();

fn initializer_runs_in_each_child() {
    let keep = |text: String| KEPT.set(text).unwrap();
    let pool = context().pool_builder(WORKERS).initializer(keep, "kept".to_owned()).start().unwrap();
    let kept = pool.chunk_size(1).map(|_: u32| KEPT.get().cloned(), 0..50).unwrap();
    assert!(kept.iter().all(|kept| kept.as_deref() == Some("kept")));
    assert!(pool.apply(|()| -> () { std::process::abort() }, ()).is_err());
    assert_eq!(pool.call(|| KEPT.get().cloned()).unwrap().as_deref(), Some("kept"), "in a replacement, too");
}

fn initializer_that_panics_breaks_the_pool() {
    let fail = |()| panic!("no licence");
    let pool = context().pool_builder(1).initializer(fail, ()).start().unwrap();
    let error = pool.apply(square, 1).unwrap_err();
    assert_eq!(error.panic_message(), Some("no licence"), "{error}");
}

fn child_makes_way_after_its_tasks() {
    let pool = context().pool_builder(1).max_tasks_per_worker(2).start().unwrap();
    let pids: BTreeSet<u32> = (0..6).map(|_| pool.call(std::process::id).unwrap()).collect();
    assert_eq!(pids.len(), 3);
    assert_eq!(pool.stats().unwrap().lost, 0);
}

fn pool_grows_and_shrinks() {
    let pool = pool(1);
    pool.resize(WORKERS).unwrap();
    assert_eq!(pool.worker_pids().len(), WORKERS);
    assert_eq!(pool.map(square, 0..100).unwrap().len(), 100);
    let error = pool.resize(RANKS).unwrap_err();
    assert!(error.to_string().contains(&format!("{WORKERS} of them")), "{error}");
    assert_eq!(pool.workers(), WORKERS);
    pool.resize(1).unwrap();
    eventually("two have left", || pool.worker_pids().len() == 1);
    assert_eq!(pool.map(square, 0..100).unwrap().len(), 100);
}

fn kills_at_random_cost_retries_and_no_result() {
    const KILLS: usize = 30;
    let pool = pool(WORKERS);
    let killer = std::thread::spawn({
        let pool = pool.clone();
        move || {
            let mut random = Random::new(seed_of_now());
            for _ in 0..KILLS {
                std::thread::sleep(Duration::from_millis(random.below(40)));
                let pids = pool.worker_pids();
                if !pids.is_empty() {
                    kill(pids[random.index(pids.len())]);
                }
            }
        }
    });
    let careful = pool.retries(u32::MAX);
    let expected: Vec<u64> = (0..3000).map(square).collect();
    let mut rounds = 0;
    while !killer.is_finished() || rounds == 0 {
        let round = careful.map_with(rounds, |_: &u32, x: u64| x * x, 0..3000).unwrap();
        assert!(round == expected, "round {rounds}");
        rounds += 1;
    }
    killer.join().unwrap();
    assert_eq!(careful.map(square, 0..3000).unwrap(), expected);
    assert_eq!(pool.stats().unwrap().lost, 0);
}

fn hundred_megabytes_go_and_come() {
    let pool = pool(1);
    let len = 100 << 20;
    let bytes = Bytes::from((0..len).map(|at| (at % 251) as u8).collect::<Vec<_>>());
    let back = pool.apply(|bytes: Bytes| Bytes::from(bytes.iter().rev().copied().collect::<Vec<_>>()), bytes).unwrap();
    assert_eq!(back.len(), len);
    assert!(back.iter().rev().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
}

fn many_large_results_arrive_whole() {
    let pool = pool(WORKERS);
    // More than the results' streams hold, so that those who write them wait.
    let texts = pool.map(|number: usize| number.to_string().repeat(50_000), 0..200).unwrap();
    assert!(texts.iter().enumerate().all(|(number, text)| *text == number.to_string().repeat(50_000)));
}

fn terminated_pool_frees_its_ranks() {
    for round in 0..5 {
        let pool = pool(WORKERS);
        let pids = pool.worker_pids();
        let slow = pool.map_async(|_: u32| std::thread::sleep(Duration::from_secs(3600)), 0..10).unwrap();
        let large = pool.map_async(|_: u32| vec![1_u8; 1 << 20], 0..100).unwrap();
        pool.terminate();
        assert!(slow.get().is_err() && large.get().is_err(), "round {round}");
        eventually("its processes have ended", || pids.iter().all(|pid| !runs(*pid)));
    }
}

fn pools_share_the_ranks() {
    let (one, two) = (pool(1), pool(WORKERS - 1));
    let error = context().pool(1).unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("0 are free"), "{error}");
    let (first, second) = (one.map_async(square, 0..1000).unwrap(), two.map_async(square, 0..1000).unwrap());
    assert_eq!(first.get().unwrap(), second.get().unwrap());
    drop(one);
    assert_eq!(pool(1).apply(square, 5).unwrap(), 25);
}

fn more_workers_than_ranks_are_refused() {
    let error = context().pool(7).unwrap_err().to_string();
    assert!(
        error.contains("7 workers") && error.contains("has 3 of them") && error.contains("mpiexec -n 8"),
        "{error}"
    );
    assert!(context().pool(0).unwrap_err().is_invalid());
}

fn handles_are_refused() {
    let pool = pool(1);
    let queue = Queue::<u32>::new().unwrap();
    let error = pool.apply(|queue: Queue<u32>| queue.put(1).is_ok(), queue.clone()).unwrap_err();
    assert!(error.is_encode() && error.to_string().contains("others"), "{error}");
    let error = pool.map_with(queue.clone(), |queue, x: u32| queue.put(x).is_ok(), 0..3).unwrap_err();
    assert!(error.to_string().contains("others"), "{error}");
    let keep = |_: Queue<u32>| ();
    assert!(context().pool_builder(1).initializer(keep, queue).start().unwrap_err().is_invalid());
    assert_eq!(pool.apply(square, 5).unwrap(), 25);
}

fn settings_for_this_machine_are_refused() {
    let refused = [
        context().pool_builder(1).max_memory_per_worker(1 << 30).start(),
        context().pool_builder(1).own_process_group().start(),
        context().pool_builder(1).sealed_results().start(),
        context().pool_builder(1).no_new_privs().start(),
        context().pool_builder(1).output(procession::Output::Null).start(),
    ];
    for error in refused.map(Result::unwrap_err) {
        assert!(error.is_invalid() && error.to_string().contains("on this machine"), "{error}");
    }
}

fn process_runs_beside_rank_0() {
    let mut process = context().process(square, 7).start().unwrap();
    assert_eq!(process.join().unwrap(), 49);
    let join = |()| Context::mpi().unwrap_err().to_string();
    let mut child = context().process(join, ()).start().unwrap();
    assert!(child.join().unwrap().contains("child of one"));
    assert!(pool(1).apply(join, ()).unwrap().contains("child of one"));
}

fn program_without_a_job_is_told_how_to_start() {
    let output = without_job(Command::new(own_program()).arg("alone")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("not started as an MPI job") && text.contains("mpiexec -n 5"), "{output:?}");
}

/// The part of a program that nobody has started as a rank.
fn alone() {
    println!("{}", Context::mpi().unwrap_err());
}

fn rank_with_another_build_is_refused_and_the_others_serve() {
    let other = other_build();
    let mut command = Command::new("mpiexec");
    command.arg("--oversubscribe").args(["-n", "2"]).arg(own_program()).arg("rank-of-two").arg(":");
    let output = without_job(command.args(["-n", "1"]).arg(&other).arg("rank-of-two")).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("81") && text.contains("1 cannot serve") && text.contains("has 1 of them"), "{output:?}");
    assert!(errors.contains("rank 2 on") && errors.contains("another executable"), "{output:?}");
}

/// This program with another build id, as if it had been compiled from other sources.
fn other_build() -> tempfile::TempPath {
    let mut program = fs::read(own_program()).unwrap();
    let id = place_of_build_id(&program);
    program[id] ^= 1;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&program).unwrap();
    let mut permissions = file.as_file().metadata().unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    file.as_file().set_permissions(permissions).unwrap();
    file.into_temp_path()
}

/// Returns the place of a program's build id: behind the header of its note.
fn place_of_build_id(program: &[u8]) -> usize {
    // The name's length and the type of the note, and its name; the id's length is between.
    let is_note = |bytes: &[u8]| bytes[..4] == [4, 0, 0, 0] && bytes[8..] == *b"\x03\0\0\0GNU\0";
    program.windows(16).position(is_note).expect("the program has a build id") + 16
}

/// The program of a job of two ranks that can serve and one that cannot.
fn rank_of_two() {
    let context = Context::mpi().unwrap();
    println!("{}", context.pool(1).unwrap().apply(square, 9).unwrap());
    println!("{}", context.pool(2).unwrap_err());
}

fn panic_of_the_program_ends_the_job() {
    let output = job_output("panics");
    assert!(!output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("in the program"), "{output:?}");
}

fn panics() {
    let _pool = Context::mpi().unwrap().pool(2).unwrap();
    panic!("in the program");
}

fn exit_of_the_program_ends_its_tasks() {
    let output = job_output("exits");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let pids: Vec<u32> = text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    assert_eq!(pids.len(), 2, "{output:?}");
    eventually("the tasks' processes end", || pids.iter().all(|pid| !runs(*pid)));
}

/// Exits while tasks run, and nothing has been dropped.
fn exits() {
    let pool = Context::mpi().unwrap().pool(2).unwrap();
    let _slow = pool.map_async(|_: u32| std::thread::sleep(Duration::from_secs(3600)), 0..10).unwrap();
    eventually("both run", || running(&pool) == 2);
    let pids: Vec<String> = pool.worker_pids().iter().map(u32::to_string).collect();
    println!("{}", pids.join(" "));
    std::process::exit(3);
}

fn killed_program_leaves_nothing() {
    nothing_is_left_after("the program", |pids| pids[0]);
}

/// As MPI has it.
fn killed_agent_ends_the_job() {
    // The agent is the parent of the server that is the parent of its task's process.
    let parent = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
        line.trim().parse::<u32>().unwrap()
    };
    nothing_is_left_after("an agent", |pids| parent(parent(pids[1])));
}

/// Starts a job whose tasks run, and kills one of its processes. `whom` gets the pids of the
/// program and of the two that run tasks.
fn nothing_is_left_after(what: &str, whom: impl FnOnce(&[u32]) -> u32) {
    let mut command = in_a_job(3);
    let mut job = command.arg(own_program()).arg("victim").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(job.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pids: Vec<u32> = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 3, "{line}");
    let (all, victim) = (procession_testing::processes_below(job.id()), whom(&pids));
    assert!(pids.iter().chain([&victim]).all(|pid| all.contains(pid)), "{all:?} {pids:?} {victim}");
    assert!(kill(victim), "{what} runs");
    assert!(!job.wait().unwrap().success(), "{what} was killed");
    eventually("every process of the job ends", || all.iter().all(|pid| !runs(*pid)));
}

/// Its first worker computes and its second sleeps.
fn victim() {
    let pool = Context::mpi().unwrap().pool(2).unwrap();
    let compute = |_: u32| loop {
        std::hint::spin_loop();
    };
    let computes = pool.apply_async::<_, u32, ()>(compute, 0).unwrap();
    let _sleeps = pool.apply_async(sleep_for_ever_at_two, 2).unwrap();
    eventually("both run", || running(&pool) == 2);
    let pids: Vec<String> =
        [std::process::id()].into_iter().chain(pool.worker_pids()).map(|pid| pid.to_string()).collect();
    println!("{}", pids.join(" "));
    std::io::stdout().flush().unwrap();
    // Where the job outlives an agent, the task does not.
    eprintln!("the task ended: {}", computes.get().unwrap_err());
}

fn own_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn job_output(part: &str) -> Output {
    in_a_job(3).arg(own_program()).arg(part).output().unwrap()
}

/// The command that starts a job of its own, of so many ranks.
fn in_a_job(ranks: usize) -> Command {
    let mut command = Command::new("mpiexec");
    command.args(["--oversubscribe", "-n", &ranks.to_string()]);
    without_job(&mut command);
    command
}

/// Without what tells a rank of this job that it is one.
fn without_job(command: &mut Command) -> &mut Command {
    let of_job = ["OMPI_", "PMIX_", "PMI_", "PRTE_"];
    let kept = ["OMPI_ALLOW", "OMPI_MCA_mpi_yield", "OMPI_MCA_btl_tcp_if", "PRTE_ALLOW", "PRTE_MCA_rmaps"];
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if of_job.iter().any(|prefix| name.starts_with(prefix)) && !kept.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_mpi_yield_when_idle"] {
        command.env(name, "1");
    }
    command
}
