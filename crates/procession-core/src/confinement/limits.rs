//! The limits of what a child may take. They are set in the child as the kernel's limits, or
//! watched by its pool.

use std::fmt;
use std::fs;
use std::io;
use std::time::Duration;

use procession_sys::Signal;
use procession_sys::confine::{self, Resource};
use rustix::param::page_size;

use super::Keeper;
use crate::wire::{Reader, Writer};

/// The limits of what a child may take. `None` stands for no limit beside those that this process
/// has.
///
/// ```
/// use procession_core::confinement::Limits;
///
/// let limits = Limits { memory: Some(512 << 20), files: Some(32), ..Limits::default() };
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Limits {
    /// Bytes of address space. Beyond it memory is refused: in Rust the process aborts then, in C
    /// `malloc` returns null.
    pub address_space: Option<u64>,
    /// Processor time of one task, in all threads of its worker together; of a
    /// process, of all of it, in whole seconds.
    pub cpu_time: Option<Duration>,
    /// File descriptors: opening fails once so many are open.
    pub files: Option<u64>,
    /// Processes and threads of the user who runs the program, all programs together: a start
    /// fails while there are as many. The kernel does not hold a privileged process to it.
    pub processes: Option<u64>,
    /// Bytes of a file that the child writes.
    pub file_size: Option<u64>,
    /// Bytes of memory of its own that a worker may have during a task, as
    /// `max_memory_per_worker` counts them.
    pub memory: Option<u64>,
}

/// A limit that a child has run into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Limit {
    /// [`Limits::cpu_time`], of so much.
    CpuTime(Duration),
    /// [`Limits::memory`], of so many bytes.
    Memory(u64),
    /// Likely [`Limits::address_space`], of so many bytes: the child has ended as a program does
    /// that was refused memory.
    AddressSpace(u64),
    /// [`Limits::file_size`], of so many bytes.
    FileSize(u64),
    /// A system call that its filter does not allow.
    SystemCalls,
}

impl Limits {
    /// Returns whether the parent watches the tasks of a worker.
    pub(crate) fn is_watched(&self) -> bool {
        self.cpu_time.is_some() || self.memory.is_some()
    }

    pub(super) fn write(&self, writer: Writer) -> Writer {
        let numbers = [
            self.address_space,
            self.cpu_time.map(|time| time.as_nanos() as u64),
            self.files,
            self.processes,
            self.file_size,
            self.memory,
        ];
        numbers.into_iter().fold(writer, |writer, number| writer.u8(number.is_some().into()).u64(number.unwrap_or(0)))
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Limits> {
        let mut number = || {
            let (is_there, number) = (reader.u8()? != 0, reader.u64()?);
            Some(is_there.then_some(number))
        };
        Some(Limits {
            address_space: number()?,
            cpu_time: number()?.map(Duration::from_nanos),
            files: number()?,
            processes: number()?,
            file_size: number()?,
            memory: number()?,
        })
    }

    pub(super) fn apply(&self, keeper: Keeper) -> io::Result<()> {
        if let Some(most) = self.address_space {
            check_address_space(most)?;
        }
        let seconds = match keeper {
            Keeper::Kernel => self.cpu_time.map(|time| time.as_secs() + u64::from(time.subsec_nanos() > 0)),
            Keeper::Pool => None,
        };
        let all = [
            (Resource::CpuTime, seconds),
            (Resource::Files, self.files),
            (Resource::Processes, self.processes),
            (Resource::FileSize, self.file_size),
            (Resource::AddressSpace, self.address_space),
        ];
        for (resource, most) in all {
            if let Some(most) = most {
                confine::limit(resource, most)?;
            }
        }
        Ok(())
    }

    pub(super) fn limit_behind(&self, code: Option<i32>) -> Option<Limit> {
        let signal = Signal::from_raw(-code.filter(|code| *code < 0)?);
        match signal {
            Signal::XCPU => self.cpu_time.map(Limit::CpuTime),
            Signal::XFSZ => self.file_size.map(Limit::FileSize),
            // Of a Rust program that was refused memory, of a C program that did not look, and of a
            // stack that could not grow.
            Signal::ABRT | Signal::SEGV | Signal::BUS => self.address_space.map(Limit::AddressSpace),
            _ => None,
        }
    }
}

/// Refuses a limit of which nothing is left, with a text that says so.
fn check_address_space(most: u64) -> io::Result<()> {
    // If nobody can know it, the first refusal will tell.
    let Ok(statm) = fs::read_to_string("/proc/self/statm") else { return Ok(()) };
    let pages = statm.split_ascii_whitespace().next().and_then(|pages| pages.parse::<u64>().ok());
    match pages.map(|pages| pages * page_size() as u64) {
        Some(taken) if taken >= most => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "its address space is to be limited to {most} bytes, and it has {taken} already: give it more, or start \
                 it by `spawn` or `forkserver`, which inherit nothing"
            ),
        )),
        _ => Ok(()),
    }
}

impl Limit {
    /// The limit in two numbers, for a message between processes.
    pub(crate) fn to_parts(self) -> (u8, u64) {
        match self {
            Limit::CpuTime(time) => (1, time.as_nanos() as u64),
            Limit::Memory(bytes) => (2, bytes),
            Limit::AddressSpace(bytes) => (3, bytes),
            Limit::FileSize(bytes) => (4, bytes),
            Limit::SystemCalls => (5, 0),
        }
    }

    pub(crate) fn from_parts(kind: u8, number: u64) -> Option<Limit> {
        Some(match kind {
            1 => Limit::CpuTime(Duration::from_nanos(number)),
            2 => Limit::Memory(number),
            3 => Limit::AddressSpace(number),
            4 => Limit::FileSize(number),
            5 => Limit::SystemCalls,
            _ => return None,
        })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::CpuTime(time) => write!(f, "cpu_time, {time:?} of processor time"),
            Limit::Memory(bytes) => write!(f, "memory, {bytes} bytes"),
            Limit::AddressSpace(bytes) => write!(f, "address_space, {bytes} bytes"),
            Limit::FileSize(bytes) => write!(f, "file_size, {bytes} bytes"),
            Limit::SystemCalls => f.write_str("the system calls that its seccomp filter allows"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_blamed_only_where_there_is_one() {
        let none = Limits::default();
        let all = Limits {
            address_space: Some(1),
            cpu_time: Some(Duration::from_secs(2)),
            file_size: Some(3),
            ..Limits::default()
        };
        let signals = [Signal::XCPU, Signal::XFSZ, Signal::ABRT, Signal::KILL];
        let blamed = signals.map(|signal| all.limit_behind(Some(-signal.as_raw())));
        assert_eq!(
            blamed,
            [
                Some(Limit::CpuTime(Duration::from_secs(2))),
                Some(Limit::FileSize(3)),
                Some(Limit::AddressSpace(1)),
                None
            ]
        );
        assert!(signals.iter().all(|signal| none.limit_behind(Some(-signal.as_raw())).is_none()));
        assert_eq!((all.limit_behind(Some(24)), all.limit_behind(None)), (None, None));
    }

    #[test]
    fn parts_of_a_limit_make_it_again() {
        let all = [
            Limit::CpuTime(Duration::from_millis(3)),
            Limit::Memory(7),
            Limit::AddressSpace(8),
            Limit::FileSize(9),
            Limit::SystemCalls,
        ];
        for limit in all {
            let (kind, number) = limit.to_parts();
            assert_eq!(Limit::from_parts(kind, number), Some(limit));
        }
        assert_eq!(Limit::from_parts(0, 0), None);
    }
}
