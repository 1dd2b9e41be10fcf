//! The MPI job of this program, as its driver sees it: which ranks can serve, which are free. Used
//! in rank 0, in any thread.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use procession_core::current_pid;
use procession_core::engine::engine;
use procession_mpi::Post;

use super::post_office::PostOffice;
use super::rank;
use crate::remote::hello::Agent;
use crate::remote::lock;
use crate::remote::mailbox::{Mailbox, Mailboxes, Waited};
use crate::remote::message::{self, QUIT};
use crate::remote::office::Office;
use crate::remote::pace::Pace;
use crate::{Error, Result};

static JOB: OnceLock<Job> = OnceLock::new();
static JOINING: Mutex<()> = Mutex::new(());

/// See the module.
pub(super) struct Job {
    office: PostOffice,
    /// The ranks but the first: rank 1 is the first here.
    agents: Vec<Agent>,
    free: Mutex<BTreeSet<usize>>,
    /// Of the driver.
    pid: u32,
}

impl Job {
    /// Joins the job, as rank 0. In the other ranks it does not return: they are agents until the
    /// driver ends.
    ///
    /// # Errors
    ///
    /// If the program was not started as a job's rank, or MPI refuses.
    pub(super) fn join() -> Result<&'static Job> {
        let _joining = lock(&JOINING);
        if let Some(job) = JOB.get() {
            return if job.pid == current_pid() { Ok(job) } else { Err(Error::invalid(IN_A_CHILD)) };
        }
        // It has the variables of its parent's rank.
        if engine().identity().parent.is_some() {
            return Err(Error::invalid(IN_A_CHILD));
        }
        if procession_mpi::launcher().is_none() {
            let program = std::env::args().next().unwrap_or_else(|| "PROGRAM".into());
            return Err(Error::invalid(format!(
                "this program was not started as an MPI job, so there are no ranks to run tasks: start it by \
                 `mpiexec -n 5 {program}`, which gives it 4 workers"
            )));
        }
        crate::startup::keep_entry();
        let mut post = Post::init().map_err(|error| Error::invalid(format!("cannot join the MPI job: {error}")))?;
        if post.rank() > 0 {
            rank::serve(post);
        }
        let agents =
            meet(&mut post).map_err(|why| Error::invalid(format!("cannot reach the ranks of the job: {why}")))?;
        for (index, agent) in agents.iter().enumerate() {
            if let Some(refusal) = &agent.refusal {
                eprintln!("procession: rank {} on {} gets no tasks: {refusal}", index + 1, agent.host);
            }
        }
        let serving = agents.iter().enumerate().filter(|(_, agent)| agent.refusal.is_none());
        let free = serving.map(|(index, _)| index + 1).collect();
        let job = Job { office: PostOffice::new(post), agents, free: Mutex::new(free), pid: current_pid() };
        let job = JOB.get_or_init(|| job);
        engine().on_leave(leave)?;
        procession_core::spawn_engine_thread("mpi", || job.office.look_when_idle()).map_err(|error| {
            Error::invalid(format!("cannot start the thread that looks for messages of MPI: {error}"))
        })?;
        Ok(job)
    }

    /// The job that this process has joined as rank 0.
    pub(super) fn joined() -> Result<&'static Job> {
        let job = JOB.get().filter(|job| job.pid == current_pid());
        job.ok_or_else(|| Error::invalid(IN_A_CHILD))
    }

    /// Returns the number of ranks that can serve.
    pub(crate) fn capacity(&self) -> usize {
        self.agents.iter().filter(|agent| agent.refusal.is_none()).count()
    }
}

impl Office for Job {
    fn mailboxes(&self) -> &Mailboxes {
        &self.office.mailboxes
    }

    fn send(&self, agent: usize, message: Vec<u8>) {
        self.office.send(agent, message);
    }

    fn wait(&self, mailbox: &Arc<Mailbox>) -> Waited {
        self.office.wait(mailbox)
    }

    fn host(&self, agent: usize) -> Arc<str> {
        self.agents[agent - 1].host.clone()
    }

    fn shown(&self, agent: usize) -> String {
        format!("rank {agent}")
    }

    fn hire(&self, total: usize, further: usize) -> std::result::Result<Vec<usize>, String> {
        let capacity = self.capacity();
        if total > capacity {
            let refused = match self.agents.len() - capacity {
                0 => String::new(),
                refused => format!(", and {refused} cannot serve (see this program's standard error)"),
            };
            return Err(format!(
                "a pool of {total} workers needs as many ranks, and this job has {capacity} of them: it was started with {}, \
                 of which one runs the program{refused}. Start it by `mpiexec -n {}`, or take {capacity} workers",
                self.agents.len() + 1,
                total + 1,
            ));
        }
        let mut free = lock(&self.free);
        if further > free.len() {
            return Err(format!(
                "ranks are missing: {further} more needed, {} are free, as other pools have them until they have ended: drop \
                 those pools first, or take fewer workers",
                free.len()
            ));
        }
        Ok((0..further).filter_map(|_| free.pop_first()).collect())
    }

    fn release(&self, agents: Vec<usize>) {
        lock(&self.free).extend(agents);
    }
}

const IN_A_CHILD: &str = "Context::mpi is for the ranks of the job, and this process is a child of one: use another \
                          context here";

/// Waits for the first message of every other rank.
fn meet(post: &mut Post) -> procession_mpi::Result<Vec<Agent>> {
    let mut agents: Vec<Option<Agent>> = (1..post.size()).map(|_| None).collect();
    let mut pace = Pace::new(Duration::from_millis(5));
    while agents.iter().any(Option::is_none) {
        match post.receive()? {
            Some((rank, message)) if rank > 0 => agents[rank - 1] = Some(Agent::from_hello(&message)),
            Some(_) => {}
            None => pace.pause(thread::sleep),
        }
    }
    Ok(agents.into_iter().flatten().collect())
}

/// Runs at the exit of rank 0: has the other ranks end, and leaves the job with them.
fn leave() {
    let Ok(job) = Job::joined() else { return };
    let Some(mut post) = job.office.take_post() else { return };
    let told = (1..post.size()).try_for_each(|rank| post.send(rank, message::begin(QUIT, 0).0));
    if let Err(error) = told.and_then(|()| post.finalize()) {
        eprintln!("procession: cannot leave the MPI job in order: {error}");
    }
}
