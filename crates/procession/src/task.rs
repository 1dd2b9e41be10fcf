//! A function on its way to another process: its entry there, and what surrounds the call. An entry
//! decodes the argument, calls, encodes the value, and turns a panic anywhere in that into a
//! message.
//!
//! Functions are found in the other process by their place in the program's code, which is the same
//! in every process of the same build. A closure that captures nothing is all type and no value, so
//! its type alone says what to call.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

use procession_core::outcome::tag;
use procession_core::pool::{Answer, Chunk, ChunkEntry};
use procession_core::{Entry, EntryFn, Stateless};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::function::{TaskFn, TupleFn};
use crate::integer;
use crate::message::{self, Panic};

/// Whether a panic is also reported where it happens, as a thread's is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Report {
    /// On the process's stderr: a [`crate::Process`].
    Here,
    /// Only to the caller: a pool's task.
    ToCaller,
}

/// The entry of a process, which reports a panic there, or of an initializer, which reports it to
/// its caller.
pub(crate) fn call_entry<F, A, R>(function: F, report: Report) -> Entry
where
    F: TaskFn<A, R>,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    let _: Stateless<F> = Stateless::of(function);
    Entry::of(match report {
        Report::Here => call::<F, A, R, true> as EntryFn,
        Report::ToCaller => call::<F, A, R, false> as EntryFn,
    })
}

/// The entry of a pool's tasks.
pub(crate) fn pool_entry<F, A, R>(function: F) -> ChunkEntry
where
    F: TaskFn<A, R>,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    let _: Stateless<F> = Stateless::of(function);
    ChunkEntry::of(|chunk| run_tasks(chunk, Stateless::<F>::conjure()))
}

/// The entry of a pool's tasks whose function takes the argument apart.
pub(crate) fn tuple_entry<F, A>(function: F) -> ChunkEntry
where
    F: TupleFn<A>,
    A: DeserializeOwned + 'static,
    F::Output: Serialize + 'static,
{
    let _: Stateless<F> = Stateless::of(function);
    ChunkEntry::of(|chunk| run_tasks(chunk, |arguments| Stateless::<F>::conjure().call_with(arguments)))
}

fn call<F, A, R, const HERE: bool>(input: &[u8], output: &mut Vec<u8>) -> u32
where
    F: TaskFn<A, R>,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    let report = if HERE { Report::Here } else { Report::ToCaller };
    guarded(report, output, |output| answer(&Stateless::<F>::conjure(), input, output))
}

/// Runs the tasks of a chunk. One that panics ends with that, and the rest go on.
fn run_tasks<A, R>(chunk: &mut Chunk, function: impl Fn(A) -> R)
where
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    let task = |input: &[u8], output: &mut Vec<u8>| {
        forget_caught_panic();
        let value = match message::decode(input) {
            Ok(argument) => function(argument),
            Err(why) => return Answer::Written(undecodable(&why, output)),
        };
        match integer::encode(&value) {
            Some(word) => Answer::Word(word),
            None => Answer::Written(encode_value(value, output)),
        }
    };
    while let Err(caught) = catch(Report::ToCaller, || chunk.run(task)) {
        // The first backtrace of a process takes longer to write than many a task has time.
        chunk.finish(|output| write_panic(caught, output));
    }
}

fn answer<A, R>(function: &impl Fn(A) -> R, input: &[u8], output: &mut Vec<u8>) -> u32
where
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    match message::decode(input) {
        Ok(argument) => encode_value(function(argument), output),
        Err(why) => undecodable(&why, output),
    }
}

#[cold]
fn undecodable(why: &str, output: &mut Vec<u8>) -> u32 {
    output.extend_from_slice(why.as_bytes());
    tag::UNDECODABLE
}

/// Calls a callback on a result; gives its panic, encoded.
pub(crate) fn run_callback(callback: impl FnOnce()) -> Option<Vec<u8>> {
    let mut output = Vec::new();
    let tag = guarded(Report::ToCaller, &mut output, |_| {
        callback();
        tag::VALUE
    });
    (tag == tag::PANIC).then_some(output)
}

/// Calls a closure that exists in this process only, and leaves its value or its panic in `output`.
pub(crate) fn run_closure<R: Serialize + 'static>(closure: impl FnOnce() -> R, output: &mut Vec<u8>) -> u32 {
    guarded(Report::Here, output, |output| encode_value(closure(), output))
}

#[inline]
fn encode_value<R: Serialize + 'static>(value: R, output: &mut Vec<u8>) -> u32 {
    match message::encode(&value, output) {
        Ok(()) => tag::VALUE,
        Err(why) => {
            output.clear();
            output.extend_from_slice(why.as_bytes());
            tag::UNENCODABLE
        }
    }
}

