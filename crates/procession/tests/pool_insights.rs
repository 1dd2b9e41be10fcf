//! The figures of pools that measure: their workers' time and their slowest tasks, under each start
//! method.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use procession::pool::Insights;
use procession::{Context, Pool, Process, SharedValue};
use procession_testing::{eventually, exists, for_each_context, kill, once, run, tests};
use serde::{Deserialize, Serialize};

const MS: Duration = Duration::from_millis(1);

#[derive(Serialize, Deserialize, Clone, Debug)]
struct Job {
    user: String,
    weights: Vec<f64>,
    limits: BTreeMap<u8, Option<bool>>,
}

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            time_is_told_by_what_it_was_spent_on,
            initializer_counts_as_start_up,
            slowest_tasks_are_named_with_their_arguments,
            each_item_of_a_reduction_is_a_task,
            tasks_that_panic_are_measured,
            killed_worker_loses_no_time_and_no_slow_task,
            kill_in_the_middle_of_a_task_counts_as_work,
            workers_that_were_replaced_stay_in_the_sums,
            pool_that_has_ended_still_tells,
            pool_that_does_not_measure_says_so,
            lazy_maps_and_states_are_measured,
        ],
        once: [
            worker_that_overwrites_its_meter_harms_no_sum,
            forked_child_is_refused,
        ],
    })
}

fn measuring(context: Context, workers: usize) -> Pool {
    context.pool_builder(workers).insights().start().unwrap()
}

fn sleep(millis: u64) -> u64 {
    std::thread::sleep(MS * millis as u32);
    millis
}

fn insights(pool: &Pool) -> Insights {
    pool.insights().unwrap()
}

fn time_is_told_by_what_it_was_spent_on(context: Context) {
    let pool = measuring(context, 2);
    pool.chunk_size(1).map(sleep, [30; 4]).unwrap();
    eventually("both have run a task and wait", || {
        let insights = insights(&pool);
        insights.total.waiting >= 20 * MS && insights.workers.iter().map(|worker| worker.tasks).sum::<u64>() == 4
    });
    let seen = insights(&pool);
    assert_eq!(seen.workers.iter().map(|worker| (worker.slot, worker.started)).collect::<Vec<_>>(), [(0, 1), (1, 1)]);
    assert!(seen.total.working >= 120 * MS, "{seen:?}");
    assert!(seen.workers.iter().all(|worker| worker.times.start_up > Duration::ZERO), "{seen:?}");
    assert!(seen.total.pickling > Duration::ZERO);
    let sum: Duration = seen.workers.iter().map(|worker| worker.times.total()).sum();
    assert_eq!(sum, seen.total.total());
    let shares = seen.total.shares();
    let all = shares.start_up + shares.waiting + shares.working + shares.pickling;
    assert!((all - 1.0).abs() < 1e-9, "{shares:?}");
    assert!(seen.to_string().contains("start-up"), "{seen}");
}

fn initializer_counts_as_start_up(context: Context) {
    let wait = |millis: u64| {
        sleep(millis);
    };
    let pool = context.pool_builder(1).initializer(wait, 50).insights().start().unwrap();
    pool.apply(sleep, 0).unwrap();
    let times = insights(&pool).total;
    assert!(times.start_up >= 50 * MS && times.working < times.start_up, "{times:?}");
}

