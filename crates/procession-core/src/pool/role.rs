//! The role of a pool's worker: what its spawn message says. Made by the pool where it starts a
//! worker; run in the worker process, in its only thread.

use std::any::Any;
use std::fmt;
use std::io;
use std::num::{NonZeroU32, NonZeroU64};
use std::os::fd::AsFd;
use std::sync::Arc;

use procession_shm::Control;
use procession_sys::image::Entry;
use procession_sys::link::Link;
use procession_sys::memfd;

use super::worker::{self, Initializer, Service};
use crate::role::{Incoming, Refusal, Role, Written};

pub(crate) const KIND: u8 = 1;

/// A worker of a pool.
pub struct Worker {
    /// The pool's segment.
    pub control: Arc<Control>,
    /// Which of its slots is the worker's.
    pub slot: u32,
    /// How it serves.
    pub service: Arc<Service>,
    /// Where it asks for its tasks' handles.
    pub broker: Arc<Link>,
}

impl Role for Worker {
    fn write(&self) -> io::Result<Written<'_>> {
        let Service { initializer, max_tasks, max_memory } = &*self.service;
        let written = Written::new(KIND)
            .fields(|fields| fields.u32(self.slot).u32(max_tasks.map_or(0, NonZeroU32::get)))
            .fields(|fields| fields.u64(max_memory.map_or(0, NonZeroU64::get)).u8(initializer.is_some().into()))
            .fd(self.control.as_fd())
            .fd(self.broker.as_fd());
        let Some(Initializer { entry, argument, handles }) = initializer else { return Ok(written) };
        // Beside the message, whatever its length: each worker reads it once.
        let beside = memfd::from_bytes("procession-argument", argument)?;
        Ok(written.fields(|fields| fields.u64(entry.to_raw())).owned_fd(beside).fds(handles))
    }

    fn run(self: Box<Self>, link: Link) -> i32 {
        let Worker { control, slot, service, broker } = *self;
        worker::run(&control, slot, &service, broker, &link)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

pub(crate) fn read(message: &mut Incoming<'_>) -> Result<Box<dyn Role>, Refusal> {
    let slot = message.u32()?;
    let max_tasks = NonZeroU32::new(message.u32()?);
    let max_memory = NonZeroU64::new(message.u64()?);
    let is_initialized = message.u8()? != 0;
    let control = Arc::new(Control::attach(message.fd()?)?);
    let broker = Arc::new(Link::from(message.fd()?));
    let mut service = Service { initializer: None, max_tasks, max_memory };
    if is_initialized {
        let entry = Entry::from_raw(message.u64()?);
        let argument = memfd::read_all(message.fd()?.as_fd())?;
        service.initializer = Some(Initializer { entry, argument, handles: message.rest_of_fds() });
    }
    Ok(Box::new(Worker { control, slot, service: Arc::new(service), broker }))
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Worker({})", self.slot)
    }
}
