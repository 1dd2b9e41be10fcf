//! Workers on other machines. Such a worker is two parts: a process elsewhere, and a thread of this
//! process that stands for it in the pool. The thread claims frames from the task ring as any
//! worker does. It hands each chunk to a [`Carrier`], which brings it to the process, and commits
//! what comes back. The pool sees a worker like others: it is started, told signals, ends and is
//! replaced.
//!
//! ```text
//! task ring ─▶ thread of the worker ─▶ carrier ─▶ ... ─▶ an agent, and its child, elsewhere
//!              its result stream    ◀─          ◀─ ... ◀─
//! ```
//!
//! | event | the thread |
//! |---|---|
//! | the process there ends | ends as that has ended; the pool accounts for its tasks |
//! | the pool kills the worker | lets go of the pool's memory, then says that it has ended |
//! | it is to leave: the pool is closed or smaller, or by `max_tasks` | has the process leave, and ends with its exit code |
//!
//! The thread is the only one that writes the worker's words, and it says that it has ended after
//! it has written the last. So what holds for a worker that is killed holds for it.

use std::sync::Arc;

use procession_shm::Control;
use procession_sys::ExitStatus;
use procession_sys::link::Link;
use procession_sys::thread::spawn_engine_thread;

use super::carrier::Way;
use super::chunk::CANNOT_SERVE;
use super::role::Worker;
use super::worker::{self, Service};

pub use super::carrier::{Carrier, Departed, Load, OnKill, Told};
use crate::child::{Child, Elsewhere, End};
use crate::outcome::Outcome;
use crate::{Error, Result};

/// Starts the thread of a worker whose process `child` has been started elsewhere. `role` is the
/// worker's, from its preparation data. `carrier` gets that by which the worker is told that its
/// process has ended, and also returns what is to be done when the worker is killed.
///
/// # Errors
///
/// If the system refuses memory, an fd or a thread.
pub fn start(
    role: &Worker,
    (name, daemon): (String, bool),
    child: Elsewhere,
    carrier: impl FnOnce(Arc<Elsewhere>, Arc<Told>) -> (Box<dyn Carrier>, OnKill),
) -> Result<Arc<Child>> {
    let cannot = || Error::os(format!("cannot start the thread of worker {}", role.slot));
    // Mapped anew, as in a process: the parent's part and a worker's keep different things of it.
    let attached = role.control.as_fd().try_clone_to_owned().and_then(Control::attach);
    let control = Arc::new(attached.map_err(cannot())?);
    let told = Arc::new(Told::new(control.clone(), role.slot as usize));
    let child = Arc::new(child);
    let wakes = told.clone();
    let (carrier, on_kill) = carrier(child.clone(), told.clone());
    child.on_signal(Box::new(move || {
        on_kill();
        wakes.wake();
    }));
    let mut way = Way { carrier, child: child.clone(), told, departed: None };
    let (slot, service, broker) = (role.slot, role.service.clone(), role.broker.clone());
    let body = move || {
        let _ending = Ending(way.child.clone());
        let departed = serve(&control, slot, service, broker, &mut way);
        let outcome = departed.outcome.map_or(Outcome::Died, |(tag, payload)| Outcome::Returned { tag, payload });
        way.child.finish(End { status: departed.status, outcome });
    };
    spawn_engine_thread("carried", body).map_err(cannot())?;
    Ok(Arc::new(Child::elsewhere(name, daemon, child)))
}

/// Says that a worker has ended, if its thread unwinds: nobody is to wait for what will not come.
struct Ending(Arc<Elsewhere>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.finish(End { status: Some(ExitStatus::exited(CANNOT_SERVE)), outcome: Outcome::Died });
    }
}

fn serve(control: &Arc<Control>, slot: u32, service: Arc<Service>, broker: Arc<Link>, way: &mut Way) -> Departed {
    if let Err(departed) = way.carrier.begin() {
        return departed;
    }
    let code = worker::serve_carried(control, slot, &service, broker, way);
    if let Some(departed) = way.departed.take() {
        departed
    } else if way.has_news() {
        way.carrier.departed()
    } else if code == CANNOT_SERVE {
        // The memory of the pool cannot be used. What was started elsewhere is not to stay.
        way.child.send_kill();
        Departed { status: Some(ExitStatus::exited(CANNOT_SERVE)), outcome: None, has_lost: true }
    } else {
        way.carrier.leave()
    }
}
