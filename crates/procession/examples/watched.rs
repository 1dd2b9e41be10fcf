//! A pool to look at from outside, until this program's input ends.
//!
//! `cargo run --example watched`, and in another terminal, with the Python package installed,
//! `python -m procession top`

use std::io::{self, Read};
use std::thread::sleep;
use std::time::Duration;

use procession::{Pool, StartMethod, set_start_method};

fn nap(x: u64) -> u64 {
    sleep(Duration::from_millis(x % 5));
    x
}

/// Hangs.
fn hang(_: u64) {
    sleep(Duration::MAX);
}

fn main() -> procession::Result<()> {
    if let Some(method) = std::env::args().nth(1) {
        set_start_method(method.parse::<StartMethod>()?)?;
    }
    let pool = Pool::new(3)?;
    let hangs = pool.apply_async(hang, 0)?;
    let naps = pool.chunk_size(10).map_async(nap, 0..1_000_000)?;
    println!("python -m procession top {}", std::process::id());

    io::stdin().read_to_end(&mut Vec::new()).expect("the standard input can be read");
    naps.cancel()?;
    hangs.cancel()?;
    println!("it has run {} tasks", pool.stats()?.done);
    Ok(())
}
