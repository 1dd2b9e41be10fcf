//! The values that may stand for an argument where a task is submitted: the argument itself, or one
//! that encodes as it does. Used in the thread that submits.

use serde_core::Serialize;

use crate::message::{self, Message};
use crate::{codec, integer};
use procession_core::Word;

/// A value that may be given for an argument of type `A`: an `A`, or a reference to one, which is
/// encoded where it is and not cloned. For a `String` also a `&str`, for a `Vec<T>` also a `&[T]`.
/// Nothing else needs to be.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// # let pool = procession::Context::fork().pool(2)?;
/// let words = vec!["some".to_owned(), "words".to_owned()];
/// let lengths = pool.map(|word: String| word.len(), &words)?;
/// assert_eq!(lengths, pool.map(|word: String| word.len(), ["some", "words"])?);
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel to a function that takes `{A}`",
    label = "not a message, or not what the function takes",
    note = "a message implements serde's `Serialize` and `Deserialize` (derive them for a type of your own) and borrows nothing",
    note = "it is given as it is or by reference; for a `String` also as `&str`, for a `Vec<T>` also as `&[T]`",
    note = "write `Handle<File>` for a file or a socket, `procession::Queue` or `queue::Sender` for `mpsc::Sender`, \
            `procession::sync::Mutex` for `Arc<Mutex<_>>`, `share()` or `SharedSlice` for an `Arc` of data"
)]
pub trait Argument<A>: sealed::Sealed<A> {
    /// The type of the value that is encoded: it encodes as an `A` does.
    #[doc(hidden)]
    type Form: Serialize + ?Sized;

    /// Returns the value that is encoded.
    #[doc(hidden)]
    fn form(&self) -> &Self::Form;

    /// Returns the word as which it travels if it is an integer.
    #[doc(hidden)]
    fn word(&self) -> Option<Word> {
        None
    }

    /// Appends it to `out`; the error says why it does not encode.
    #[doc(hidden)]
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        codec::to_bytes(self.form(), out).map_err(|error| message::reason::<A>(&error))
    }
}

mod sealed {
    /// Only types of this file implement it.
    pub trait Sealed<A> {}
}

impl<A: Message> sealed::Sealed<A> for A {}

#[diagnostic::do_not_recommend]
impl<A: Message> Argument<A> for A {
    type Form = A;

    #[inline]
    fn form(&self) -> &A {
        self
    }

    #[inline]
    fn word(&self) -> Option<Word> {
        integer::encode(self)
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        message::encode(self, out)
    }
}

impl<A: Message> sealed::Sealed<A> for &A {}

#[diagnostic::do_not_recommend]
impl<A: Message> Argument<A> for &A {
    type Form = A;

    #[inline]
    fn form(&self) -> &A {
        self
    }

    #[inline]
    fn word(&self) -> Option<Word> {
        integer::encode(*self)
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        message::encode(*self, out)
    }
}

impl sealed::Sealed<String> for &str {}

#[diagnostic::do_not_recommend]
impl Argument<String> for &str {
    type Form = str;

    fn form(&self) -> &str {
        self
    }
}

impl sealed::Sealed<String> for &&str {}

#[diagnostic::do_not_recommend]
impl Argument<String> for &&str {
    type Form = str;

    fn form(&self) -> &str {
        self
    }
}

impl<T> sealed::Sealed<Vec<T>> for &[T] where Vec<T>: Message {}

#[diagnostic::do_not_recommend]
impl<T: Serialize> Argument<Vec<T>> for &[T]
where
    Vec<T>: Message,
{
    type Form = [T];

    fn form(&self) -> &[T] {
        self
    }
}
