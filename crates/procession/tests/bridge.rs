//! Pools on a Ray or Dask cluster, through the bridge program. The variable
//! `PROCESSION_TEST_BRIDGE` names the engine and the address of a cluster of 3 processors (`cargo
//! xtask scale bridge-rust` starts one); without it only the tests run that need none. Some tests
//! start programs of their own, in which this program plays a part (`argument: its name`).

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

mod elsewhere;

use elsewhere::*;
use procession::Context;
use procession_testing::{Random, eventually, kill, once, run, runs, seed_of_now, tests};

const WORKERS: usize = 3;
const VARIABLE: &str = "PROCESSION_TEST_BRIDGE";

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("unreachable") => return unreachable(),
        Some("victim") => return victim(),
        Some("panics") => return panics(),
        Some("exits") => return exits(),
        Some("orphaned") => return orphaned(),
        Some("moved") => return moved(),
        _ => {}
    }
    let mut all = tests! {
        once: [
            unknown_engine_is_refused,
            missing_interpreter_is_named,
            missing_package_is_told,
        ],
    };
    if std::env::var_os(VARIABLE).is_some() {
        all.extend(tests_on_a_cluster());
    }
    run(all)
}

fn tests_on_a_cluster() -> Vec<procession_testing::Trial> {
    tests! {
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
            handles_are_refused,
            settings_for_this_machine_are_refused,
            room_is_the_processors_of_the_cluster,
            more_workers_than_processors_are_refused,
            pools_share_the_processors,
            same_cluster_is_the_same_context,
            process_runs_on_this_machine,
            tasks_run_in_the_folder_of_the_program_with_its_arguments,
            executable_that_is_nowhere_else_goes_through_memory,
            killed_agent_costs_the_task_that_ran_there,
            killed_actor_costs_the_task_that_ran_there,
            killed_actor_costs_no_task_with_retries,
            agents_killed_at_random_cost_retries_and_no_result,
            killed_bridge_program_is_told_and_another_serves,
            panic_of_the_program_ends_its_agents,
            exit_of_the_program_ends_its_tasks,
            killed_program_leaves_nothing,
            missing_cluster_is_told,
        ],
    }
}

/// The engine and the address of the cluster.
fn cluster() -> (String, String) {
    let named = std::env::var(VARIABLE).expect("the variable names a cluster");
    let (engine, address) = named.split_once(' ').expect("it is an engine and an address");
    (engine.to_owned(), address.to_owned())
}

fn context() -> Context {
    let (engine, address) = cluster();
    Context::bridge(&engine, &address).unwrap()
}

fn unknown_engine_is_refused() {
    let error = Context::bridge("spark", "").unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("`spark`"), "{error}");
}

fn missing_interpreter_is_named() {
    let text = error_of("unreachable", |command| command.env("PROCESSION_PYTHON", "/no/such/python"));
    assert!(text.contains("/no/such/python") && text.contains("PROCESSION_PYTHON"), "{text}");
}

fn missing_package_is_told() {
    // It ends at once, as an interpreter does that has no such package.
    let text = error_of("unreachable", |command| command.env("PROCESSION_PYTHON", "false"));
    assert!(text.contains("exit status: 1") && text.contains("pip install"), "{text}");
}

fn missing_cluster_is_told() {
    let (engine, _) = cluster();
    let text = error_of("unreachable", |command| command.env(VARIABLE, format!("{engine} 127.0.0.1:9")));
    assert!(text.contains("cannot reach the cluster"), "{text}");
}

/// Prints why there is no context.
fn unreachable() {
    let (engine, address) = std::env::var(VARIABLE).map_or(("ray".into(), "127.0.0.1:9".into()), |_| cluster());
    println!("{}", Context::bridge(&engine, &address).unwrap_err());
}

fn error_of(part: &str, set: impl FnOnce(&mut Command) -> &mut Command) -> String {
    let output = set(Command::new(own_program()).arg(part)).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn room_is_the_processors_of_the_cluster() {
    assert_eq!(context().pool_size().unwrap(), WORKERS);
    assert_eq!(pool(WORKERS).map(square, 0..10).unwrap().len(), 10);
}

fn more_workers_than_processors_are_refused() {
    let error = context().pool(7).unwrap_err().to_string();
    assert!(error.contains("7 workers") && error.contains("has 3 of them"), "{error}");
    assert!(context().pool(0).unwrap_err().is_invalid());
}

fn pools_share_the_processors() {
    let (one, two) = (pool(1), pool(WORKERS - 1));
    let error = context().pool(1).unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("free"), "{error}");
    let (first, second) = (one.map_async(square, 0..1000).unwrap(), two.map_async(square, 0..1000).unwrap());
    assert_eq!(first.get().unwrap(), second.get().unwrap());
    drop(one);
    assert_eq!(pool(1).apply(square, 5).unwrap(), 25);
}

