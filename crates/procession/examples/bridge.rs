//! A pool whose workers are on a Ray or Dask cluster. A task that ends its process costs itself
//! alone.
//!
//! ```console
//! $ pip install 'procession[ray]'           # or 'procession[dask]'; here and on each machine
//! $ ray start --head --port=6379
//! $ cargo run --release --example bridge --features bridge -- ray 127.0.0.1:6379
//! ```

use procession::Context;

fn halve(number: u64) -> u64 {
    if !number.is_multiple_of(2) {
        std::process::abort();
    }
    number / 2
}

fn main() -> procession::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let engine = arguments.next().unwrap_or_else(|| "ray".into());
    let ctx = Context::bridge(&engine, &arguments.next().unwrap_or_default())?;
    let pool = ctx.pool(ctx.pool_size()?)?;
    let squares = pool.map(|x: u64| x * x, 0..1000)?;
    println!("the squares of 0 to 999 add up to {}", squares.iter().sum::<u64>());
    for (number, half) in (0..4).zip(pool.map_each(halve, 0..4)?) {
        match half {
            Ok(half) => println!("half of {number} is {half}"),
            Err(error) => println!("half of {number}: {error}"),
        }
    }
    Ok(())
}
