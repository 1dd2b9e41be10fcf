//! The large buffers of arguments on their way into a pool: in blocks that are then lent to what is
//! submitted. In the thread that encodes the arguments.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lending::Lent;
use super::shared::Shared;
use crate::beside::{Buffers, Place};
use crate::handle;

/// The time for which whoever submits waits for room, before it does without.
pub(super) const ROOM_TIMEOUT: Duration = Duration::from_secs(1);

/// The blocks that have been filled so far.
struct Outbox {
    shared: Arc<Shared>,
    lent: RefCell<Vec<Lent>>,
}

/// Runs `encode`, which may give handles and buffers. Returns the handles, and the buffers' blocks.
pub(super) fn submitting<R>(shared: &Arc<Shared>, encode: impl FnOnce() -> R) -> (R, Vec<OwnedFd>, Vec<Lent>) {
    let outbox = Rc::new(Outbox { shared: shared.clone(), lent: RefCell::default() });
    let (result, handles) = handle::sending_beside(u32::MAX as usize, Some(outbox.clone()), encode);
    (result, handles, outbox.lent.take())
}

impl Buffers for Outbox {
    fn put(&self, bytes: &[u8]) -> Option<Place> {
        let lending = &self.shared.lending;
        let has_room = || lending.has_room(bytes.len());
        // The first block of a call waits for room; later ones do not, as they would wait for
        // the call itself.
        if self.lent.borrow().is_empty() && !has_room() {
            self.shared.wait_until(has_room, Some(Instant::now() + ROOM_TIMEOUT));
        }
        let lent = lending.fill_block(bytes)?;
        let place = Place { area: 0, block: lent.id()?.0 };
        self.lent.borrow_mut().push(lent);
        Some(place)
    }
}
