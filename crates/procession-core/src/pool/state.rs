//! The state of jobs: one value that each task of a job is called with, beside its own argument. It
//! is encoded once, and each worker decodes it once. The parent makes it in the thread that
//! submits; a worker receives it with its first chunk of such a job.
//!
//! Each frame of the job names the state in a *section* of its own, before the items:
//!
//! | bytes | what they are |
//! |---|---|
//! | 8 | the state's id; no other state of the pool has it |
//! | 1 | where the state is: [`INLINE`] or [`BESIDE`] |
//! | the rest | the state itself if it is short; else the index of its memfd among its handles |
//!
//! The [handle broker](super::handle_broker) has the memfd and the handles in the state, under the
//! state's id, until the last job with the state is over. A lazy map is many jobs with one state.

use std::any::Any;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use procession_shm::Constant;
use procession_sys::memfd;

use super::handle_broker::{Asker, HandleBroker, KeptHandles};
use crate::beside::Ask;
use crate::handle;
use crate::value_cache::Key;
use crate::wire::{Reader, Writer};
use crate::{Error, Result};

/// A longer state travels in a memfd, once, and not with each frame.
const MAX_INLINE: usize = 512;

const INLINE: u8 = 0;
const BESIDE: u8 = 1;

/// A state that has been encoded. Clones are the same state.
#[derive(Clone, Debug)]
pub struct State {
    section: Arc<[u8]>,
    /// `None`: it is all in the section.
    pub(super) handles: Option<Arc<KeptHandles>>,
}

impl State {
    pub(super) fn new(broker: &HandleBroker, bytes: &[u8], mut handles: Vec<OwnedFd>) -> Result<State> {
        let id = broker.new_id();
        let section = Writer::default().u64(id);
        let section = if bytes.len() <= MAX_INLINE {
            section.u8(INLINE).bytes(bytes)
        } else {
            let text = format!("cannot make shared memory for a state of {} bytes", bytes.len());
            let memory = memfd::constant("procession-state", bytes).map_err(Error::os(text))?;
            let index = handles.len() as u32;
            handles.push(memory);
            section.u8(BESIDE).u32(index)
        };
        Ok(State { section: section.0.into(), handles: broker.keep_by_id(id, handles)? })
    }

    /// Returns the section that each frame carries for it.
    pub(super) fn section(&self) -> &[u8] {
        &self.section
    }
}

/// Worker: the state that a frame's section names. `decode` gets its bytes, unless the worker has
/// decoded the state before.
pub(super) fn receive<S: 'static>(
    asker: &Asker,
    section: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<S, String>,
) -> Result<Rc<S>, String> {
    let mut reader = Reader(section);
    let (Some(id), Some(place)) = (reader.u64(), reader.u8()) else {
        return Err("its frame names no state".into());
    };
    let (key, values) = (Key::State(id), asker.values());
    if let Some(known) = values.get(key).and_then(|value| value.downcast().ok()) {
        return Ok(known);
    }
    let of_state = Rc::new(asker.of(id));
    let decoded = match place {
        INLINE => {
            let bytes = reader.bytes().ok_or("its frame cuts it short")?;
            handle::asking(of_state, || decode(bytes))
        }
        _ => {
            let index = reader.u32().ok_or("its frame does not say where it is")?;
            let bytes = of_state.ask(index).and_then(|memory| Constant::map(memory.as_fd()));
            let bytes = bytes.map_err(|error| format!("it cannot be read here: {error}"))?;
            handle::asking(of_state, || decode(&bytes))
        }
    };
    let state: Rc<S> = Rc::new(decoded?);
    values.insert(key, state.clone() as Rc<dyn Any>);
    Ok(state)
}

/// The id of a state, and its bytes.
type SharedBytes = (u64, Rc<Vec<u8>>);

/// Worker: the state that a frame's section names, as it is; `None` if the frame has no state.
pub(super) fn shared_bytes(asker: &Asker, section: &[u8]) -> Result<Option<SharedBytes>, String> {
    let Some(id) = Reader(section).u64() else { return Ok(None) };
    let bytes = receive(asker, section, |bytes| Ok(bytes.to_vec()))?;
    Ok(Some((id, bytes)))
}
