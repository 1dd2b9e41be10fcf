//! The arguments of a job, encoded. Used in the thread that submits.

use procession_core::pool::Items;

use crate::argument::Argument;
use crate::{Error, Message, Result, integer};

/// Appends the arguments of a job of `function`. `first` is the index of the first of them in the
/// user's call.
pub(super) fn push_all<A: Message>(
    items: &mut Items,
    function: &'static str,
    first: usize,
    mut arguments: impl Iterator<Item: Argument<A>>,
) -> Result<()> {
    const TOO_LARGE: &str = "it is larger than 4 GiB, or there are more than 2^32 of them";
    if integer::is_integer::<A>() {
        let words = arguments.map_while(|argument| argument.word());
        return items.push_words(words, || Error::unencodable("argument", function, TOO_LARGE.into()));
    }
    arguments.try_for_each(|argument| {
        let pushed = items.push(|out| argument.encode(out), || TOO_LARGE.to_owned());
        pushed.map_err(|why| Error::unencodable_argument(function, first + items.len(), why))
    })
}
