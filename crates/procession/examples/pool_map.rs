//! A pool: four tasks of one second on four workers take about one second.
//!
//! `cargo run --example pool_map`

use std::thread::sleep;
use std::time::{Duration, Instant};

use procession::Pool;

fn wait_and_return(x: u32) -> u32 {
    sleep(Duration::from_secs(1));
    x
}

fn main() -> procession::Result<()> {
    let pool = Pool::new(4)?;
    let begun = Instant::now();
    let results = pool.map(wait_and_return, [1, 2, 3, 4])?;
    println!("{results:?} after {:.2} s", begun.elapsed().as_secs_f64());

    pool.close();
    pool.join()
}
