//! The arguments of a job, encoded. Used in the thread that submits.

use std::any::type_name;

use procession_core::pool::Items;
use serde::Serialize;

use crate::{Error, Result, integer, message};

/// Appends the arguments of a job of `F`.
pub(super) fn push_all<F, A: Serialize + 'static>(
    items: &mut Items,
    mut arguments: impl Iterator<Item = A>,
) -> Result<()> {
    let failed = |why: String| Error::unencodable("argument", type_name::<F>(), why);
    let too_large = || failed("it is larger than 4 GiB, or there are more than 2^32 of them".into());
    if integer::is_integer::<A>() {
        return items.push_words(arguments.map_while(|argument| integer::encode(&argument)), too_large);
    }
    arguments.try_for_each(|argument| items.push(|out| message::encode(&argument, out).map_err(failed), too_large))
}
