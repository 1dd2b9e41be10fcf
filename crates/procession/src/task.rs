//! A function on its way to another process: its entry there, and what surrounds the call. An entry
//! decodes the argument, calls, encodes the value, and turns a panic anywhere in that into a
//! message.
//!
//! Functions are found in the other process by their place in the program's code, which is the same
//! in every process of the same build. A closure that captures nothing is all type and no value, so
//! its type alone says what to call.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

use procession_core::outcome::tag;
use procession_core::pool::{Answer, Chunk, ChunkEntry, Meter};
use procession_core::{Entry, EntryFn, Stateless};
use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

use crate::backtrace::{Stack, Style};
use crate::failure::{Failure, TaskError};
use crate::function::{StateFn, StateTupleFn, TaskFn, TupleFn};
use crate::integer;
use crate::message::{self, Panic};
use crate::slow_call::Call;

/// The report of a panic: to the caller alone, or also where it happens, as a thread's is.
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
    ChunkEntry::of(|chunk| run_tasks::<F, _, _>(chunk, |argument| Stateless::<F>::conjure()(argument), encode_answer))
}

/// The entry of a pool's tasks whose function takes the argument apart.
pub(crate) fn tuple_entry<F, A>(function: F) -> ChunkEntry
where
    F: TupleFn<A>,
    A: DeserializeOwned + 'static,
    F::Output: Serialize + 'static,
{
    let _: Stateless<F> = Stateless::of(function);
    ChunkEntry::of(|chunk| {
        run_tasks::<F, _, _>(chunk, |arguments| Stateless::<F>::conjure().call_with(arguments), encode_answer)
    })
}

/// The entry of a pool's tasks whose function returns a value or an error of its own.
pub(crate) fn fallible_entry<F, A, R, E, K>(function: F) -> ChunkEntry
where
    F: TaskFn<A, Result<R, E>>,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
    E: TaskError<K>,
{
    let _: Stateless<F> = Stateless::of(function);
    ChunkEntry::of(|chunk| {
        let encode = |result: Result<R, E>, output: &mut Vec<u8>| match result {
            Ok(value) => encode_answer(value, output),
            Err(error) => write_failure(error.into_failure(), output),
        };
        run_tasks::<F, _, _>(chunk, |argument| Stateless::<F>::conjure()(argument), encode);
    })
}

/// The entry of a pool's tasks that are batches of items: each answers with one value for all.
pub(crate) fn reduce_entry<F, G, A, R>(map: F, reduce: G) -> ChunkEntry
where
    F: TaskFn<A, R>,
    G: Fn(R, R) -> R + Copy + 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    let _: (Stateless<F>, Stateless<G>) = (Stateless::of(map), Stateless::of(reduce));
    ChunkEntry::of(|chunk| {
        let at = Cell::new(0);
        let fold = |batch: Vec<A>, input: &[u8], meter: Option<&Meter>| {
            let values = batch.into_iter().enumerate().map(|(offset, argument)| {
                at.set(offset);
                let _call = Call::begin::<F, A>(meter, input, Some(offset));
                Stateless::<F>::conjure()(argument)
            });
            values.reduce(Stateless::<G>::conjure())
        };
        let encode = |value: Option<R>, output: &mut Vec<u8>| match value {
            Some(value) => encode_answer(value, output),
            None => Answer::Written(undecodable("its chunk has no items", output)),
        };
        run_batches(chunk, fold, encode, &at);
    })
}

/// The entry of a pool's tasks whose function gets the job's state.
pub(crate) fn state_entry<F, S, A, R>(function: F) -> ChunkEntry
where
    F: StateFn<S, A, R>,
    S: DeserializeOwned + 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    let _: Stateless<F> = Stateless::of(function);
    ChunkEntry::of(|chunk| {
        run_with_state::<F, _, _, _>(chunk, |state: &S, argument| Stateless::<F>::conjure()(state, argument))
    })
}

/// The entry of a pool's tasks whose function gets the job's state and takes the argument apart.
pub(crate) fn state_tuple_entry<F, S, A>(function: F) -> ChunkEntry
where
    F: StateTupleFn<S, A>,
    S: DeserializeOwned + 'static,
    A: DeserializeOwned + 'static,
    F::Output: Serialize + 'static,
{
    let _: Stateless<F> = Stateless::of(function);
    ChunkEntry::of(|chunk| {
        run_with_state::<F, _, _, _>(chunk, |state: &S, arguments| {
            Stateless::<F>::conjure().call_with(state, arguments)
        })
    })
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

/// Runs the tasks of a chunk with the state of their job. If there is none, each task ends with
/// that.
fn run_with_state<F, S, A, R>(chunk: &mut Chunk, call: impl Fn(&S, A) -> R)
where
    F: 'static,
    S: DeserializeOwned + 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    match catch(Report::ToCaller, || chunk.state(message::decode)) {
        Ok(Ok(state)) => run_tasks::<F, _, _>(chunk, |argument| call(&state, argument), encode_answer),
        Ok(Err(why)) => chunk.refuse(tag::STATE_UNDECODABLE, why.as_bytes()),
        Err(caught) => {
            let mut panic = Vec::new();
            let tag = write_panic(caught, 0, &mut panic);
            chunk.refuse(tag, &panic);
        }
    }
}

