//! The engine, in a shared object of Rust's own kind.

pub use procession::{Context, Result, StartMethod};

/// Returns the sum of the squares below `n`, by a function of this object.
///
/// # Errors
///
/// The error of the pool.
pub fn sum_of_squares(method: StartMethod, n: u64) -> Result<u64> {
    let squares = Context::new(method).pool(2)?.map(|x: u64| x * x, 0..n)?;
    Ok(squares.into_iter().sum())
}
