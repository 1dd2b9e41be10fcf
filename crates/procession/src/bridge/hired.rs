//! The state of each agent of a cluster, as the driver knows it. Used in the driver, under a lock
//! of its cluster's.
//!
//! | state | a message for it |
//! |---|---|
//! | starting | the start of a worker is kept until it is up; others are for nobody |
//! | up | is sent |
//! | down | the start of a worker has it started, and is kept; others are for nobody |

use std::collections::HashMap;
use std::sync::Arc;

use procession_core::pool::carried::Departed;
use procession_core::wire::Reader;

use crate::remote::hello;
use crate::remote::message::{self, BEGIN, KILL};

/// An agent.
pub(super) struct Agent {
    pub(super) host: Arc<str>,
    state: State,
    /// The worker whose start was sent last.
    worker: Option<u64>,
    /// The start of a worker, which is kept until the agent is up.
    kept: Option<(u64, Vec<u8>)>,
}

enum State {
    Starting,
    Up,
    Down(String),
}

/// The decision about a message.
pub(super) enum Act {
    /// Send it.
    Send(Vec<u8>),
    /// Have the agent started.
    Start,
    Nothing,
}

/// The consequence of an agent's first message.
#[cfg_attr(test, derive(Debug, PartialEq))]
pub(super) enum Heard {
    Nothing,
    /// Send it the start of a worker, which was kept.
    Send(Vec<u8>),
    /// It cannot serve: deliver the answer to the start of a worker.
    Deliver(Vec<u8>),
}

/// The agents that this program has, by number.
#[derive(Default)]
pub(super) struct Agents(HashMap<u32, Agent>);

impl Agents {
    pub(super) fn add(&mut self, agents: impl Iterator<Item = u32>, host: &Arc<str>) {
        self.0.extend(
            agents.map(|agent| (agent, Agent { host: host.clone(), state: State::Starting, worker: None, kept: None })),
        );
    }

    pub(super) fn remove(&mut self, agent: u32) {
        self.0.remove(&agent);
    }

    pub(super) fn get(&self, agent: u32) -> Option<&Agent> {
        self.0.get(&agent)
    }

    /// Returns `None` while one of them is starting; then the reason for which one is down.
    pub(super) fn settled(&self, agents: &[usize]) -> Option<Result<(), String>> {
        let mut settled = Ok(());
        for agent in agents {
            match self.0.get(&(*agent as u32)).map(|its| &its.state) {
                Some(State::Starting) => return None,
                Some(State::Up) => {}
                Some(State::Down(why)) => settled = Err(why.clone()),
                None => settled = Err("it was let go of".into()),
            }
        }
        Some(settled)
    }

    /// Decides about a message to an agent.
    pub(super) fn sends(&mut self, agent: u32, message: Vec<u8>) -> Act {
        let Some(its) = self.0.get_mut(&agent) else { return Act::Nothing };
        let mut reader = Reader(&message);
        let (Some(kind), Some(worker)) = (reader.u8(), reader.u64()) else { return Act::Nothing };
        match (&its.state, kind) {
            (State::Up, _) => {
                if kind == BEGIN {
                    its.worker = Some(worker);
                }
                Act::Send(message)
            }
            (state, BEGIN) => {
                let is_down = matches!(state, State::Down(_));
                its.kept = Some((worker, message));
                its.state = State::Starting;
                if is_down { Act::Start } else { Act::Nothing }
            }
            (_, KILL) => {
                its.kept.take_if(|(kept, _)| *kept == worker);
                Act::Nothing
            }
            _ => Act::Nothing,
        }
    }

    /// Notes the first message of an agent.
    pub(super) fn hears_hello(&mut self, agent: u32, message: &[u8]) -> Heard {
        let hello = hello::Agent::from_hello(message);
        if let Some(its) = self.0.get_mut(&agent) {
            its.host = hello.host;
        }
        if let Some(refusal) = hello.refusal {
            return self.fails(agent, refusal).map_or(Heard::Nothing, Heard::Deliver);
        }
        let Some(its) = self.0.get_mut(&agent) else { return Heard::Nothing };
        its.state = State::Up;
        let kept = its.kept.take();
        its.worker = kept.as_ref().map(|(worker, _)| *worker);
        kept.map_or(Heard::Nothing, |(_, message)| Heard::Send(message))
    }

    /// Notes that an agent has not started. Returns the answer to the start of a worker.
    pub(super) fn fails(&mut self, agent: u32, why: String) -> Option<Vec<u8>> {
        let its = self.0.get_mut(&agent)?;
        let answer = its.kept.take().map(|(worker, _)| message::begin(message::FAILED, worker).rest(why.as_bytes()).0);
        its.state = State::Down(why);
        answer
    }

    /// Notes that an agent that was up is gone. Returns the message that its worker has ended.
    pub(super) fn loses(&mut self, agent: u32, why: String) -> Option<Vec<u8>> {
        let its = self.0.get_mut(&agent)?;
        its.state = State::Down(why);
        its.worker.take().map(|worker| message::ended(worker, &Departed::killed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::message::{ENDED, FAILED, RUN};

    fn one() -> Agents {
        let mut agents = Agents::default();
        agents.add([5].into_iter(), &"somewhere".into());
        agents
    }

    fn kind_of(message: &[u8]) -> (u8, u64) {
        let mut reader = Reader(message);
        (reader.u8().unwrap(), reader.u64().unwrap())
    }

    fn begin(worker: u64) -> Vec<u8> {
        message::begin(BEGIN, worker).0
    }

    #[test]
    fn start_of_a_worker_is_kept_until_the_agent_is_up() {
        let mut agents = one();
        assert!(matches!(agents.sends(5, begin(1)), Act::Nothing));
        assert!(agents.settled(&[5]).is_none());
        let Heard::Send(sent) = agents.hears_hello(5, &hello::hello("here")) else { panic!("the start is sent") };
        assert_eq!(kind_of(&sent), (BEGIN, 1));
        assert_eq!(&*agents.get(5).unwrap().host, "here");
        assert!(agents.settled(&[5]).unwrap().is_ok());
        assert!(matches!(agents.sends(5, message::begin(RUN, 1).0), Act::Send(_)));
    }

    #[test]
    fn lost_agent_ends_its_worker_and_is_started_for_the_next() {
        let mut agents = one();
        assert_eq!(agents.hears_hello(5, &hello::hello("here")), Heard::Nothing);
        assert!(matches!(agents.sends(5, begin(1)), Act::Send(_)));
        assert_eq!(kind_of(&agents.loses(5, "killed".into()).unwrap()), (ENDED, 1));
        assert!(matches!(agents.sends(5, message::begin(RUN, 1).0), Act::Nothing));
        assert!(matches!(agents.sends(5, begin(2)), Act::Start));
        assert!(matches!(agents.sends(5, message::begin(KILL, 2).0), Act::Nothing));
        assert_eq!(agents.hears_hello(5, &hello::hello("there")), Heard::Nothing, "nobody wants it any more");
    }

    #[test]
    fn agent_that_does_not_start_fails_its_worker() {
        let mut agents = one();
        assert!(matches!(agents.sends(5, begin(1)), Act::Nothing));
        assert_eq!(kind_of(&agents.fails(5, "no room".into()).unwrap()), (FAILED, 1));
        assert_eq!(agents.settled(&[5]), Some(Err("no room".into())));
        assert_eq!(agents.hears_hello(5, b"nonsense"), Heard::Nothing, "nobody waits for its worker any more");
    }
}
