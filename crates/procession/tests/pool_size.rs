//! Workers that come and go: limits of memory, sizes that change, and what statistics say, under
//! each start method.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use procession::{Context, Pool};
use procession_testing::{eventually, exists, for_each_context, kill, once, run, runs, tests};

fn sleep(millis: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(millis));
    millis
}

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            a_worker_that_grows_makes_way_and_loses_nothing,
            a_worker_that_begins_too_large_runs_a_task_all_the_same,
            a_pool_grows_and_shrinks_with_tasks_running,
            a_pool_is_resized_again_and_again_and_no_task_is_lost,
            sizes_limits_and_kills_at_once_lose_no_more_than_was_killed,
            a_size_that_makes_no_sense_is_refused,
            statistics_say_what_runs_and_how_tasks_fared,
            an_idle_pool_takes_no_memory_for_the_room_it_has,
            a_map_that_fails_fast_ends_at_the_first_error,
            two_that_fail_fast_at_once_do_not_disturb_a_third,
        ],
        once: [
            a_worker_that_cannot_be_started_leaves_the_size_as_it_was,
        ],
    })
}

fn a_worker_that_grows_makes_way_and_loses_nothing(context: Context) {
    const LIMIT: u64 = 96 << 20;
    let pool = context.pool_builder(2).max_memory_per_worker(LIMIT).start().unwrap();
    let before: HashSet<u32> = pool.worker_pids().into_iter().collect();
    let slim = |_: u64| {
        std::thread::sleep(Duration::from_millis(3));
        std::process::id()
    };
    let pids: HashSet<u32> = pool.map(slim, 0..50).unwrap().into_iter().collect();
    assert!(pids.is_subset(&before), "workers that do not grow stay");
    let leak = |bytes: usize| {
        std::mem::forget(std::hint::black_box(vec![1u8; bytes]));
        std::thread::sleep(Duration::from_millis(3));
        std::process::id()
    };
    // In one chunk: what stands behind the leak runs elsewhere.
    let items = (0..40).map(|x| if x % 10 == 3 { 128 << 20 } else { 0 });
    let pids = pool.chunk_size(20).map(leak, items).unwrap();
    assert_eq!(pids.len(), 40);
    for x in (3..40).step_by(10) {
        assert!(!pids[x + 1..].contains(&pids[x]), "worker {} ran on after it leaked", pids[x]);
    }
    eventually("they end", || (3..40).step_by(10).all(|x| !runs(pids[x])));
    eventually("and are replaced", || pool.worker_pids().len() == 2);
    let stats = pool.stats().unwrap();
    assert_eq!((stats.done, stats.failed, stats.lost), (90, 0, 0));
    assert!(stats.respawns >= 4, "{stats:?}");
}

fn a_worker_that_begins_too_large_runs_a_task_all_the_same(context: Context) {
    let pool = context.pool_builder(2).max_memory_per_worker(1).start().unwrap();
    let pids = pool.chunk_size(5).map(|_: u64| std::process::id(), 0..20).unwrap();
    assert_eq!(pids.iter().collect::<HashSet<_>>().len(), 20, "one task each");
}

fn a_pool_grows_and_shrinks_with_tasks_running(context: Context) {
    let pool = context.pool(1).unwrap();
    let result = pool.chunk_size(10).map_async(|x: u64| (sleep(2), std::process::id(), x), 0..600).unwrap();
    pool.resize(4).unwrap();
    assert_eq!(pool.workers(), 4);
    let four: HashSet<u32> = pool.worker_pids().into_iter().collect();
    assert_eq!(four.len(), 4, "they are there when resize returns");
    let long = pool.chunk_size(1).map_async(sleep, [150; 4]).unwrap();
    let results = result.get().unwrap();
    assert!(results.iter().enumerate().all(|(x, result)| result.2 == x as u64));
    let served: HashSet<u32> = results.iter().map(|result| result.1).collect();
    assert!(served.len() > 1, "new workers take part in a job that had begun");
    pool.resize(1).unwrap();
    assert_eq!(long.get().unwrap(), [150; 4], "whatever runs is finished");
    eventually("three end", || pool.worker_pids().len() == 1);
    eventually("and are reaped", || four.iter().filter(|pid| exists(**pid)).count() == 1);
    assert_eq!(pool.map(|x: u64| x, 0..100).unwrap().len(), 100);
    assert_eq!((pool.workers(), pool.stats().unwrap().respawns), (1, 0));
    pool.resize(3).unwrap();
    pool.resize(2).unwrap();
    pool.resize(3).unwrap();
    eventually("as many as were asked for last", || pool.worker_pids().len() == 3);
    assert_eq!(pool.map(|x: u64| x, 0..100).unwrap().len(), 100);
}

