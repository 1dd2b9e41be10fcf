//! A pool whose workers are on the ranks of an MPI job. A task that ends its process costs itself
//! alone.
//!
//! ```console
//! $ cargo build --release --example mpi --features mpi
//! $ mpiexec -n 5 target/release/examples/mpi
//! ```

use procession::Context;

fn halve(number: u64) -> u64 {
    if !number.is_multiple_of(2) {
        std::process::abort();
    }
    number / 2
}

fn main() -> procession::Result<()> {
    let ctx = Context::mpi()?;
    let pool = ctx.pool(2)?;
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
