//! Tasks that run on another machine. A worker here takes them from the pool as any worker does,
//! and sends each as bytes over a socket, its *carrier*. `procession.remote` brings them to a
//! process elsewhere (`child.rs`), and brings the outcomes back. The worker ends
//! as that process ends, so that the pool sees one process.
//!
//! ```text
//! there    TASK, an item with all that is beside it; LEAVE
//! back     ANSWER, tag, calls begun (4 bytes each), payload; ENDED, what `procession.remote` says
//! ```

use std::cell::RefCell;
use std::io::ErrorKind;

use procession_core::outcome::tag;
use procession_core::pool::{Calls, Meter};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::channel::{Channel, KEPT};
use super::item;
use crate::codec;

pub(super) const TASK: u8 = b'T';
pub(super) const ANSWER: u8 = b'A';
const ENDED: u8 = b'E';

/// A worker's way to where its tasks run.
struct Carrier {
    channel: Channel,
    /// The number of the big function that is known there.
    sent: Option<u64>,
    message: Vec<u8>,
}

thread_local! {
    static CARRIER: RefCell<Option<Carrier>> = const { RefCell::new(None) };
}

/// From now on the tasks of this worker run at the other end of a channel.
pub(super) fn use_carrier(channel: Option<Channel>) {
    let carrier = channel.map(|channel| Carrier { channel, sent: None, message: Vec::new() });
    CARRIER.set(carrier);
}

pub(super) fn is_used() -> bool {
    CARRIER.with_borrow(Option::is_some)
}

/// Has an item run elsewhere and writes its outcome, whose tag it returns. Does not return if the
/// process there has ended. A meter takes the whole round trip for work.
///
/// # Errors
///
/// Why the item cannot go elsewhere, or its outcome cannot come back.
pub(super) fn carry(item: &[u8], calls: &Calls, meter: Option<&Meter>, out: &mut Vec<u8>) -> PyResult<u32> {
    CARRIER.with_borrow_mut(|carrier| {
        let Some(carrier) = carrier else { return Ok(tag::UNDECODABLE) };
        let carried = carrier.carry(item, calls, meter, out);
        if carrier.message.capacity() > KEPT {
            carrier.message = Vec::new();
        }
        carried
    })
}

impl Carrier {
    fn carry(&mut self, item: &[u8], calls: &Calls, meter: Option<&Meter>, out: &mut Vec<u8>) -> PyResult<u32> {
        let torn = || PyValueError::new_err("a task is cut off on its way to another machine");
        self.message.clear();
        item::write_carried(&mut self.message, item, &mut self.sent)?.ok_or_else(torn)?;
        if let Some(meter) = meter {
            meter.begin_call();
        }
        let kind = self.channel.send(TASK, &[&self.message]).and_then(|()| {
            let head = self.channel.receive(&mut self.message, || ())?;
            head.ok_or_else(|| ErrorKind::UnexpectedEof.into())
        });
        match kind {
            Ok(ANSWER) => {}
            Ok(ENDED) => end(Some(&self.message)),
            // Nobody carries tasks any more.
            Ok(_) | Err(_) => end(None),
        }
        let (numbers, payload) = self.message.split_at_checked(8).ok_or_else(torn)?;
        let [tag, begun] =
            [0, 4].map(|at| u32::from_le_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]]));
        if let Some(meter) = meter {
            end_calls(meter, begun);
        }
        (1..begun).for_each(|_| calls.begin_another());
        if tag == tag::VALUE {
            item::write_arrived(out, payload)?.ok_or_else(torn)?;
        } else {
            codec::append(out, payload)?;
        }
        Ok(tag)
    }
}

/// Notes that as many calls have ended elsewhere, all within one round trip. The first of them
/// stands for it among the slowest: which of them took how long is not known here.
fn end_calls(meter: &Meter, begun: u32) {
    if let Some(nanos) = meter.end_call() {
        let plural = if begun == 1 { "" } else { "s" };
        meter.keep_call(nanos, &format!("the round trip of {begun} call{plural} on another machine"));
    }
    for _ in 1..begun {
        meter.begin_call();
        // It took no time of its own.
        let _ = meter.end_call();
    }
    meter.end_work();
}

/// Ends this worker as the process has ended in which its tasks ran.
fn end(message: Option<&[u8]>) -> ! {
    let ended = Python::attach(|py| {
        let message = message.map(|message| PyBytes::new(py, message));
        py.import("procession.remote._proxy")?.call_method1("end", (message,)).map(drop)
    });
    // It does not return, unless the module itself is broken: the process must end all the same.
    drop(ended);
    std::process::exit(1);
}