fn guarded(report: Report, output: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>) -> u32) -> u32 {
    catch(report, || body(output)).unwrap_or_else(|caught| {
        output.clear();
        write_panic(caught, output)
    })
}

fn write_panic(caught: Caught, output: &mut Vec<u8>) -> u32 {
    // Three strings always encode.
    let encoded = message::encode(&caught.written(), output);
    debug_assert!(encoded.is_ok());
    tag::PANIC
}

/// Runs `body`; its panic, if it ends with one.
fn catch<R>(report: Report, body: impl FnOnce() -> R) -> Result<R, Caught> {
    install_hook();
    WATCHED.with_borrow_mut(|watched| *watched = Some(Watched { report, panic: None }));
    let ended = panic::catch_unwind(AssertUnwindSafe(body));
    let watched = WATCHED.take();
    ended.map_err(|payload| {
        let caught = watched.and_then(|watched| watched.panic).unwrap_or_else(|| silent(&*payload));
        // The payload's own drop may panic; it is a user's value like any other.
        if let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(second);
        }
        caught
    })
}

/// The call that this thread is in, and the panic that ended it.
struct Watched {
    report: Report,
    panic: Option<Caught>,
}

/// A panic whose backtrace is not written out: that takes long, and is in vain for one that the
/// task itself catches.
struct Caught {
    message: String,
    location: String,
    backtrace: Option<Backtrace>,
}

impl Caught {
    fn written(self) -> Panic {
        let backtrace = self.backtrace.as_ref().map(ToString::to_string).unwrap_or_default();
        Panic { message: self.message, location: self.location, backtrace }
    }
}

thread_local! {
    static WATCHED: RefCell<Option<Watched>> = const { RefCell::new(None) };
    /// A panic is noted there.
    static HAS_PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// A panic that the task before has caught itself is none of the next one's.
#[inline]
fn forget_caught_panic() {
    if HAS_PANICKED.replace(false) {
        WATCHED.with_borrow_mut(|watched| watched.as_mut().map(|watched| watched.panic.take()));
    }
}

fn install_hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let report = WATCHED.with_borrow_mut(|watched| {
                watched.as_mut().map(|watched| {
                    watched.panic = Some(describe(info));
                    HAS_PANICKED.set(true);
                    watched.report
                })
            });
            // Where panics abort, the caller will learn of no more than the worker's end.
            if report != Some(Report::ToCaller) || cfg!(panic = "abort") {
                previous(info);
            }
        }));
    });
}

fn describe(info: &PanicHookInfo<'_>) -> Caught {
    Caught {
        message: text_of(info.payload()),
        location: info.location().map(ToString::to_string).unwrap_or_default(),
        backtrace: Some(Backtrace::force_capture()),
    }
}

/// A panic that passed no hook: `resume_unwind`.
fn silent(payload: &(dyn Any + Send)) -> Caught {
    Caught { message: text_of(payload), location: String::new(), backtrace: None }
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic whose payload is not a string").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call<R: Serialize + 'static>(closure: impl FnOnce() -> R) -> (u32, Vec<u8>) {
        let mut output = b"left over".to_vec();
        output.clear();
        let tag = guarded(Report::ToCaller, &mut output, |output| encode_value(closure(), output));
        (tag, output)
    }

    #[test]
    fn a_value_comes_back() {
        let (tag, bytes) = call(|| 5u64);
        assert_eq!((tag, message::decode::<u64>(&bytes)), (tag::VALUE, Ok(5)));
    }

    #[test]
    fn a_panic_carries_message_location_and_backtrace() {
        let (tag, bytes) = call(|| -> u64 { panic!("no {}", "luck") });
        let panic: Panic = message::decode(&bytes).unwrap();
        assert_eq!(tag, tag::PANIC);
        assert_eq!(panic.message, "no luck");
        assert!(panic.location.contains("task.rs"), "{}", panic.location);
        assert!(panic.backtrace.contains("a_panic_carries"), "{}", panic.backtrace);
    }

    #[test]
    fn a_panic_without_a_hook_and_one_in_a_payload_are_survived() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in the payload's drop");
            }
        }
        let (tag, bytes) = call(|| -> u64 { panic::resume_unwind(Box::new(Bomb)) });
        let panic: Panic = message::decode(&bytes).unwrap();
        assert_eq!(tag, tag::PANIC);
        assert_eq!(panic.message, "a panic whose payload is not a string");
    }
}
