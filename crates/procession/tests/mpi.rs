//! Pools on the ranks of an MPI job. The tests run in rank 0 of a job of 4 ranks. Started without
//! one, this program starts itself in one. Some tests start jobs of their own, in which this
//! program plays a part (`argument: its name`).

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

mod elsewhere;

use elsewhere::*;
use procession::Context;
use procession_testing::{eventually, kill, once, run, runs, tests};

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
            workers_are_processes_elsewhere,
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
            terminated_pool_frees_its_agents,
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
    // If the job outlives an agent, the task does not.
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
