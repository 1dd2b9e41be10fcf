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

use super::seal::Seal;
use super::worker::{self, Initializer, Service};
use crate::confinement::Confinement;
use crate::role::{Incoming, Refusal, Role, Written};
use crate::target::check_portable;

pub(crate) const KIND: u8 = 1;

/// A worker of a pool.
pub struct Worker {
    /// The pool's segment.
    pub control: Arc<Control>,
    /// The worker's slot in it.
    pub slot: u32,
    /// The terms on which it serves.
    pub service: Arc<Service>,
    /// The link over which it asks for its tasks' handles.
    pub broker: Arc<Link>,
    /// By which it seals its results, if its pool wants that.
    pub seal: Option<Seal>,
}

impl Role for Worker {
    fn write(&self) -> io::Result<Written<'_>> {
        let Service { initializer, max_tasks, max_memory, ignores_interrupt, is_inline, .. } = &*self.service;
        let written = Written::new(KIND)
            .fields(|fields| fields.u32(self.slot).u32(max_tasks.map_or(0, NonZeroU32::get)))
            .fields(|fields| fields.u64(max_memory.map_or(0, NonZeroU64::get)).u8(initializer.is_some().into()))
            .fields(|fields| {
                let fields =
                    fields.u8((*ignores_interrupt).into()).u8((*is_inline).into()).u8(self.seal.is_some().into());
                match self.seal {
                    Some(seal) => seal.write(fields),
                    None => fields,
                }
            })
            .fd(self.control.as_fd())
            .fd(self.broker.as_fd());
        let Some(Initializer { entry, argument, handles }) = initializer else { return Ok(written) };
        check_portable(*entry)?;
        // Beside the message, whatever its length: each worker reads it once.
        let beside = memfd::from_bytes("procession-argument", argument)?;
        Ok(written.fields(|fields| fields.u64(entry.to_raw())).owned_fd(beside).fds(handles))
    }

    fn run(self: Box<Self>, link: Link, confinement: &Confinement) -> i32 {
        let Worker { control, slot, service, broker, seal } = *self;
        worker::run(&control, slot, &service, broker, &link, confinement, seal)
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
    let ignores_interrupt = message.u8()? != 0;
    let is_inline = message.u8()? != 0;
    let seal = match message.u8()? {
        0 => None,
        _ => Some(Seal::read(&mut message.fields).ok_or(Refusal::Malformed("the keys of a worker are cut short"))?),
    };
    let control = Arc::new(Control::attach(message.fd()?)?);
    let broker = Arc::new(Link::from(message.fd()?));
    let mut service = Service { max_tasks, max_memory, ignores_interrupt, is_inline, ..Service::default() };
    if is_initialized {
        let entry = Entry::from_raw(message.u64()?);
        let argument = memfd::read_all(message.fd()?.as_fd())?;
        service.initializer = Some(Initializer { entry, argument, handles: message.rest_of_fds() });
    }
    Ok(Box::new(Worker { control, slot, service: Arc::new(service), broker, seal }))
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Worker({})", self.slot)
    }
}
