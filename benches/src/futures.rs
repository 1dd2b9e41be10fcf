//! Rows of results that are awaited, beside the same by threads that block.

use std::hint::black_box;
use std::time::Instant;

use futures_util::future::join_all;
use procession::{AsyncResult, Pool};
use tokio::runtime::Builder;

use crate::report::{Must, Row};

const IN_FLIGHT: u64 = 10_000;

/// One thread submits all tasks. Then a task of the runtime's in the same thread awaits all of them
/// at once, or that thread gets one after the other.
pub(crate) fn in_flight(pairs: usize) -> Row {
    let pool = Pool::new(2).expect("a pool can be made");
    let runtime = Builder::new_current_thread().build().expect("a runtime can be made");
    let by_futures = || {
        let begun = Instant::now();
        let results = runtime.block_on(join_all((0..IN_FLIGHT).map(|x| submit(&pool, x))));
        for result in results {
            black_box(result.expect("a no-op task is done"));
        }
        IN_FLIGHT as f64 / begun.elapsed().as_secs_f64()
    };
    let by_get = || {
        let begun = Instant::now();
        let calls: Vec<_> = (0..IN_FLIGHT).map(|x| submit(&pool, x)).collect();
        for call in calls {
            black_box(call.get().expect("a no-op task is done"));
        }
        IN_FLIGHT as f64 / begun.elapsed().as_secs_f64()
    };
    let pairs = (0..pairs).map(|_| (by_futures(), by_get()));
    Row::new("no-op tasks, 10,000 futures", "tasks/s", "our get", Must::AtLeast(0.7), pairs.collect())
}

fn submit(pool: &Pool, x: u64) -> AsyncResult<u64> {
    pool.apply_async(|x: u64| x, x).expect("a task is taken")
}
