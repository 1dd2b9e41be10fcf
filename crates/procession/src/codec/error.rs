//! Why a value does not encode or decode, and where in it.

use std::fmt;

/// The reason of a failure, and the fields on the way to it.
pub(crate) struct Error(Box<Inner>);

struct Inner {
    what: String,
    /// From the inside out.
    path: Vec<Step>,
}

/// A part of a value.
enum Step {
    Field { of: &'static str, name: String },
    Variant { of: &'static str, name: String },
}

/// Recursive types make long paths.
const MAX_STEPS: usize = 6;

impl Error {
    #[cold]
    pub(super) fn new(what: impl Into<String>) -> Error {
        Error(Box::new(Inner { what: what.into(), path: Vec::new() }))
    }

    #[cold]
    pub(super) fn cut_short() -> Error {
        Error::new("the bytes end in the middle of a value")
    }

    #[cold]
    pub(super) fn malformed(tag: u8) -> Error {
        Error::new(format!("no value begins with the byte {tag:#04x}"))
    }

    #[cold]
    pub(super) fn too_deep() -> Error {
        Error::new(format!("it is nested deeper than {} levels", super::MAX_DEPTH))
    }

    /// The same error, seen from outside of a field. Out of line, as it is once for each field of
    /// each type.
    #[cold]
    #[inline(never)]
    pub(super) fn in_field(self, of: &'static str, name: &str) -> Error {
        self.within(Step::Field { of, name: name.to_owned() })
    }

    /// The same error, seen from outside of a variant.
    #[cold]
    #[inline(never)]
    pub(super) fn in_variant(self, of: &'static str, name: &str) -> Error {
        self.within(Step::Variant { of, name: name.to_owned() })
    }

    fn within(mut self, step: Step) -> Error {
        if self.0.path.len() < MAX_STEPS {
            self.0.path.push(step);
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.path.iter().enumerate() {
            let (what, name, of) = match step {
                Step::Field { of, name } => ("field", name, of),
                Step::Variant { of, name } => ("variant", name, of),
            };
            write!(f, "{}{what} `{name}`", if index == 0 { "" } else { " in " })?;
            if !of.is_empty() {
                write!(f, " of `{of}`")?;
            }
        }
        if !self.0.path.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.0.what)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

impl serde_core::ser::Error for Error {
    fn custom<T: fmt::Display>(what: T) -> Error {
        Error::new(what.to_string())
    }
}

impl serde_core::de::Error for Error {
    fn custom<T: fmt::Display>(what: T) -> Error {
        Error::new(what.to_string())
    }
}
