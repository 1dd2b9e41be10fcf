//! A call of the user's as it goes to the engine: one path for every kind of function, with a state
//! and without. Used in the thread that submits.

use std::any::type_name;

use procession_core::pool::{self as engine, ChunkEntry, Feeder, Items, State};

use super::items::push_all;
use crate::argument::Argument;
use crate::message::{self, Message};
use crate::{Error, Result};

/// The call of a job: its entry, and the state that its tasks share.
pub(super) struct Call {
    pub(super) entry: ChunkEntry,
    pub(super) function: &'static str,
    state: Option<State>,
}

impl Call {
    /// A call of `F`, whose entry this is.
    pub(super) fn of<F>(entry: ChunkEntry) -> Call {
        Call { entry, function: type_name::<F>(), state: None }
    }

    /// The same with a state. It is encoded here, once.
    pub(super) fn with_state<S: Message>(self, pool: &engine::Pool, state: &impl Argument<S>) -> Result<Call> {
        let (encoded, handles) = message::encode_beside(|out| state.encode(out));
        let bytes = encoded.map_err(|why| Error::unencodable("state", self.function, why))?;
        Ok(Call { state: Some(pool.state(&bytes, handles)?), ..self })
    }

    /// The arguments of the call's tasks, encoded. `first` is the index of the first of them.
    pub(super) fn items<A: Message>(
        &self,
        pool: &impl Encodes,
        first: usize,
        arguments: impl Iterator<Item: Argument<A>>,
    ) -> Result<Items> {
        let items = pool.items(arguments.size_hint().0, |items| push_all(items, self.function, first, arguments))?;
        Ok(items.with_state(self.state.clone()))
    }
}

/// A place where arguments may be encoded.
pub(super) trait Encodes {
    fn items<E>(&self, capacity: usize, encode: impl FnOnce(&mut Items) -> Result<(), E>) -> Result<Items, E>;
}

impl Encodes for engine::Pool {
    fn items<E>(&self, capacity: usize, encode: impl FnOnce(&mut Items) -> Result<(), E>) -> Result<Items, E> {
        engine::Pool::items(self, capacity, encode)
    }
}

impl Encodes for Feeder {
    fn items<E>(&self, capacity: usize, encode: impl FnOnce(&mut Items) -> Result<(), E>) -> Result<Items, E> {
        Feeder::items(self, capacity, encode)
    }
}
