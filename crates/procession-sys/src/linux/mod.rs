//! Linux, kernel 5.10 or newer, with glibc: rustix where it has the call, libc where rustix has
//! not.

pub mod abstract_name;
pub(crate) mod at_fork;
pub mod confine;
pub mod descriptor;
mod ended;
pub mod exit;
pub mod fork;
pub mod futex;
pub mod identity;
mod inherited;
pub mod link;
pub mod mapping;
pub mod memfd;
pub mod mutex;
pub mod named;
pub(crate) mod object;
pub mod pidfd;
pub mod poller;
mod preload;
pub mod random;
mod runtime;
pub mod session;
pub mod socket;
pub mod spawn;
pub mod startup;
pub mod stdio;
pub mod thread;
