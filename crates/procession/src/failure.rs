//! Errors that a user's function returns, on their way to the caller: as texts, since an error's
//! type is seldom one that travels. Made in the worker, read in the caller's process.

use std::error::Error as StdError;
use std::fmt;
use std::iter;

use crate::message::serialize_as_tuple;

/// The error of a function that [`try_map`](crate::Pool::try_map) and its like call: every
/// [`Error`](std::error::Error) that is `Send` and `Sync`, `Box<dyn Error>` with and without these,
/// `String`, `&str`, and what converts to `Box<dyn Error + Send + Sync>`, as `anyhow::Error` and
/// `eyre::Report` do. Nothing else needs to be. `Boxed` is the box that it becomes, which follows
/// from the type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an error that a task can return",
    label = "not an error",
    note = "an error type implements `std::error::Error`, `Send` and `Sync`, or converts to `Box<dyn Error + Send + Sync>`; \
            another one becomes one by `.map_err(|error| error.to_string())`"
)]
pub trait TaskError<Boxed>: sealed::Sealed<Boxed> {
    /// As it travels.
    #[doc(hidden)]
    fn into_failure(self) -> Failure;
}

/// An error as texts.
#[doc(hidden)]
#[derive(PartialEq, Eq, Debug)]
pub struct Failure {
    pub(crate) text: String,
    pub(crate) source: Option<Box<Failure>>,
}

impl Failure {
    /// An error may have a source that has itself as its source.
    const MAX_SOURCES: usize = 64;

    fn of(error: &(dyn StdError + 'static)) -> Failure {
        let mut chain: Vec<_> = iter::successors(Some(error), |&error| error.source())
            .take(Failure::MAX_SOURCES)
            .map(ToString::to_string)
            .collect();
        let last = Failure { text: chain.pop().unwrap_or_default(), source: None };
        chain.into_iter().rfold(last, |source, text| Failure { text, source: Some(Box::new(source)) })
    }

    /// The texts of its sources, the nearest first.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &str> {
        iter::successors(self.source.as_deref(), |failure| failure.source.as_deref())
            .map(|failure| failure.text.as_str())
    }
}

serialize_as_tuple!(Failure { text, source });

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

mod sealed {
    /// Only types of this file implement it.
    pub trait Sealed<Boxed> {}
}

impl<E: Into<Box<dyn StdError + Send + Sync>>> sealed::Sealed<Box<dyn StdError + Send + Sync>> for E {}

impl<E: Into<Box<dyn StdError + Send + Sync>>> TaskError<Box<dyn StdError + Send + Sync>> for E {
    fn into_failure(self) -> Failure {
        Failure::of(&*self.into())
    }
}

impl sealed::Sealed<Box<dyn StdError>> for Box<dyn StdError> {}

impl TaskError<Box<dyn StdError>> for Box<dyn StdError> {
    fn into_failure(self) -> Failure {
        Failure::of(&*self)
    }
}

impl sealed::Sealed<Box<dyn StdError + Send>> for Box<dyn StdError + Send> {}

impl TaskError<Box<dyn StdError + Send>> for Box<dyn StdError + Send> {
    fn into_failure(self) -> Failure {
        Failure::of(&*self)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug)]
    struct Outer(io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("outer")
        }
    }

    impl StdError for Outer {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    fn texts<K>(error: impl TaskError<K>) -> Vec<String> {
        let failure = error.into_failure();
        iter::once(failure.text.as_str()).chain(failure.sources()).map(str::to_owned).collect()
    }

    #[test]
    fn every_kind_of_error_becomes_its_texts() {
        let outer = || Outer(io::Error::other("inner"));
        assert_eq!(texts(outer()), ["outer", "inner"]);
        assert_eq!(texts(Box::new(outer()) as Box<dyn StdError>), ["outer", "inner"]);
        assert_eq!(texts(Box::new(outer()) as Box<dyn StdError + Send>), ["outer", "inner"]);
        assert_eq!(texts(Box::new(outer()) as Box<dyn StdError + Send + Sync>), ["outer", "inner"]);
        assert_eq!(texts("text"), ["text"]);
        assert_eq!(texts(String::from("text")), ["text"]);
        assert_eq!(texts(io::Error::other("io")), ["io"]);
    }

    #[test]
    fn an_error_that_is_its_own_source_has_an_end() {
        #[derive(Debug)]
        struct Loop;
        impl fmt::Display for Loop {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("loop")
            }
        }
        impl StdError for Loop {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(self)
            }
        }
        assert_eq!(texts(Loop).len(), Failure::MAX_SOURCES);
    }
}
