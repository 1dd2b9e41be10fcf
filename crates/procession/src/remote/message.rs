//! The messages between the driver and the agents. Written and read in both.
//!
//! ```text
//! message       kind (1 byte), worker (8 bytes), fields
//! to an agent   BEGIN, RUN, KILL, LEAVE; QUIT
//! to the driver HELLO; BEGUN or FAILED, READY, RESULTS, ENDED
//! ```
//!
//! A worker is a child that an agent has, by a number that the driver has chosen. What is meant for
//! one that is not there any more is dropped.

use procession_core::ExitStatus;
use procession_core::pool::carried::{Departed, Load};
use procession_core::wire::{Reader, Writer};

/// The agent is to end. It stays what it is in every version, as agents of another build get it
/// too.
pub(crate) const QUIT: u8 = 0;
/// The first message of an agent: who it is. Its beginning stays what it is in every version.
pub(crate) const HELLO: u8 = 1;
/// Start a child.
pub(crate) const BEGIN: u8 = 2;
/// Run tasks in it.
pub(crate) const RUN: u8 = 3;
/// Kill it.
pub(crate) const KILL: u8 = 4;
/// Have it leave.
pub(crate) const LEAVE: u8 = 5;
/// The child is started: its pid.
pub(crate) const BEGUN: u8 = 6;
/// The child could not be started: why.
pub(crate) const FAILED: u8 = 7;
/// The child is ready for tasks.
pub(crate) const READY: u8 = 8;
/// Outcomes of tasks.
pub(crate) const RESULTS: u8 = 9;
/// The child has ended: how.
pub(crate) const ENDED: u8 = 10;

/// Begins a message.
pub(crate) fn begin(kind: u8, worker: u64) -> Writer {
    Writer::default().u8(kind).u64(worker)
}

const NO_STATE: u8 = 0;
/// The agent has it already.
const KNOWN_STATE: u8 = 1;
const NEW_STATE: u8 = 2;

/// The message that has tasks run. The state goes with it only if `is_state_new`.
pub(crate) fn run(worker: u64, load: &Load<'_>, is_state_new: bool) -> Vec<u8> {
    let writer = begin(RUN, worker).u64(load.entry).u32(load.count);
    let writer = match load.state {
        None => writer.u8(NO_STATE),
        Some((id, _)) if !is_state_new => writer.u8(KNOWN_STATE).u64(id),
        Some((id, state)) => writer.u8(NEW_STATE).u64(id).u64(state.len() as u64).rest(state),
    };
    writer.rest(load.items).0
}

/// Tasks to run.
pub(crate) struct Run<'a> {
    pub(crate) entry: u64,
    pub(crate) count: u32,
    /// The id of their state, and the state itself if it is new.
    pub(crate) state: Option<(u64, Option<&'a [u8]>)>,
    pub(crate) items: &'a [u8],
}

impl<'a> Run<'a> {
    pub(crate) fn read(mut reader: Reader<'a>) -> Option<Run<'a>> {
        let (entry, count) = (reader.u64()?, reader.u32()?);
        let state = match reader.u8()? {
            NO_STATE => None,
            KNOWN_STATE => Some((reader.u64()?, None)),
            _ => {
                let (id, len) = (reader.u64()?, usize::try_from(reader.u64()?).ok()?);
                let (state, rest) = reader.0.split_at_checked(len)?;
                reader = Reader(rest);
                Some((id, Some(state)))
            }
        };
        Some(Run { entry, count, state, items: reader.0 })
    }
}

/// The message that a child has ended.
pub(crate) fn ended(worker: u64, departed: &Departed) -> Vec<u8> {
    let writer = begin(ENDED, worker).u8(departed.status.is_some().into());
    let writer = writer.u32(departed.status.map_or(0, ExitStatus::code).cast_unsigned());
    let writer = writer.u8(departed.has_lost.into());
    match &departed.outcome {
        None => writer.u8(0).0,
        Some((tag, payload)) => writer.u8(1).u32(*tag).rest(payload).0,
    }
}

/// Reads the end of a child from the fields of [`ended`].
pub(crate) fn read_ended(mut reader: Reader<'_>) -> Option<Departed> {
    let is_known = reader.u8()? != 0;
    let code = reader.u32()?.cast_signed();
    let status = if code < 0 { ExitStatus::signaled(-code) } else { ExitStatus::exited(code) };
    let has_lost = reader.u8()? != 0;
    let outcome = match reader.u8()? {
        0 => None,
        _ => Some((reader.u32()?, reader.0.to_vec())),
    };
    Some(Departed { status: is_known.then_some(status), outcome, has_lost })
}

/// The states that an agent has for a worker: the last few. The driver keeps the same list, and so
/// knows what it need not send.
#[derive(Debug)]
pub(crate) struct Recent<T>(Vec<(u64, T)>);

/// The number of states that an agent keeps.
const KEPT_STATES: usize = 4;

impl<T> Recent<T> {
    pub(crate) fn new() -> Recent<T> {
        Recent(Vec::new())
    }

    /// Returns what was kept by this id, which is the most recent then.
    pub(crate) fn get(&mut self, id: u64) -> Option<&T> {
        let at = self.0.iter().position(|(known, _)| *known == id)?;
        let entry = self.0.remove(at);
        self.0.push(entry);
        self.0.last().map(|(_, value)| value)
    }

    /// Keeps a value, in the place of the least recent if there are many.
    pub(crate) fn keep(&mut self, id: u64, value: T) {
        if self.0.len() == KEPT_STATES {
            self.0.remove(0);
        }
        self.0.push((id, value));
    }
}