fn a_pool_is_resized_again_and_again_and_no_task_is_lost(context: Context) {
    let pool = context.pool(2).unwrap();
    let result = pool.map_async(|x: u64| (0..2000 + x).fold(0, u64::wrapping_add).min(x), 0..4000).unwrap();
    for size in [4, 1, 3, 2, 5, 1, 2, 1, 4, 2].into_iter().cycle().take(40) {
        pool.resize(size).unwrap();
    }
    let deadline = procession_testing::long();
    assert_eq!(result.get_timeout(deadline).unwrap(), (0..4000).collect::<Vec<_>>());
    eventually("two are left", || pool.worker_pids().len() == 2);
}

fn sizes_limits_and_kills_at_once_lose_no_more_than_was_killed(context: Context) {
    // Most tasks leak, so that workers make way all the time, while others are killed and the size
    // changes.
    let leak = |x: u64| {
        if x.is_multiple_of(3) {
            std::mem::forget(std::hint::black_box(vec![1u8; 1 << 20]));
        }
        x * 3
    };
    let pool = context.pool_builder(2).max_memory_per_worker(48 << 20).start().unwrap();
    let mut random = 12345u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let (mut kills, mut lost) = (0, 0);
    for round in 0..30 {
        let call = pool.chunk_size(1 + next(20) as usize);
        let call = if round % 3 == 0 { call.fail_fast() } else { call };
        let result = call.map_async(leak, 0..300).unwrap();
        pool.resize(1 + next(4) as usize).unwrap();
        std::thread::sleep(Duration::from_micros(next(3000)));
        let pids = pool.worker_pids();
        if !pids.is_empty() && next(3) > 0 {
            let pid = pids[next(pids.len() as u64) as usize];
            kills += u64::from(kill(pid));
        }
        pool.resize(1 + next(4) as usize).unwrap();
        match result.get_timeout(procession_testing::long()) {
            Ok(values) => assert!(values.iter().enumerate().all(|(x, value)| *value == x as u64 * 3)),
            Err(error) => {
                assert!(error.is_worker_lost(), "{error}");
                lost += 1;
            }
        }
    }
    assert!(kills > 5 && lost <= kills, "{lost} lost in {kills} kills");
    let stats = pool.stats().unwrap();
    assert!(stats.lost <= kills && stats.failed == 0 && stats.queued == 0, "{stats:?}");
    pool.close();
    pool.join().unwrap();
}

fn a_size_that_makes_no_sense_is_refused(context: Context) {
    let pool = context.pool(2).unwrap();
    for size in [0, 65, 5000] {
        let error = pool.resize(size).unwrap_err();
        assert!(error.is_invalid() && error.to_string().contains("1 to 64"), "{error}");
    }
    assert_eq!(pool.map(|x: u64| x, 0..10).unwrap().len(), 10);
    pool.close();
    assert!(pool.resize(3).unwrap_err().is_closed());
    pool.join().unwrap();
}

fn a_worker_that_cannot_be_started_leaves_the_size_as_it_was() {
    let pool = Context::fork().pool(1).unwrap();
    std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || stopped.recv());
        assert!(pool.resize(3).unwrap_err().is_other_threads());
        drop(stop);
    });
    assert_eq!(pool.workers(), 1);
    assert_eq!(pool.map(|x: u64| x, 0..10).unwrap().len(), 10);
}