/// Runs the tasks of a chunk, which call the function `F`. One that panics ends with that, and the
/// rest go on.
fn run_tasks<F, A, V>(chunk: &mut Chunk, call: impl Fn(A) -> V, encode: impl Fn(V, &mut Vec<u8>) -> Answer)
where
    F: 'static,
    A: DeserializeOwned + 'static,
{
    let call = |argument, input: &[u8], meter: Option<&Meter>| {
        let _call = Call::begin::<F, A>(meter, input, None);
        call(argument)
    };
    run_batches(chunk, call, encode, &Cell::new(0));
}

/// As [`run_tasks`], where each task is a batch of items. `call` gets the encoded batch too, and
/// says when each call begins and ends. `at` has the place of the item in it that is run.
fn run_batches<A: DeserializeOwned + 'static, V>(
    chunk: &mut Chunk,
    call: impl Fn(A, &[u8], Option<&Meter>) -> V,
    encode: impl Fn(V, &mut Vec<u8>) -> Answer,
    at: &Cell<usize>,
) {
    // Compiled twice: what is for a meter is not there in a pool that has none.
    let task = |input: &[u8], output: &mut Vec<u8>, meter: Option<&Meter>| {
        forget_caught_panic();
        match message::decode(input) {
            Ok(argument) => {
                let value = call(argument, input, meter);
                if let Some(meter) = meter {
                    meter.end_work();
                }
                encode(value, output)
            }
            Err(why) => Answer::Written(undecodable(&why, output)),
        }
    };
    if let Some(meter) = chunk.meter() {
        return run_measured(chunk, &mut |input, output| task(input, output, Some(&meter)), at);
    }
    while let Err(caught) = catch(Report::ToCaller, || chunk.run(|input, output| task(input, output, None))) {
        finish_panicked(chunk, caught, at);
    }
}

#[cold]
fn run_measured(chunk: &mut Chunk, task: &mut dyn FnMut(&[u8], &mut Vec<u8>) -> Answer, at: &Cell<usize>) {
    while let Err(caught) = catch(Report::ToCaller, || chunk.run_measured(task)) {
        finish_panicked(chunk, caught, at);
    }
}

fn finish_panicked(chunk: &mut Chunk, caught: Caught, at: &Cell<usize>) {
    // A process's first stack takes longer to write out than many a task has time.
    let offset = at.take();
    chunk.finish(|output| write_panic(caught, offset, output));
}

#[inline]
fn encode_answer<R: Serialize + 'static>(value: R, output: &mut Vec<u8>) -> Answer {
    match integer::encode(&value) {
        Some(word) => Answer::Word(word),
        None => Answer::Written(encode_value(value, output)),
    }
}

#[cold]
fn write_failure(failure: Failure, output: &mut Vec<u8>) -> Answer {
    Answer::Written(match encode_value(failure, output) {
        tag::VALUE => tag::FAILED,
        other => other,
    })
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
        write_panic(caught, 0, output)
    })
}

fn write_panic(caught: Caught, offset: usize, output: &mut Vec<u8>) -> u32 {
    // Three strings and a number always encode.
    let encoded = message::encode(&caught.written(offset), output);
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

/// A panic that has been caught.
struct Caught {
    message: String,
    location: String,
    stack: Option<Stack>,
}

impl Caught {
    fn written(self, offset: usize) -> Panic {
        let backtrace = self.stack.as_ref().map(Stack::to_text).unwrap_or_default();
        Panic { message: self.message, location: self.location, backtrace, offset }
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
            // If panics abort, the caller will learn of no more than the worker's end.
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
        stack: Stack::capture(Style::of_environment()),
    }
}

/// A panic that passed no hook: `resume_unwind`.
fn silent(payload: &(dyn Any + Send)) -> Caught {
    Caught { message: text_of(payload), location: String::new(), stack: None }
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
    fn a_panic_carries_message_and_location() {
        let (tag, bytes) = call(|| -> u64 { panic!("no {}", "luck") });
        let panic: Panic = message::decode(&bytes).unwrap();
        assert_eq!(tag, tag::PANIC);
        assert_eq!(panic.message, "no luck");
        assert!(panic.location.contains("task.rs"), "{}", panic.location);
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
