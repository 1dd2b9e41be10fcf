//! The MPI job of this program, as its driver sees it: which ranks can serve, which are free. Used
//! in rank 0, in any thread.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use procession_core::current_pid;
use procession_core::engine::engine;
use procession_mpi::Post;

use super::agent;
use super::hello::Agent;
use super::message::{self, QUIT};
use super::pace::Pace;
use super::post_office::PostOffice;
use crate::{Error, Result};

static JOB: OnceLock<Job> = OnceLock::new();
static JOINING: Mutex<()> = Mutex::new(());

/// See the module.
pub(super) struct Job {
    pub(super) office: PostOffice,
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
        let mut post = Post::init().map_err(|error| Error::invalid(format!("cannot join the MPI job: {error}")))?;
        if post.rank() > 0 {
            agent::serve(post);
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

    /// The machine of a rank other than 0.
    pub(super) fn host(&self, rank: usize) -> Arc<str> {
        self.agents[rank - 1].host.clone()
    }

    /// Returns the number of ranks that can serve.
    pub(super) fn capacity(&self) -> usize {
        self.agents.iter().filter(|agent| agent.refusal.is_none()).count()
    }

    /// Takes so many free ranks.
    ///
    /// # Errors
    ///
    /// If there are not as many.
    pub(super) fn hire(&'static self, count: usize) -> Result<Hired> {
        let mut hired = Hired { job: self, ranks: Vec::new() };
        hired.reach(count).map_err(Error::invalid)?;
        Ok(hired)
    }
}

const IN_A_CHILD: &str = "Context::mpi is for the ranks of the job, and this process is a child of one: use another \
                          context here";

/// Ranks that a pool has, each for one of its slots. They are free again when this is dropped.
pub(super) struct Hired {
    job: &'static Job,
    ranks: Vec<usize>,
}

impl Hired {
    pub(super) fn ranks(&self) -> &[usize] {
        &self.ranks
    }

    /// Takes as many more ranks as are missing to so many.
    ///
    /// # Errors
    ///
    /// If there are not as many, with the number that there is.
    pub(super) fn reach(&mut self, count: usize) -> std::result::Result<(), String> {
        let (job, capacity) = (self.job, self.job.capacity());
        if count > capacity {
            let refused = match job.agents.len() - capacity {
                0 => String::new(),
                refused => format!(", and {refused} cannot serve (see this program's standard error)"),
            };
            return Err(format!(
                "a pool of {count} workers needs as many ranks, and this job has {capacity} of them: it was started with {}, \
                 of which one runs the program{refused}. Start it by `mpiexec -n {}`, or take {capacity} workers",
                job.agents.len() + 1,
                count + 1,
            ));
        }
        let mut free = lock(&job.free);
        let missing = count.saturating_sub(self.ranks.len());
        if missing > free.len() {
            return Err(format!(
                "ranks are missing: {missing} more needed, {} are free, as other pools have them until they have ended: drop \
                 those pools first, or take fewer workers",
                free.len()
            ));
        }
        self.ranks.extend((0..missing).filter_map(|_| free.pop_first()));
        Ok(())
    }

    /// Gives the ranks back.
    pub(super) fn release(&mut self) {
        lock(&self.job.free).extend(self.ranks.drain(..));
    }
}

impl fmt::Debug for Hired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hired").field("ranks", &self.ranks).finish_non_exhaustive()
    }
}

impl Drop for Hired {
    fn drop(&mut self) {
        self.release();
    }
}

/// Waits for the first message of every other rank.
fn meet(post: &mut Post) -> procession_mpi::Result<Vec<Agent>> {
    let mut agents: Vec<Option<Agent>> = (1..post.size()).map(|_| None).collect();
    let mut pace = Pace::new(Duration::from_millis(5));
    while agents.iter().any(Option::is_none) {
        match post.receive()? {
            Some((rank, message)) if rank > 0 => agents[rank - 1] = Some(Agent::from_hello(&message)),
            Some(_) => {}
            None => pace.pause(),
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
