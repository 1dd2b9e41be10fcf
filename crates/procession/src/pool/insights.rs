//! The use that a pool's workers made of their time. Used in the parent, from any thread; the
//! workers measure.

use procession_core::pool::Insights;

use super::builder::Builder;
use super::pool::Pool;
use crate::{Error, Result};

impl Builder {
    /// Has the workers measure how they spend their time, and note the slowest tasks:
    /// [`Pool::insights`] tells. It costs three looks at the clock for each task.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let pool = procession::Context::fork().pool_builder(2).insights().start()?;
    /// pool.map(|x: u64| (0..x).sum::<u64>(), 0..100)?;
    /// println!("{}", pool.insights()?);
    /// # Ok(()) }
    /// ```
    pub fn insights(self) -> Builder {
        self.set(|service| service.measures = true)
    }
}

/// # Insights
impl Pool {
    /// Returns where the time of the workers went, up to now or up to the end of each, and the five
    /// slowest tasks with their arguments. Printed it is a table. The builder must have been told
    /// to [measure](super::Builder::insights).
    ///
    /// Workers are told apart by their slots: the times and tasks of a worker that was replaced,
    /// killed ones too, are in the sums of its slot. A task whose worker is lost is not among the
    /// slowest; its time counts as work. Arguments are shown as they are encoded: fields by name,
    /// a handle as a number.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let pool = procession::Context::fork().pool_builder(1).insights().start()?;
    /// pool.map(|ms: u64| std::thread::sleep(std::time::Duration::from_millis(ms)), [1, 300, 2])?;
    /// let insights = pool.insights()?;
    /// assert!(insights.slowest[0].call.ends_with("(300)"));
    /// assert_eq!((insights.slowest[0].index, insights.workers[0].tasks), (Some(1), 3));
    /// assert!(insights.total.working >= std::time::Duration::from_millis(303));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If the pool does not measure ([`Error::is_invalid`]); in a process forked from the pool's
    /// ([`Error::is_inherited`]).
    pub fn insights(&self) -> Result<Insights> {
        let insights = self.shared.engine.insights()?;
        insights.ok_or_else(|| {
            Error::invalid(
                "this pool does not measure how its workers spend their time: make it by Pool::builder(..).insights()",
            )
        })
    }
}