fn same_cluster_is_the_same_context() {
    assert_eq!(context(), context());
    assert_ne!(context(), Context::forkserver());
}

fn process_runs_on_this_machine() {
    let mut process = context().process(square, 7).start().unwrap();
    assert_eq!(process.join().unwrap(), 49);
}

fn tasks_run_in_the_folder_of_the_program_with_its_arguments() {
    let surroundings = |()| {
        let folder = std::env::current_dir().unwrap().display().to_string();
        (folder, std::env::args().skip(1).collect::<Vec<_>>())
    };
    assert_eq!(pool(1).apply(surroundings, ()).unwrap(), surroundings(()));
}

fn executable_that_is_nowhere_else_goes_through_memory() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("program");
    fs::copy(own_program(), &copy).unwrap();
    let output = Command::new(&copy).arg("moved").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("81 by memfd"), "{output:?}");
    assert!(!copy.exists());
}

/// Removes its own file before it has a pool.
fn moved() {
    fs::remove_file(own_program()).unwrap();
    let pool = pool(2);
    let file = pool.call(|| fs::read_link("/proc/self/exe").unwrap().display().to_string()).unwrap();
    let by = if file.contains("memfd:") { "memfd" } else { &file };
    println!("{} by {by}", pool.apply(square, 9).unwrap());
}

/// Returns the parent of a process.
fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    line.trim().parse().unwrap()
}

/// The process of this program that is the parent of the server that is the parent of a task's.
fn agent_of(pid: u32) -> u32 {
    parent(parent(pid))
}

fn actor_of(pid: u32) -> u32 {
    parent(agent_of(pid))
}

fn killed_agent_costs_the_task_that_ran_there() {
    death_costs_the_task_that_ran_there(agent_of);
}

fn killed_actor_costs_the_task_that_ran_there() {
    death_costs_the_task_that_ran_there(actor_of);
}

fn death_costs_the_task_that_ran_there(whom: fn(u32) -> u32) {
    let pool = pool(2);
    let slow = pool.apply_async(sleep_for_ever_at_two, 2).unwrap();
    let pid = busy_worker(&pool);
    // Behind it, for the other worker and for the replacement.
    let others = pool.chunk_size(1).map_async(square, 0..50).unwrap();
    assert!(kill(whom(pid)));
    let error = slow.get().unwrap_err();
    assert!(error.is_worker_lost(), "{error}");
    assert!(error.host().is_some_and(|host| error.to_string().contains(host)), "{error}");
    assert_eq!(others.get().unwrap(), (0..50).map(square).collect::<Vec<_>>());
    eventually("its process has ended", || !runs(pid));
    eventually("there is another in its place", || pool.worker_pids().len() == 2);
    assert_eq!(pool.chunk_size(1).map(square, 0..50).unwrap().len(), 50);
    assert_eq!(pool.stats().unwrap().lost, 1);
    await_all_processors();
}

/// Waits until the cluster has replaced what was killed: Dask starts a worker anew.
fn await_all_processors() {
    let context = context();
    eventually("the cluster is whole", || context.pool_size().unwrap() == WORKERS);
}

/// Returns the process of the only worker that is at a task.
fn busy_worker(pool: &procession::Pool) -> u32 {
    eventually("it runs", || running(pool) == 1);
    let workers = pool.stats().unwrap().workers;
    workers.iter().find(|worker| worker.running.is_some()).unwrap().pid
}

fn killed_actor_costs_no_task_with_retries() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("begun").display().to_string();
    // The first run waits for its end.
    let wait_once = |path: String| {
        if fs::File::create_new(&path).is_ok() {
            std::thread::sleep(Duration::from_secs(3600));
        }
        12
    };
    let pool = pool(1);
    let task = pool.retries(1).apply_async(wait_once, path.clone()).unwrap();
    let pid = busy_worker(&pool);
    eventually("it has begun", || fs::exists(&path).unwrap());
    assert!(kill(actor_of(pid)));
    assert_eq!(task.get().unwrap(), 12);
    await_all_processors();
}

fn agents_killed_at_random_cost_retries_and_no_result() {
    const KILLS: usize = 6;
    let pool = pool(WORKERS);
    let killer = std::thread::spawn({
        let pool = pool.clone();
        move || {
            let mut random = Random::new(seed_of_now());
            for _ in 0..KILLS {
                std::thread::sleep(Duration::from_millis(200 + random.below(400)));
                let pids = pool.worker_pids();
                if !pids.is_empty()
                    && let Some(agent) = ancestor(pids[random.index(pids.len())], 2 + random.index(2))
                {
                    kill(agent);
                }
            }
        }
    });
    let careful = pool.retries(u32::MAX);
    let expected: Vec<u64> = (0..3000).map(square).collect();
    let mut rounds = 0;
    while !killer.is_finished() || rounds == 0 {
        assert!(careful.map(square, 0..3000).unwrap() == expected, "round {rounds}");
        rounds += 1;
    }
    killer.join().unwrap();
    assert_eq!(pool.stats().unwrap().lost, 0);
    await_all_processors();
}

