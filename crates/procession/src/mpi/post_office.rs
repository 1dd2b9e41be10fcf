//! Rank 0's post office: sends the messages of all its threads, and brings what comes to the thread
//! that waits for it. Used in the driver, the process of rank 0, in any thread.
//!
//! MPI is used by one thread at a time. Of the threads that wait for a message one *leads*: it
//! looks for messages, those of the others too, and puts each into the mailbox that it is for. The
//! others sleep at their mailboxes. A leader that has its message calls the next. While nobody
//! waits, a thread of the engine's looks now and then: a child that has ended meanwhile is to be
//! known.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use procession_mpi::Post;

use crate::remote::lock;
use crate::remote::mailbox::{Mailbox, Mailboxes, Waited};
use crate::remote::pace::Pace;

/// The longest sleep of a thread that waits for a message.
const MAX_SLEEP: Duration = Duration::from_millis(1);
/// The pause between two looks while nobody waits.
const IDLE_INTERVAL: Duration = Duration::from_millis(5);

/// See the module.
pub(super) struct PostOffice {
    /// `None` once this process has left the job.
    post: Mutex<Option<Post>>,
    pub(super) mailboxes: Mailboxes,
    turn: Mutex<Turn>,
}

/// The turn to look for messages, and the threads that may be next.
#[derive(Default)]
struct Turn {
    is_taken: bool,
    followers: Vec<Arc<Mailbox>>,
}

impl Turn {
    /// Takes a mailbox off those to be called; `false` if it is not among them.
    fn forget(&mut self, mailbox: &Arc<Mailbox>) -> bool {
        let before = self.followers.len();
        self.followers.retain(|follower| !Arc::ptr_eq(follower, mailbox));
        self.followers.len() < before
    }

    /// Calls a thread that waits: it is to take the turn.
    fn call_next(&mut self) {
        if let Some(next) = self.followers.pop() {
            next.call();
        }
    }
}

impl PostOffice {
    pub(super) fn new(post: Post) -> PostOffice {
        PostOffice { post: Mutex::new(Some(post)), mailboxes: Mailboxes::default(), turn: Mutex::default() }
    }

    /// Sends a message. If MPI has failed, whoever waits for its answer learns that.
    pub(super) fn send(&self, rank: usize, message: Vec<u8>) {
        let sent = match &mut *lock(&self.post) {
            Some(post) => post.send(rank, message).map_err(|error| error.to_string()),
            None => Err(LEFT.to_owned()),
        };
        if let Err(why) = sent {
            self.fail(&why);
        }
    }

    /// Waits for the next message of a mailbox.
    pub(super) fn wait(&self, mailbox: &Arc<Mailbox>) -> Waited {
        if let Some(waited) = self.mailboxes.look(mailbox) {
            return waited;
        }
        while !self.take_turn(mailbox) {
            mailbox.sleep();
            if let Some(waited) = self.mailboxes.look(mailbox) {
                self.end_following(mailbox);
                return waited;
            }
        }
        let waited = self.lead(mailbox);
        self.pass_turn(mailbox);
        waited
    }

    /// Looks for messages until there is one for this mailbox.
    fn lead(&self, mailbox: &Mailbox) -> Waited {
        let mut pace = Pace::new(MAX_SLEEP);
        loop {
            self.collect();
            match self.mailboxes.look(mailbox) {
                Some(waited) => return waited,
                None => pace.pause(thread::sleep),
            }
        }
    }

    /// Puts what has come into mailboxes.
    fn collect(&self) {
        loop {
            let received = match &mut *lock(&self.post) {
                Some(post) => post.receive().map_err(|error| error.to_string()),
                None => Err(LEFT.to_owned()),
            };
            match received {
                Ok(Some((_, message))) => self.mailboxes.deliver(message),
                Ok(None) => return,
                Err(why) => return self.fail(&why),
            }
        }
    }

    /// MPI cannot be used any more: every worker ends.
    fn fail(&self, why: &str) {
        self.mailboxes.fail(format!("the MPI job has failed: {why}"));
    }

    /// Takes the turn; if another thread has it, enters this mailbox among those to be called.
    fn take_turn(&self, mailbox: &Arc<Mailbox>) -> bool {
        let mut turn = lock(&self.turn);
        turn.forget(mailbox);
        if turn.is_taken {
            turn.followers.push(mailbox.clone());
            return false;
        }
        turn.is_taken = true;
        true
    }

    fn pass_turn(&self, own: &Arc<Mailbox>) {
        let mut turn = lock(&self.turn);
        turn.is_taken = false;
        turn.forget(own);
        turn.call_next();
    }

    /// The thread of this mailbox waits no more. If it was called, another is called in its place.
    fn end_following(&self, mailbox: &Arc<Mailbox>) {
        let mut turn = lock(&self.turn);
        let was_called = !turn.forget(mailbox);
        if was_called && !turn.is_taken {
            turn.call_next();
        }
    }

    /// Looks now and then while no other thread does. Runs in a thread of the engine's.
    pub(super) fn look_when_idle(&self) {
        while self.mailboxes.failure().is_none() {
            thread::sleep(IDLE_INTERVAL);
            let is_mine = !std::mem::replace(&mut lock(&self.turn).is_taken, true);
            if is_mine {
                self.collect();
                self.pass_turn(&Arc::default());
            }
        }
    }

    /// Leaves the job: nobody can send or receive any more.
    pub(super) fn take_post(&self) -> Option<Post> {
        lock(&self.post).take()
    }
}

const LEFT: &str = "this process has left its MPI job";
