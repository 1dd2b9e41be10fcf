//! A task that aborts costs only itself: the other tasks complete, and a new worker takes the place
//! of the one that died.
//!
//! `cargo run --example crash`

use procession::Pool;

/// Stands for a call into a library that one day corrupts its memory.
fn fragile(x: u32) -> u32 {
    if x == 5 {
        std::process::abort();
    }
    x * 10
}

fn main() -> procession::Result<()> {
    let pool = Pool::new(2)?;
    let results = (0..10).map(|x| pool.apply_async(fragile, x)).collect::<procession::Result<Vec<_>>>()?;
    for (x, result) in results.iter().enumerate() {
        match result.get() {
            Ok(value) => println!("{x}: {value}"),
            Err(error) if error.is_worker_lost() => println!("{x}: lost, by signal {:?}: {error}", error.signal()),
            Err(error) => return Err(error),
        }
    }
    println!("and the pool still serves: {:?}", pool.map(fragile, [1, 2, 3])?);
    Ok(())
}