/// An ancestor of a process that may have ended meanwhile: an agent, or an actor.
fn ancestor(pid: u32, steps: usize) -> Option<u32> {
    (0..steps).try_fold(pid, |pid, _| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
        // An orphan's is none of these.
        let name = fs::read_to_string(format!("/proc/{parent}/cmdline")).ok()?;
        (parent > 1 && !name.contains("nanny") && !name.contains("raylet/raylet")).then_some(parent)
    })
}

fn killed_bridge_program_is_told_and_another_serves() {
    let output = Command::new(own_program()).arg("orphaned").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("ended (signal: 9") && text.contains("again: 81"), "{output:?}");
}

/// Its bridge program is killed while a task runs.
fn orphaned() {
    let pool = pool(2);
    let slow = pool.apply_async(sleep_for_ever_at_two, 2).unwrap();
    let pid = busy_worker(&pool);
    let bridge = bridge_program(std::process::id());
    assert!(kill(bridge));
    let lost = slow.get().unwrap_err();
    assert!(lost.is_worker_lost() || lost.is_broken(), "{lost}");
    let error = pool.apply(square, 3).unwrap_err();
    println!("then: {error}");
    drop(pool);
    eventually("the task's process ends", || !runs(pid));
    let context = context();
    eventually("the processors are free", || context.pool(WORKERS).is_ok());
    println!("again: {}", context.pool(2).unwrap().apply(square, 9).unwrap());
}

fn bridge_program(driver: u32) -> u32 {
    let is_it = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        name.contains("procession.remote.bridge") && parent(*pid) == driver
    };
    procession_testing::processes_below(driver).into_iter().find(is_it).expect("there is a bridge program")
}

fn panic_of_the_program_ends_its_agents() {
    let output = Command::new(own_program()).arg("panics").output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("in the program"), "{output:?}");
    all_end(&output);
}

fn panics() {
    let pool = pool(2);
    print_pids(&pool);
    panic!("in the program");
}

fn exit_of_the_program_ends_its_tasks() {
    let output = Command::new(own_program()).arg("exits").output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    all_end(&output);
}

/// Exits while tasks run, and nothing has been dropped.
fn exits() {
    let pool = pool(2);
    let _slow = pool.map_async(|_: u32| std::thread::sleep(Duration::from_secs(3600)), 0..10).unwrap();
    eventually("both run", || running(&pool) == 2);
    print_pids(&pool);
    std::process::exit(3);
}

/// Prints the processes of the tasks, of their agents, and of the bridge program.
fn print_pids(pool: &procession::Pool) {
    let tasks = pool.worker_pids();
    let agents = tasks.iter().copied().map(agent_of);
    let all: BTreeSet<u32> = agents.chain(tasks.iter().copied()).chain([bridge_program(std::process::id())]).collect();
    let shown: Vec<String> = all.iter().map(u32::to_string).collect();
    println!("pids: {}", shown.join(" "));
    std::io::stdout().flush().unwrap();
}

fn pids_in(line: &str) -> Option<Vec<u32>> {
    let pids = line.trim().strip_prefix("pids: ")?;
    Some(pids.split(' ').map(|pid| pid.parse().unwrap()).collect())
}

fn all_end(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    let pids = text.lines().find_map(pids_in).expect("it prints its processes");
    assert_eq!(pids.len(), 5, "{output:?}");
    eventually("every process of the program ends", || pids.iter().all(|pid| !runs(*pid)));
}

fn killed_program_leaves_nothing() {
    let mut driver: Child = Command::new(own_program()).arg("victim").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let pids = lines.find_map(|line| pids_in(&line.unwrap())).expect("it prints its processes");
    assert_eq!(pids.len(), 5, "{pids:?}");
    assert!(kill(driver.id()));
    driver.wait().unwrap();
    eventually("every process of the program ends", || pids.iter().all(|pid| !runs(*pid)));
    // The next program has all processors.
    let context = context();
    eventually("the processors are free", || context.pool(WORKERS).is_ok());
}

/// Its first worker computes and its second sleeps.
fn victim() {
    let pool = pool(2);
    let compute = |_: u32| loop {
        std::hint::spin_loop();
    };
    let computes = pool.apply_async::<_, u32, ()>(compute, 0).unwrap();
    let _sleeps = pool.apply_async(sleep_for_ever_at_two, 2).unwrap();
    eventually("both run", || running(&pool) == 2);
    print_pids(&pool);
    eprintln!("the task ended: {}", computes.get().unwrap_err());
}

fn own_program() -> PathBuf {
    std::env::current_exe().unwrap()
}
