//! `fork`: the child is a copy of this process and goes on in its bootstrap. The quickest way, and
//! the only one that takes closures; refused while other threads are alive, since the child has
//! their locks but not them.

use procession_sys::fork::{ThreadsAtFork, fork};
use procession_sys::link::Link;

use super::method::StartMethod;
use super::running_server::own_server;
use super::starter::Start;
use crate::bootstrap;
use crate::child::{Popen, Reaper};
use crate::engine::{Identity, engine};
use crate::preparation::Preparation;
use crate::tracker_link;
use crate::{Error, Result};

/// Starts by `fork`.
#[derive(Clone, Copy, Debug)]
pub struct Fork {
    /// The caller's word that other threads do no harm at this fork.
    pub threads: Option<ThreadsAtFork>,
}

impl Start for Fork {
    fn method(&self) -> StartMethod {
        StartMethod::Fork
    }

    fn popen(&self, preparation: Preparation<'_>) -> Result<Popen> {
        let (ours, theirs) = Link::pair().map_err(Error::os("cannot make the link to a new process"))?;
        let engine = engine();
        let parent = engine.me()?;
        let (server, tracker) = (own_server(), tracker_link::to_inherit());
        // Held across the fork, so that the child finds the list whole. Its copy is never unlocked.
        let children = engine.children();
        // The child takes these. In the parent, which never runs the closure, they stay.
        let (mut ours, mut rest) = (Some(ours), Some((preparation, theirs, parent, tracker)));
        let pidfd = fork(self.threads, || {
            ours = None;
            children.iter().for_each(|child| child.disown());
            server.disown();
            let Some((preparation, theirs, parent, tracker)) = rest.take() else { return 1 };
            let Preparation { name, daemon, setting, role } = preparation;
            let identity = Identity { name, daemon, parent: Some(parent) };
            if let Some(link) = tracker {
                tracker_link::inherit(link);
            }
            bootstrap::run(identity, setting, role, theirs)
        })?;
        let ours = ours.ok_or(Error::Bug("the parent's end of a link was taken in the parent"))?;
        Ok(Popen { pidfd, link: ours, began: true, reaper: Reaper::Parent })
    }
}
