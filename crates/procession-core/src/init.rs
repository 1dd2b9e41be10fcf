//! The beginning of a child that executes the program, before `main` or in its first line, and the
//! table of the roles that such a child may have. Called in any process, in its main thread.
//!
//! No other file of the engine imports this one, since the table names every role: what needs the
//! table gets it from here, as a parameter.

use std::ffi::CStr;

use procession_sys::startup::Place;
use procession_sys::thread;

use crate::bootstrap;
use crate::engine::{self, Home};
use crate::pool::role as worker;
use crate::role::Roles;
use crate::start::forkserver;
use crate::target;
use crate::tracker;

/// The roles of this program. A kind stays what it is: it is part of the spawn message.
pub(crate) const ROLES: Roles = Roles(&[
    (target::TASK, target::read_task),
    (worker::KIND, worker::read),
    (forkserver::KIND, forkserver::read),
    (tracker::KIND, tracker::read),
]);

/// Called by a constructor of the program before `main` ([`before_main!`](crate::before_main)),
/// with the program's first argument. Notes where a child will begin. In a child, returns the
/// function that does the child's work.
pub fn before_main(program: &CStr, place: Place) -> Option<fn() -> !> {
    let (home, may_begin) = match place {
        Place::Program => (Home::Program, true),
        Place::Preloaded => (Home::SharedObject, true),
        Place::Loaded => (Home::SharedObject, false),
    };
    engine::set_home(home);
    let is_child = may_begin && bootstrap::is_mark(program.to_bytes());
    is_child.then_some(|| bootstrap::executed(ROLES))
}

/// Returns whether a process that executes this program begins its work in it, and not in a shared
/// object.
pub fn is_in_program() -> bool {
    engine::home() == Some(Home::Program)
}

/// The first line of `main`, in a program without that constructor. In a process that is not a
/// child it only notes that it was reached; in a child it does the child's work and never returns.
pub fn init() {
    if engine::home().is_some() {
        return;
    }
    let is_child = bootstrap::is_marked();
    if is_child && !thread::is_main() {
        bootstrap::misplaced();
    }
    engine::set_home(Home::Program);
    if is_child {
        bootstrap::executed(ROLES);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::os::fd::{AsFd, OwnedFd};
    use std::sync::Arc;

    use procession_sys::image::Entry;
    use procession_sys::link::{Link, Message};
    use procession_sys::pidfd::PidFd;

    use crate::pool::role::Worker;
    use crate::pool::{Control, Initializer, Service};
    use crate::preparation::{Preparation, parse, send};
    use crate::role::{Refusal, Role};
    use crate::setting::Setting;
    use crate::target::Task;

    use super::ROLES;

    fn entry(_: &[u8], _: &mut Vec<u8>) -> u32 {
        0
    }

    /// A role of each kind, with all that it can have. Its rest of bytes, where it has one, is
    /// empty.
    fn roles() -> Vec<Box<dyn Role>> {
        let link = || Link::pair().unwrap().0;
        let handles = || vec![OwnedFd::from(link())];
        let initializer = Initializer { entry: Entry::of(entry), argument: vec![7; 10], handles: handles() };
        let max_tasks = NonZeroU32::new(3);
        let service =
            Service { initializer: Some(initializer), max_tasks, ignores_interrupt: true, ..Service::default() };
        let control = Arc::new(Control::create(2).unwrap());
        vec![
            Box::new(Task { entry: Entry::of(entry), argument: Vec::new(), handles: handles() }),
            Box::new(Worker { control, slot: 1, service: Arc::new(service), broker: Arc::new(link()), seal: None }),
            Box::new(crate::start::forkserver::ServerRole::new(link())),
            Box::new(crate::tracker::Tracker { names: link() }),
        ]
    }

    /// The spawn message of a role, as a child receives it.
    fn message(role: Box<dyn Role>) -> Message {
        let (ours, theirs) = Link::pair().unwrap();
        let preparation = Preparation { name: "Process-1".into(), daemon: false, setting: Setting::default(), role };
        send(&ours, &preparation, &PidFd::of_self().unwrap()).unwrap();
        theirs.recv(None).unwrap().unwrap()
    }

    fn copy(message: &Message, bytes: usize, fds: usize) -> Message {
        let fds = message.fds[..fds].iter().map(|fd| fd.as_fd().try_clone_to_owned().unwrap()).collect();
        Message { bytes: message.bytes[..bytes].to_vec(), fds }
    }

    #[test]
    fn every_kind_has_one_reader() {
        assert_eq!(roles().len(), ROLES.0.len());
        for role in roles() {
            let shown = format!("{role:?}");
            let message = message(role);
            let received = parse(message, ROLES).unwrap().preparation.role;
            let name = |shown: &str| shown.split(['(', ' ']).next().map(str::to_owned);
            assert_eq!(name(&shown), name(&format!("{received:?}")));
        }
    }

    #[test]
    fn every_cut_of_every_role_is_refused() {
        for role in roles() {
            let shown = format!("{role:?}");
            let whole = message(role);
            let all = whole.fds.len();
            for cut in 0..whole.bytes.len() {
                let parsed = parse(copy(&whole, cut, all), ROLES);
                assert!(
                    matches!(parsed, Err(Refusal::Malformed(_) | Refusal::OtherBuild)),
                    "{shown} cut at {cut}: {parsed:?}"
                );
            }
            // The handles at the end are as many as come; the others must be there.
            let needed = all - usize::from(shown.starts_with("Task") || shown.starts_with("Worker"));
            for fds in 0..needed {
                let parsed = parse(copy(&whole, whole.bytes.len(), fds), ROLES);
                assert!(matches!(parsed, Err(Refusal::Malformed(_))), "{shown} with {fds} fds: {parsed:?}");
            }
            parse(copy(&whole, whole.bytes.len(), all), ROLES).unwrap();
        }
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        let mut message = message(Box::new(crate::tracker::Tracker { names: Link::pair().unwrap().0 }));
        *message.bytes.last_mut().unwrap() = u8::MAX;
        assert!(matches!(parse(message, ROLES), Err(Refusal::Malformed("the kind of target is unknown"))));
    }
}
