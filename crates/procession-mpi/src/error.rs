//! The errors of MPI, by the codes that its calls return. Made in the process that has called.

// The text of a code is in the library.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fmt;

use mpi_sys as ffi;

/// The result of a call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A call of MPI that has failed: which, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    call: &'static str,
    why: String,
}

impl Error {
    /// An error that this crate has found itself.
    pub(crate) fn new(call: &'static str, why: impl Into<String>) -> Error {
        Error { call, why: why.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {}", self.call, self.why)
    }
}

impl std::error::Error for Error {}

/// Takes the code that the call has returned for what it is.
pub(crate) fn check(call: &'static str, code: c_int) -> Result<()> {
    if code == ffi::MPI_SUCCESS as c_int { Ok(()) } else { Err(Error::new(call, text_of(code))) }
}

fn text_of(code: c_int) -> String {
    let mut text = [0_u8; ffi::MPI_MAX_ERROR_STRING as usize];
    let mut len = 0;
    // SAFETY: the buffer is as long as the library asks for, and the library writes no more than
    // that into it. MPI has been initialized, as only then a call returns a code.
    let returned = unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast(), &raw mut len) };
    let known = usize::try_from(len).ok().and_then(|len| text.get(..len));
    match known {
        Some(known) if returned == ffi::MPI_SUCCESS as c_int => String::from_utf8_lossy(known).into_owned(),
        _ => format!("code {code}"),
    }
}
