//! Pools in workers of pools, and initializers that fail, under each start method.

use std::time::Duration;

use procession::{Context, StartMethod};
use procession_testing::{eventually, for_each_context, kill, run, runs, tests};

fn context_of(method: String) -> Context {
    Context::new(method.parse::<StartMethod>().unwrap())
}

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            worker_of_a_pool_has_a_pool_of_its_own,
            inner_workers_end_when_the_outer_worker_is_killed,
            an_initializer_that_fails_is_tried_a_few_times_only,
            an_initializer_that_fails_now_and_then_does_not_break_a_pool,
        ],
    })
}

fn worker_of_a_pool_has_a_pool_of_its_own(context: Context) {
    fn outer((method, count): (String, u64)) -> (u32, Vec<u32>, u64) {
        let pool = context_of(method).pool(2).unwrap();
        let sum = pool.map(|x: u64| x * x, 0..count).unwrap().iter().sum();
        (std::process::id(), pool.worker_pids(), sum)
    }
    let pool = context.pool(2).unwrap();
    let method = context.start_method().to_string();
    let results = pool.map(outer, (1..7).map(|count| (method.clone(), count))).unwrap();
    let ours = pool.worker_pids();
    for (count, (worker, inner, sum)) in (1..7).zip(results) {
        assert_eq!(sum, (0..count).map(|x| x * x).sum::<u64>());
        assert!(ours.contains(&worker) && inner.len() == 2);
        assert!(inner.iter().all(|pid| !ours.contains(pid) && !runs(*pid)), "it is dropped with its task");
    }
}

fn inner_workers_end_when_the_outer_worker_is_killed(context: Context) {
    fn outer((method, path): (String, String)) {
        let pool = context_of(method).pool(2).unwrap();
        let _long = pool.map_async(|_: u64| std::thread::sleep(Duration::from_secs(3600)), 0..4).unwrap();
        let pids: Vec<String> = pool.worker_pids().iter().map(u32::to_string).collect();
        std::fs::write(format!("{path}.part"), pids.join(" ")).unwrap();
        std::fs::rename(format!("{path}.part"), &path).unwrap();
        std::thread::sleep(Duration::from_secs(3600));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pids").to_str().unwrap().to_owned();
    let pool = context.pool(1).unwrap();
    let worker = pool.worker_pids()[0];
    let result = pool.apply_async(outer, (context.start_method().to_string(), path.clone())).unwrap();
    eventually("the inner pool runs", || std::path::Path::new(&path).exists());
    let inner: Vec<u32> = std::fs::read_to_string(&path).unwrap().split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert!(inner.len() == 2 && inner.iter().all(|pid| runs(*pid)));
    assert!(kill(worker));
    assert!(result.get().unwrap_err().is_worker_lost());
    eventually("the inner workers end", || inner.iter().all(|pid| !runs(*pid)));
    assert_eq!(pool.apply(|x: u64| x, 3).unwrap(), 3);
}

fn an_initializer_that_fails_is_tried_a_few_times_only(context: Context) {
    fn fails(dir: String) {
        let attempts = std::fs::read_dir(&dir).unwrap().count();
        let _ = std::fs::File::create_new(format!("{dir}/{attempts}-{}", std::process::id()));
        panic!("no model");
    }
    let dir = tempfile::tempdir().unwrap();
    let pool = context.pool_builder(2).initializer(fails, dir.path().to_str().unwrap().to_owned()).start().unwrap();
    let error = pool.map(|x: u64| x, 0..100).unwrap_err();
    assert!(error.is_broken() && error.panic_message() == Some("no model"), "{error}");
    let attempts = || std::fs::read_dir(dir.path()).unwrap().count();
    eventually("no worker is left", || pool.worker_pids().is_empty());
    let tried = attempts();
    assert!((5..=10).contains(&tried), "{tried} attempts");
    // Under fork it is a call that starts workers.
    for x in 0..10 {
        assert!(pool.apply(|x: u64| x, x).unwrap_err().is_broken());
    }
    pool.terminate();
    assert_eq!(attempts(), tried, "and never again");
}

fn an_initializer_that_fails_now_and_then_does_not_break_a_pool(context: Context) {
    fn fails_first(path: String) {
        let is_first = std::fs::File::create_new(path).is_ok();
        assert!(!is_first, "the first one fails");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("first").to_str().unwrap().to_owned();
    let pool = context.pool_builder(2).initializer(fails_first, path).start().unwrap();
    assert_eq!(pool.map(|x: u64| x, 0..100).unwrap().len(), 100);
    eventually("both serve in the end", || {
        // Under fork a thread that comes by replaces them.
        pool.apply(|x: u64| x, 1).unwrap() == 1 && pool.worker_pids().len() == 2
    });
}