fn statistics_say_what_runs_and_how_tasks_fared(context: Context) {
    let pool = context.pool(2).unwrap();
    let idle = pool.stats().unwrap();
    assert_eq!((idle.workers.len(), idle.queued, idle.done), (2, 0, 0));
    assert!(idle.workers.iter().all(|worker| worker.running.is_none() && worker.done == 0));
    let begun = Instant::now();
    let result = pool.chunk_size(4).map_async(sleep, [1, 3_600_000, 1, 1, 1, 1]).unwrap();
    let mut seen = None;
    eventually("the second task is seen to run, and nothing else", || {
        let stats = pool.stats().unwrap();
        seen = stats.workers.iter().find_map(|worker| Some((worker.pid, worker.done, worker.running?)));
        seen.is_some_and(|(_, _, task)| task.index == 1) && stats.done == 3
    });
    let (pid, done, task) = seen.unwrap();
    assert!(task.job == result.id() && task.since >= begun && task.since <= Instant::now());
    assert_eq!(done, 1);
    let stats = pool.stats().unwrap();
    assert_eq!((stats.queued, stats.done), (2, 3), "two stand behind the long one in its chunk");
    assert!(stats.workers.iter().all(|worker| worker.resident.is_some_and(|bytes| bytes > 100_000)));
    assert!(kill(pid));
    assert!(result.get().unwrap_err().is_worker_lost());
    assert!(pool.apply(|_: u64| -> u64 { panic!("no") }, 1).unwrap_err().is_panic());
    eventually("the dead worker is replaced", || pool.worker_pids().len() == 2);
    let stats = pool.stats().unwrap();
    assert_eq!((stats.done, stats.failed, stats.lost, stats.respawns, stats.queued), (5, 1, 1, 1, 0));
}

fn an_idle_pool_takes_no_memory_for_the_room_it_has(context: Context) {
    let segments = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
            let path = entry.ok()?.path();
            let is_pool = std::fs::read_link(&path).ok()?.to_str()?.contains("memfd:procession-pool");
            is_pool.then(|| std::fs::metadata(path).unwrap())
        });
        links.collect::<Vec<_>>()
    };
    eventually("no pool of a test before is left", || segments().is_empty());
    let pool: Pool = context.pool(2).unwrap();
    pool.map(|x: u64| x, 0..100).unwrap();
    let [segment] = &segments()[..] else { panic!("a pool has one segment") };
    let taken = segment.blocks() * 512;
    assert!(taken < 512 << 10, "{taken} bytes");
    assert!(segment.len() < 8 << 20, "{} bytes, though there is room for many workers", segment.len());
    drop(pool);
}

fn a_map_that_fails_fast_ends_at_the_first_error(context: Context) {
    let pool = context.pool(2).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let items: Vec<_> = (0..2000u64).map(|x| (x, dir.path().to_str().unwrap().to_owned())).collect();
    let task = |(x, dir): (u64, String)| {
        std::fs::File::create_new(format!("{dir}/{x}")).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        assert!(x != 10, "ten");
        x
    };
    for chunk in [1, 50] {
        let error = pool.fail_fast().chunk_size(chunk).map(task, items.clone()).unwrap_err();
        assert!(error.task().unwrap().starts_with("task 10 of"), "{error}");
        assert_eq!(error.panic_message(), Some("ten"));
        // Behind a barrier of its own tasks, so that what ran has ended.
        pool.chunk_size(1).map(sleep, [20; 4]).unwrap();
        let ran = std::fs::read_dir(dir.path()).unwrap().count();
        assert!((11..500).contains(&ran), "{ran} of 2000 tasks ran");
        std::fs::read_dir(dir.path()).unwrap().for_each(|entry| std::fs::remove_file(entry.unwrap().path()).unwrap());
    }
    assert_eq!(pool.fail_fast().map(|x: u64| x, 0..100).unwrap().len(), 100, "without an error it is a map");
    let lost = pool.fail_fast().map(|x: u64| if x == 5 { std::process::abort() } else { sleep(1) }, 0..5000);
    assert!(lost.unwrap_err().is_worker_lost(), "a lost worker is an error like another");
    assert_eq!(pool.map(|x: u64| x, 0..100).unwrap().len(), 100);
    pool.close();
    pool.join().unwrap();
}

fn two_that_fail_fast_at_once_do_not_disturb_a_third(context: Context) {
    let pool = context.pool(2).unwrap();
    let fails = |x: u64| {
        assert!(x != 3, "three");
        sleep(1)
    };
    for _ in 0..10 {
        let one = pool.fail_fast().map_async(fails, 0..500).unwrap();
        let other = pool.fail_fast().map_async(fails, 0..500).unwrap();
        let third = pool.map_async(|x: u64| x, 0..500).unwrap();
        assert!(one.get().unwrap_err().is_panic() && other.get().unwrap_err().is_panic());
        assert_eq!(third.get().unwrap().len(), 500);
    }
}
