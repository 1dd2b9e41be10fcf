//! Kills and stops processes at random, by a seeded generator. It strikes only children of this
//! process, and processes that a pool of this process made. A thread continues stopped processes
//! after a while, because a process may be stopped while it holds a lock that the storm waits for.

use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use procession_sys::Signal;
use procession_sys::pidfd::PidFd;
use procession_sys::thread::spawn_engine_thread;
use procession_testing::{Random, children_named};

/// See the module.
#[derive(Debug)]
pub(crate) struct Weather {
    random: Random,
    stopped: Arc<Mutex<Vec<(PidFd, Instant)>>>,
    kills: u64,
    stops: u64,
    server_kills: u64,
}

impl Weather {
    pub(crate) fn new(seed: u64) -> Weather {
        let stopped: Arc<Mutex<Vec<(PidFd, Instant)>>> = Arc::default();
        let its = stopped.clone();
        let go_on = move || {
            loop {
                std::thread::sleep(Duration::from_millis(1));
                continue_until(&its, Instant::now());
            }
        };
        spawn_engine_thread("weather", go_on).expect("a thread starts");
        Weather { random: Random::new(seed), stopped, kills: 0, stops: 0, server_kills: 0 }
    }

    /// Returns a number below `below`.
    pub(crate) fn choose(&mut self, below: usize) -> usize {
        self.random.index(below)
    }

    /// Returns `true` once in this many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.choose(times) == 0
    }

    /// Waits for a random moment.
    pub(crate) fn pass(&mut self) {
        std::thread::sleep(Duration::from_micros(self.choose(2000) as u64));
        if self.once_in(100) {
            self.strike_server();
        }
    }

    /// Kills a child. Returns `false` if it has ended before.
    pub(crate) fn kill(&mut self, pid: u32) -> bool {
        let killed = own_child(pid).is_some_and(|process| send(&process, Signal::KILL));
        self.kills += u64::from(killed);
        killed
    }

    /// Stops a child for a moment.
    pub(crate) fn stop(&mut self, pid: u32) {
        if let Some(process) = own_child(pid)
            && send(&process, Signal::STOP)
        {
            self.stops += 1;
            let until = Instant::now() + Duration::from_millis(1 + self.choose(30) as u64);
            list(&self.stopped).push((process, until));
        }
    }

    /// Continues every process that is stopped.
    pub(crate) fn clear(&mut self) {
        continue_until(&self.stopped, Instant::now() + Duration::from_secs(3600));
    }

    pub(crate) fn report(&self) -> String {
        format!("{} kills, {} stops, {} kills of the fork server", self.kills, self.stops, self.server_kills)
    }

    fn strike_server(&mut self) {
        for server in children_named("forkserver") {
            self.server_kills += u64::from(own_child(server).is_some_and(|process| send(&process, Signal::KILL)));
        }
    }
}

fn continue_until(stopped: &Mutex<Vec<(PidFd, Instant)>>, instant: Instant) {
    list(stopped).retain(|(process, until)| {
        if *until <= instant {
            send(process, Signal::CONT);
        }
        *until > instant
    });
}

fn list(stopped: &Mutex<Vec<(PidFd, Instant)>>) -> MutexGuard<'_, Vec<(PidFd, Instant)>> {
    stopped.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the process of this pid, if it runs this program: a child of this process, of its fork
/// server, or of a server that has been killed. Others reap such a child, whose pid another process
/// may have by now.
fn own_child(pid: u32) -> Option<PidFd> {
    let process = PidFd::open(pid).ok()?;
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    (fs::read_link("/proc/self/exe").ok()? == program).then_some(process)
}

fn send(process: &PidFd, signal: Signal) -> bool {
    process.signal(signal).expect("a child takes signals")
}
