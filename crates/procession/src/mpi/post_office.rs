//! Rank 0's post office: sends the messages of all its threads, and brings what comes to the thread
//! that waits for it. Used in the driver, the process of rank 0, in any thread.
//!
//! MPI is used by one thread at a time. Of the threads that wait for a message one *leads*: it
//! looks for messages, those of the others too, and puts each into the mailbox that it is for. The
//! others sleep at their mailboxes. A leader that has its message calls the next. While nobody
//! waits, a thread of the engine's looks now and then: a child that has ended meanwhile is to be
//! known.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use procession_core::pool::carried::Told;
use procession_core::wire::Reader;
use procession_mpi::Post;

use super::message::ENDED;
use super::pace::Pace;

/// The longest sleep of a thread that waits for a message.
const MAX_SLEEP: Duration = Duration::from_millis(1);
/// The pause between two looks while nobody waits.
const IDLE_INTERVAL: Duration = Duration::from_millis(5);

/// See the module.
pub(super) struct PostOffice {
    /// `None` once this process has left the job.
    post: Mutex<Option<Post>>,
    mailboxes: Mutex<HashMap<u64, Arc<Mailbox>>>,
    turn: Mutex<Turn>,
    next_worker: AtomicU64,
    /// The reason for which MPI cannot be used any more.
    failure: OnceLock<String>,
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
            next.inner().is_called = true;
            next.news.notify_all();
        }
    }
}

/// The messages for one worker.
#[derive(Default)]
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    news: Condvar,
    /// The way to tell a worker that its process has ended.
    told: OnceLock<Arc<Told>>,
    has_ended: AtomicBool,
}

#[derive(Default)]
struct Inner {
    messages: VecDeque<Vec<u8>>,
    /// Its thread is to look for messages.
    is_called: bool,
    /// Its thread is to wait no more.
    is_over: bool,
}

/// The end of a wait for a message.
pub(super) enum Waited {
    /// A message: its kind, and all its bytes.
    Message(Vec<u8>),
    /// The worker was killed.
    Over,
    /// MPI has failed.
    Failed,
}

impl PostOffice {
    pub(super) fn new(post: Post) -> PostOffice {
        PostOffice {
            post: Mutex::new(Some(post)),
            mailboxes: Mutex::default(),
            turn: Mutex::default(),
            next_worker: AtomicU64::new(1),
            failure: OnceLock::new(),
        }
    }

    /// A number that no other worker has, and its mailbox.
    pub(super) fn open_mailbox(&self) -> (u64, Arc<Mailbox>) {
        let (worker, mailbox) = (self.next_worker.fetch_add(1, Ordering::Relaxed), Arc::<Mailbox>::default());
        lock(&self.mailboxes).insert(worker, mailbox.clone());
        (worker, mailbox)
    }

    /// Has messages for this worker dropped from now on.
    pub(super) fn close_mailbox(&self, worker: u64) {
        lock(&self.mailboxes).remove(&worker);
    }

    /// Returns the reason for which MPI cannot be used any more.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Sends a message. If MPI has failed, whoever waits for its answer learns that.
    pub(super) fn send(&self, rank: usize, message: Vec<u8>) {
        let sent = match &mut *lock(&self.post) {
            Some(post) => post.send(rank, message).map_err(|error| error.to_string()),
            None => Err(LEFT.to_owned()),
        };
        if let Err(why) = sent {
            self.fail(why);
        }
    }

    /// Waits for the next message of a mailbox.
    pub(super) fn wait(&self, mailbox: &Arc<Mailbox>) -> Waited {
        if let Some(waited) = self.look(mailbox) {
            return waited;
        }
        while !self.take_turn(mailbox) {
            mailbox.follow();
            if let Some(waited) = self.look(mailbox) {
                self.end_following(mailbox);
                return waited;
            }
        }
        let waited = self.lead(mailbox);
        self.pass_turn(mailbox);
        waited
    }

    /// Has the thread that waits at a mailbox wait no more.
    pub(super) fn end_wait(mailbox: &Mailbox) {
        mailbox.inner().is_over = true;
        mailbox.news.notify_all();
    }

    fn look(&self, mailbox: &Mailbox) -> Option<Waited> {
        let mut inner = mailbox.inner();
        if inner.is_over {
            return Some(Waited::Over);
        }
        let message = inner.messages.pop_front().map(Waited::Message);
        message.or_else(|| self.failure.get().map(|_| Waited::Failed))
    }

    /// Looks for messages until there is one for this mailbox.
    fn lead(&self, mailbox: &Mailbox) -> Waited {
        let mut pace = Pace::new(MAX_SLEEP);
        loop {
            self.collect();
            match self.look(mailbox) {
                Some(waited) => return waited,
                None => pace.pause(),
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
                Ok(Some((_, message))) => self.deliver(message),
                Ok(None) => return,
                Err(why) => return self.fail(why),
            }
        }
    }

    fn deliver(&self, message: Vec<u8>) {
        let mut reader = Reader(&message);
        let (Some(kind), Some(worker)) = (reader.u8(), reader.u64()) else { return };
        let mailbox = lock(&self.mailboxes).get(&worker).cloned();
        // Without one the worker was killed.
        let Some(mailbox) = mailbox else { return };
        mailbox.inner().messages.push_back(message);
        mailbox.news.notify_all();
        if kind == ENDED {
            mailbox.tell_end();
        }
    }

    /// MPI cannot be used any more: every worker ends.
    fn fail(&self, why: String) {
        if self.failure.set(why).is_ok() {
            for mailbox in lock(&self.mailboxes).values() {
                // Under the lock, so that its thread is not between its look and its sleep.
                drop(mailbox.inner());
                mailbox.news.notify_all();
                mailbox.tell_end();
            }
        }
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
        while self.failure.get().is_none() {
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

impl Mailbox {
    /// Has `told` tell the worker of this mailbox that its process has ended; at once if it has.
    pub(super) fn set_told(&self, told: Arc<Told>) {
        // Set once: a mailbox is one worker's.
        let _ = self.told.set(told);
        if self.has_ended.load(Ordering::SeqCst) {
            self.tell_end();
        }
    }

    fn tell_end(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
        if let Some(told) = self.told.get() {
            told.tell_end();
        }
    }

    /// Sleeps until there is a message, or the turn is this thread's.
    fn follow(&self) {
        /// Nobody relies on it: a bound for what is not thought of.
        const BACKSTOP: Duration = Duration::from_millis(100);
        let mut inner = self.inner();
        if inner.messages.is_empty() && !inner.is_over && !inner.is_called {
            inner = self.news.wait_timeout(inner, BACKSTOP).unwrap_or_else(PoisonError::into_inner).0;
        }
        inner.is_called = false;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
