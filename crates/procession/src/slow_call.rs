//! A call of the user's function in a pool that measures: when it began and ended, and how it is
//! shown if it is among the slowest. In the worker.

use std::any::type_name;

use procession_core::pool::Meter;

use crate::{codec, integer};

/// The most characters of a call's arguments.
const MAX_ARGUMENTS: usize = 200;

/// A call of the function `F`, from its making to its drop, also by a panic.
pub(crate) struct Call<'a> {
    meter: &'a Meter,
    input: &'a [u8],
    show: fn(&[u8], Option<usize>) -> String,
    offset: Option<usize>,
}

impl<'a> Call<'a> {
    /// Begins a call, in a pool that measures. `input` is its encoded argument, or a batch of them
    /// in which it has this place.
    #[inline]
    pub(crate) fn begin<F: 'static, A: 'static>(
        meter: Option<&'a Meter>,
        input: &'a [u8],
        offset: Option<usize>,
    ) -> Option<Call<'a>> {
        let meter = meter?;
        meter.begin_call();
        Some(Call { meter, input, show: show::<F, A>, offset })
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(nanos) = self.meter.end_call() {
            self.meter.keep_call(nanos, &(self.show)(self.input, self.offset));
        }
    }
}

/// Returns the name of the function and its arguments, shortened.
fn show<F, A: 'static>(input: &[u8], offset: Option<usize>) -> String {
    let mut text = format!("{}(", type_name::<F>());
    let is_tuple = type_name::<A>().starts_with('(');
    match (offset, integer::text_of::<A>(input)) {
        (None, Some(integer)) => text.push_str(&integer),
        (None, None) => codec::write_text(&mut text, input, is_tuple, MAX_ARGUMENTS),
        (Some(offset), _) => codec::write_element_text(&mut text, input, offset, is_tuple, MAX_ARGUMENTS),
    }
    text.push(')');
    text
}
