//! The confinement of a child that works on input which nobody trusts: what it may take and what it
//! may do. Plain data: described in the parent, carried in the child's role, applied in the child
//! once it is ready and before the first task.
//!
//! | file | what it is |
//! |---|---|
//! | `limits.rs` | how much a child may take; which limit has ended one |
//! | `landlock.rs` | which files it may open (feature `landlock`) |
//! | `seccomp.rs` | which system calls it may make (feature `seccomp`) |
//!
//! Two limits cannot be left to the kernel: it counts processor time for a whole process, and does
//! not limit what is resident. In a pool the parent watches both, at its tick (`pool/watch.rs`).

#[cfg(feature = "landlock")]
mod landlock;
mod limits;
#[cfg(feature = "seccomp")]
mod seccomp;

use std::io;

use procession_sys::confine;

use crate::wire::{Reader, Writer};

#[cfg(feature = "landlock")]
pub use landlock::Landlock;
pub use limits::{Limit, Limits};
#[cfg(feature = "seccomp")]
pub use seccomp::Seccomp;

/// See the module. The default confines nothing.
#[derive(Clone, Default, Debug)]
pub struct Confinement {
    /// The limits of what it may take.
    pub limits: Limits,
    /// True if neither it nor what it executes can get privileges by an exec.
    pub no_new_privileges: bool,
    /// The files that it may open.
    #[cfg(feature = "landlock")]
    pub landlock: Option<Landlock>,
    /// The system calls that it may make.
    #[cfg(feature = "seccomp")]
    pub seccomp: Option<Seccomp>,
}

/// The part that ends a child which has used up its processor time or its memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keeper {
    /// The pool's thread, which watches each task.
    Pool,
    /// The kernel, by the processor time of the whole process. Nobody watches its memory.
    Kernel,
}

impl Confinement {
    /// Returns it in the form in which it crosses to a child.
    pub fn encode(&self) -> Vec<u8> {
        let writer = self.limits.write(Writer::default()).u8(self.no_new_privileges.into());
        #[cfg(feature = "landlock")]
        let writer = landlock::write(self.landlock.as_ref(), writer);
        #[cfg(not(feature = "landlock"))]
        let writer = writer.u8(0);
        #[cfg(feature = "seccomp")]
        let writer = seccomp::write(self.seccomp.as_ref(), writer);
        #[cfg(not(feature = "seccomp"))]
        let writer = writer.u8(0);
        writer.0
    }

    /// Reads what [`encode`](Self::encode) has written.
    pub fn decode(bytes: &[u8]) -> Option<Confinement> {
        let mut reader = Reader(bytes);
        let confinement = Confinement {
            limits: Limits::read(&mut reader)?,
            no_new_privileges: reader.u8()? != 0,
            #[cfg(feature = "landlock")]
            landlock: landlock::read(&mut reader)?,
            #[cfg(feature = "seccomp")]
            seccomp: seccomp::read(&mut reader)?,
        };
        // A part without its feature is none.
        let missing = usize::from(cfg!(not(feature = "landlock"))) + usize::from(cfg!(not(feature = "seccomp")));
        (reader.0 == &[0, 0][..missing]).then_some(confinement)
    }

    /// In the child: confines this process, for good.
    ///
    /// # Errors
    ///
    /// The part that cannot be applied, and the reason. Other parts may have been applied by then.
    pub fn apply(&self, keeper: Keeper) -> io::Result<()> {
        // A filter forbids what the steps before it do, and paths take file descriptors to open.
        if self.no_new_privileges {
            confine::take_no_new_privileges()?;
        }
        #[cfg(feature = "landlock")]
        if let Some(landlock) = &self.landlock {
            landlock.restrict()?;
        }
        self.limits.apply(keeper)?;
        #[cfg(feature = "seccomp")]
        if let Some(seccomp) = &self.seccomp {
            seccomp.install()?;
        }
        Ok(())
    }

    /// Returns the limit that has ended a child with this code, as far as that tells.
    pub fn limit_behind(&self, code: Option<i32>) -> Option<Limit> {
        #[cfg(feature = "seccomp")]
        if self.seccomp.is_some() && code == Some(-procession_sys::Signal::SYS.as_raw()) {
            return Some(Limit::SystemCalls);
        }
        self.limits.limit_behind(code)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_part_crosses_and_every_cut_is_refused() {
        let limits = Limits {
            address_space: Some(1 << 30),
            cpu_time: Some(Duration::from_millis(1500)),
            files: Some(0),
            file_size: Some(u64::MAX),
            ..Limits::default()
        };
        let whole = Confinement {
            limits,
            no_new_privileges: true,
            #[cfg(feature = "landlock")]
            landlock: Some(Landlock::new().read("/usr").read_write("/tmp/a b")),
            #[cfg(feature = "seccomp")]
            seccomp: Some(Seccomp::new().allow_files().allow([-1, 1 << 40])),
        };
        for confinement in [Confinement::default(), whole] {
            let bytes = confinement.encode();
            let copy = Confinement::decode(&bytes).unwrap();
            assert_eq!(format!("{copy:?}"), format!("{confinement:?}"));
            assert!((0..bytes.len()).all(|cut| Confinement::decode(&bytes[..cut]).is_none()));
        }
    }
}
