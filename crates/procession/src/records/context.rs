//! The trace context of a call on its way to its tasks: text that the caller's side writes and the
//! worker's side makes a span of. Used in the thread that submits, and in the worker's only thread.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use procession_core::pool::Propagation;
use procession_core::{Entry, EntryFn, Stateless};
use tracing::Span;
use tracing::span::EnteredSpan;

thread_local! {
    /// The span of the context that the tasks at hand have.
    static ENTERED: RefCell<Option<EnteredSpan>> = const { RefCell::new(None) };
}

/// See [`Builder::trace_context`](crate::pool::Builder::trace_context).
pub(crate) fn propagation<I, E>(inject: I, extract: E) -> Propagation
where
    I: Fn() -> Option<String> + Send + Sync + 'static,
    E: Fn(String) -> Span + Copy + 'static,
{
    let _: Stateless<E> = Stateless::of(extract);
    let inject = move || inject().map(String::into_bytes).filter(|context| !context.is_empty());
    Propagation { inject: Arc::new(inject), extract: Entry::of(change_span::<E> as EntryFn) }
}

/// In the worker: enters the span of a context, or leaves it.
fn change_span<E>(context: &[u8], _: &mut Vec<u8>) -> u32
where
    E: Fn(String) -> Span + Copy + 'static,
{
    ENTERED.take();
    if !context.is_empty() {
        let text = String::from_utf8_lossy(context).into_owned();
        // A panic is reported by the hook, and costs the tasks their context alone.
        let made = panic::catch_unwind(AssertUnwindSafe(|| Stateless::<E>::conjure()(text).entered()));
        ENTERED.set(made.ok());
    }
    0
}
