//! A platform that procession does not support: everything compiles, and every call refuses.

pub mod abstract_name;
pub(crate) mod at_fork;
pub mod confine;
pub mod descriptor;
pub mod exit;
pub mod fork;
pub mod futex;
pub mod identity;
pub mod link;
pub mod mapping;
pub mod memfd;
pub mod mutex;
pub mod named;
pub(crate) mod object;
pub mod pidfd;
pub mod poller;
pub mod random;
pub mod session;
pub mod socket;
pub mod spawn;
pub mod startup;
pub mod stdio;
pub mod thread;

fn unsupported<T>() -> std::io::Result<T> {
    Err(std::io::Error::new(
        std::io::ErrorKind::Unsupported,
        "procession does not support this platform: it needs Linux with glibc on x86-64 or aarch64",
    ))
}
