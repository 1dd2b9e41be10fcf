//! The end of a process, and the signals that may end it. Plain numbers, the same on every
//! platform.

use std::fmt;

/// The end of a process: an exit code of 0 or more, or the signal that killed it as a negative
/// number, as Python's `multiprocessing` has it.
///
/// ```
/// use procession_sys::ExitStatus;
///
/// assert_eq!(ExitStatus::exited(3).to_string(), "exit code 3");
/// assert_eq!(ExitStatus::signaled(9).code(), -9);
/// assert_eq!(ExitStatus::signaled(9).to_string(), "signal 9 (SIGKILL)");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ExitStatus(i32);

impl ExitStatus {
    /// Makes the status of a process that left by itself with this code, of which the system keeps
    /// the low eight bits.
    pub fn exited(code: i32) -> Self {
        ExitStatus(code & 0xff)
    }

    /// Makes the status of a process that this signal killed.
    pub fn signaled(sig: i32) -> Self {
        ExitStatus(-sig)
    }

    /// Returns the exit code, or minus the signal.
    pub fn code(self) -> i32 {
        self.0
    }

    /// Returns the signal that killed the process, if one did.
    pub fn signal(self) -> Option<i32> {
        (self.0 < 0).then_some(-self.0)
    }

    /// Returns whether the process left by itself with code 0.
    pub fn success(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal() {
            Some(signal) => write!(f, "signal {}", Signal(signal)),
            None => write!(f, "exit code {}", self.0),
        }
    }
}

/// A signal's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signal(i32);

macro_rules! signals {
    ($($name:ident = $number:literal, $doc:literal;)*) => {
        impl Signal {
            $(#[doc = $doc] pub const $name: Signal = Signal($number);)*

            fn name(self) -> Option<&'static str> {
                match self {
                    $(Signal::$name => Some(concat!("SIG", stringify!($name))),)*
                    _ => None,
                }
            }
        }
    };
}

// Linux's numbers, which x86-64 and aarch64 share.
signals! {
    HUP = 1, "The terminal went away.";
    INT = 2, "Ctrl-C.";
    QUIT = 3, "Ctrl-\\\\.";
    ILL = 4, "An illegal instruction.";
    TRAP = 5, "A breakpoint.";
    ABRT = 6, "`abort` was called.";
    BUS = 7, "An access beyond a mapping's file.";
    FPE = 8, "An arithmetic fault.";
    KILL = 9, "Ends the process; cannot be caught.";
    USR1 = 10, "The program's own.";
    SEGV = 11, "An access to memory that is not there.";
    USR2 = 12, "The program's own.";
    PIPE = 13, "A write to a pipe that nobody reads.";
    ALRM = 14, "A timer.";
    TERM = 15, "Asks the process to end.";
    CHLD = 17, "A child has changed its state.";
    CONT = 18, "Resumes a stopped process.";
    STOP = 19, "Stops the process; cannot be caught.";
    XCPU = 24, "The limit of processor time is used up.";
    XFSZ = 25, "The limit of a file's size is reached.";
    SYS = 31, "A forbidden system call.";
}

impl Signal {
    /// Makes a signal of a number. The kernel judges it when it is used.
    pub const fn from_raw(raw: i32) -> Self {
        Signal(raw)
    }

    /// Returns the number.
    pub const fn as_raw(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} ({name})", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_happened() {
        assert_eq!(ExitStatus::exited(0).to_string(), "exit code 0");
        assert_eq!(ExitStatus::signaled(11).to_string(), "signal 11 (SIGSEGV)");
        assert_eq!(ExitStatus::signaled(40).to_string(), "signal 40");
    }

    #[test]
    fn a_code_is_what_the_system_keeps() {
        assert_eq!(ExitStatus::exited(-1).code(), 255);
        assert_eq!(ExitStatus::exited(256), ExitStatus::exited(0));
        assert!(ExitStatus::exited(0).success() && !ExitStatus::exited(1).success());
    }

    #[test]
    fn a_signal_is_negative() {
        let killed = ExitStatus::signaled(Signal::KILL.as_raw());
        assert_eq!((killed.code(), killed.signal(), killed.success()), (-9, Some(9), false));
        assert_eq!(ExitStatus::exited(9).signal(), None);
    }
}