fn slowest_tasks_are_named_with_their_arguments(context: Context) {
    let pool = measuring(context, 2);
    let items = (0..60).map(|x| if x > 7 && x % 10 == 7 { 200 + x } else { 0 });
    let result = pool.chunk_size(7).map_async(sleep, items).unwrap();
    let id = result.id();
    result.get().unwrap();
    let seen = insights(&pool);
    let mut indices: Vec<_> = seen.slowest.iter().map(|slow| slow.index).collect();
    indices.sort_unstable();
    assert_eq!(indices, [17, 27, 37, 47, 57].map(Some));
    assert!(seen.slowest.is_sorted_by(|one, next| one.duration >= next.duration), "{seen:?}");
    for slow in &seen.slowest {
        let millis = 200 + slow.index.unwrap();
        assert!(slow.call.ends_with(&format!("::sleep({millis})")), "{}", slow.call);
        assert!(slow.duration >= MS * millis as u32 && slow.job == id && slow.slot < 2, "{slow:?}");
    }
    let job =
        Job { user: "bob".repeat(100), weights: vec![0.5; 3], limits: BTreeMap::from([(1, Some(true)), (2, None)]) };
    let work = |job: Job| {
        sleep(600 + job.weights.len() as u64);
    };
    pool.apply(work, Job { user: "bob".into(), ..job.clone() }).unwrap();
    let shown = "({\"user\": \"bob\", \"weights\": [0.5, 0.5, 0.5], \"limits\": {1: Some(true), 2: None}})";
    let is_shown = |text: &str| insights(&pool).slowest.iter().any(|slow| slow.call.ends_with(text));
    assert!(is_shown(shown), "{:?}", insights(&pool).slowest);
    pool.apply(work, job).unwrap();
    assert!(insights(&pool).slowest.iter().any(|slow| slow.call.contains("bobbob") && slow.call.ends_with("...)")));
    pool.starmap(|millis: u64, name: String| (sleep(millis), name), [(500, "slow".to_owned())]).unwrap();
    assert!(is_shown("(500, \"slow\")"), "{:?}", insights(&pool).slowest);
}

fn each_item_of_a_reduction_is_a_task(context: Context) {
    let pool = measuring(context, 2);
    let items = (0..40).map(|x| if x == 33 { 500 } else { 1 });
    assert_eq!(pool.map_reduce(sleep, |a, b| a + b, items).unwrap(), Some(39 + 500));
    let seen = insights(&pool);
    assert_eq!(seen.slowest[0].index, Some(33), "{seen:?}");
    assert!(seen.slowest[0].call.ends_with("(500)"), "{seen:?}");
    assert_eq!(seen.workers.iter().map(|worker| worker.tasks).sum::<u64>(), 40);
}

fn tasks_that_panic_are_measured(context: Context) {
    let pool = measuring(context, 1);
    let error = pool.apply(|x: u64| assert!(sleep(40) == x, "no"), 41).unwrap_err();
    assert!(error.is_panic());
    let seen = insights(&pool);
    assert!(seen.total.working >= 40 * MS && seen.workers[0].tasks == 1, "{seen:?}");
    assert!(seen.slowest[0].call.ends_with("(41)"), "{seen:?}");
    pool.apply(sleep, 1).unwrap();
    assert_eq!(insights(&pool).workers[0].tasks, 2);
}

fn killed_worker_loses_no_time_and_no_slow_task(context: Context) {
    let pool = measuring(context, 1);
    pool.map(sleep, [40, 1, 50]).unwrap();
    let before = insights(&pool);
    let pid = pool.worker_pids()[0];
    kill(pid);
    eventually("it is replaced", || pool.worker_pids().first().is_some_and(|new| *new != pid));
    pool.apply(sleep, 45).unwrap();
    let seen = insights(&pool);
    let [worker] = &seen.workers[..] else { panic!("{seen:?}") };
    assert_eq!((worker.started, worker.tasks), (2, 4));
    assert!(worker.times.working >= before.total.working + 45 * MS, "{seen:?}");
    assert!(worker.times.start_up > before.total.start_up && worker.times.waiting >= before.total.waiting);
    let mut calls: Vec<_> = seen.slowest.iter().map(|slow| slow.call.rsplit("::").next().unwrap()).collect();
    calls.sort_unstable();
    assert_eq!(calls, ["sleep(1)", "sleep(40)", "sleep(45)", "sleep(50)"]);
}

fn kill_in_the_middle_of_a_task_counts_as_work(context: Context) {
    let pool = measuring(context, 2);
    let begun = SharedValue::new(0u32).unwrap();
    let hang = |begun: SharedValue<u32>| {
        begun.set(std::process::id());
        std::thread::sleep(Duration::MAX);
    };
    let result = pool.apply_async(hang, begun.clone()).unwrap();
    eventually("it hangs", || begun.get() != 0);
    eventually("and is seen to work", || insights(&pool).total.working >= 50 * MS);
    kill(begun.get());
    assert!(result.get().unwrap_err().is_worker_lost());
    let seen = insights(&pool);
    assert!(seen.total.working >= 50 * MS && seen.slowest.is_empty(), "{seen:?}");
    let timed = pool.timeout(30 * MS).apply(|()| std::thread::sleep(Duration::MAX), ()).unwrap_err();
    assert!(timed.is_task_timeout());
    assert!(insights(&pool).total.working >= seen.total.working + 25 * MS, "{:?}", insights(&pool));
}

