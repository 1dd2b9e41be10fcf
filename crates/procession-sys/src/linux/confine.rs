//! Limits that a process sets for itself: resources, privileges, a process group of its own. Called
//! in a child, in its only thread, before or after its initializer. Also the clock by which its
//! parent reads the processor time that the child has used.

#![allow(unsafe_code)] // clock_getcpuclockid: rustix has no clock of another process.

use std::io;
use std::time::Duration;

use rustix::process::{Resource as Kernels, Rlimit, getrlimit, setpgid, setrlimit};

pub use crate::resource::Resource;

/// Makes this process the leader of a process group of its own, with what it starts from now on.
///
/// # Errors
///
/// If it leads a session.
pub fn lead_group() -> io::Result<()> {
    Ok(setpgid(None, None)?)
}

/// Limits a resource of this process to `most`. A limit that is lower already stays. The process
/// cannot raise it again, unless it is privileged.
///
/// # Errors
///
/// An error of the system.
pub fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let kernels = match resource {
        Resource::AddressSpace => Kernels::As,
        Resource::CpuTime => Kernels::Cpu,
        Resource::Files => Kernels::Nofile,
        Resource::Processes => Kernels::Nproc,
        Resource::FileSize => Kernels::Fsize,
        Resource::CoreSize => Kernels::Core,
    };
    let before = getrlimit(kernels);
    let lower = |before: Option<u64>, most: u64| Some(before.map_or(most, |before| before.min(most)));
    // The kernel sends SIGXCPU at the first number and SIGKILL at the second.
    let hard = if resource == Resource::CpuTime { most.saturating_add(1) } else { most };
    Ok(setrlimit(kernels, Rlimit { current: lower(before.current, most), maximum: lower(before.maximum, hard) })?)
}

/// Has neither this process nor what it executes get privileges by an exec.
///
/// # Errors
///
/// None that a caller could cause.
pub fn take_no_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// Returns the number of threads of this process.
///
/// # Errors
///
/// If `/proc` cannot be read.
pub fn threads() -> io::Result<usize> {
    super::thread::count()
}

/// Returns the processor time that the process with this pid has used, in all of its threads.
///
/// # Errors
///
/// If there is no such process.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls write one live local each; the second takes the clock that the first gave.
    unsafe {
        let refused = libc::clock_getcpuclockid(pid, &raw mut clock);
        if refused != 0 {
            return Err(io::Error::from_raw_os_error(refused));
        }
        if libc::clock_gettime(clock, &raw mut time) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_of_a_process_grows() {
        let before = cpu_time(std::process::id()).unwrap();
        let mut sum = 0u64;
        while cpu_time(std::process::id()).unwrap() == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(cpu_time(u32::MAX).is_err());
    }
}
