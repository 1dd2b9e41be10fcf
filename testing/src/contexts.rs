//! A test for each start method.

use libtest_mimic::Trial;
use procession::Context;

use crate::trial;

/// A context of each start method, by the method's name.
pub const CONTEXTS: [(&str, Context); 3] =
    [("fork", Context::fork()), ("spawn", Context::spawn()), ("forkserver", Context::forkserver())];

/// Returns the tests of a function, one for each start method: `name::fork` and so on.
pub fn for_each_context(name: &str, body: fn(Context)) -> [Trial; 3] {
    CONTEXTS.map(|(method, context)| trial(&format!("{name}::{method}"), move || body(context)))
}