fn workers_that_were_replaced_stay_in_the_sums(context: Context) {
    let pool = context.pool_builder(1).max_tasks_per_worker(1).insights().start().unwrap();
    pool.chunk_size(1).map(sleep, [10; 4]).unwrap();
    eventually("each task had its worker", || {
        let seen = insights(&pool);
        seen.workers.len() == 1 && seen.workers[0].started >= 4 && seen.workers[0].tasks == 4
    });
    let seen = insights(&pool);
    assert!(seen.total.working >= 40 * MS && seen.slowest.len() == 4, "{seen:?}");
}

fn pool_that_has_ended_still_tells(context: Context) {
    let pool = measuring(context, 2);
    pool.map(sleep, [20, 30]).unwrap();
    pool.close();
    pool.join().unwrap();
    let seen = insights(&pool);
    assert!(seen.total.working >= 50 * MS && seen.slowest.len() == 2, "{seen:?}");
    assert_eq!(insights(&pool), seen, "nothing counts any more");
    let pool = measuring(context, 2);
    pool.map(sleep, [20, 30]).unwrap();
    pool.terminate();
    assert!(insights(&pool).total.working >= 50 * MS);
}

fn pool_that_does_not_measure_says_so(context: Context) {
    let pool = context.pool(1).unwrap();
    let error = pool.insights().unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains(".insights()"), "{error}");
    assert_eq!(pool.apply(sleep, 0).unwrap(), 0);
}

fn lazy_maps_and_states_are_measured(context: Context) {
    let pool = measuring(context, 2);
    assert_eq!(pool.imap(sleep, [1, 300, 2]).map(Result::unwrap).sum::<u64>(), 303);
    let with = |base: &u64, x: u64| base + sleep(x);
    assert_eq!(pool.map_with(5u64, with, [1u64, 600]).unwrap(), [6, 605]);
    let seen = insights(&pool);
    assert!(seen.slowest[0].call.ends_with("(600)") && seen.slowest[1].call.ends_with("(300)"), "{seen:?}");
    assert_eq!(seen.workers.iter().map(|worker| worker.tasks).sum::<u64>(), 5);
}

/// The task finds its pool's shared memory as native code might that has gone wrong.
fn worker_that_overwrites_its_meter_harms_no_sum() {
    let pool = measuring(Context::fork(), 1);
    pool.apply(sleep, 20).unwrap();
    let before = insights(&pool).total;
    let scribble = |seed: u64| {
        let own = std::fs::read_dir("/proc/self/fd").unwrap().flatten().map(|entry| entry.path());
        let mine = own
            .filter(|path| std::fs::read_link(path).is_ok_and(|at| at.to_string_lossy().contains("procession-pool")));
        for path in mine {
            let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
            assert!(file.as_raw_fd() > 2);
            // The meters are the last of the words: those that hold what this task is shown as.
            let mut words = vec![0; 1 << 20];
            let len = file.read_at(&mut words, 0).unwrap();
            let needle = b"sleep(20)";
            let Some(at) = words[..len].windows(needle.len()).position(|bytes| bytes == needle) else { continue };
            let mut state = seed;
            for word in (at as u64 / 64 * 64 - 192..at as u64 + 512).step_by(8) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                file.write_all_at(&state.to_ne_bytes(), word).unwrap();
            }
            return true;
        }
        false
    };
    for seed in 1..20 {
        pool.apply(sleep, 20).unwrap();
        pool.apply(scribble, seed).unwrap();
        let seen = insights(&pool);
        assert!(seen.slowest.len() <= 5 && seen.total.total() < Duration::from_secs(3600), "{seen:?}");
        let _ = seen.to_string();
    }
    let pid = pool.worker_pids()[0];
    kill(pid);
    eventually("it is gone", || !exists(pid));
    assert!(insights(&pool).total.total() >= before.total());
}

fn forked_child_is_refused() {
    let pool = measuring(Context::fork(), 1);
    let in_child = || pool.insights().is_err_and(|error| error.is_inherited());
    assert!(Process::fork(in_child).start().unwrap().join().unwrap());
}
