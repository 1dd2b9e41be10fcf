//! A rank other than 0: an agent. Runs in the main thread of the rank.

use std::process;
use std::thread;
use std::time::Duration;

use procession_mpi::Post;

use crate::remote::agent::{self, CANNOT_SERVE, Line, Sleeps};
use crate::remote::pace::Pace;

/// Serves until the driver ends. Does not return.
pub(super) fn serve(post: Post) -> ! {
    let rank = post.rank();
    let mut line = RankLine(post);
    let served = agent::serve_until_quit(&mut line).and_then(|()| line.0.finalize().map_err(|why| why.to_string()));
    match served {
        Ok(()) => process::exit(0),
        Err(error) => {
            // Of the driver or the network. The launcher ends the job with this.
            eprintln!("procession: rank {rank} cannot go on: {error}");
            process::exit(CANNOT_SERVE)
        }
    }
}

/// MPI, at which nobody can sleep.
struct RankLine(Post);

impl Line for RankLine {
    const SLEEPS: Sleeps = Sleeps {
        running: Duration::from_millis(1),
        waiting: Duration::from_millis(1),
        vacant: Duration::from_millis(5),
    };

    fn name(&self) -> String {
        format!("rank {}", self.0.rank())
    }

    fn host(&self) -> Result<String, String> {
        self.0.host().map_err(|error| error.to_string())
    }

    fn send(&mut self, message: Vec<u8>) -> Result<(), String> {
        self.0.send(0, message).map_err(|error| error.to_string())
    }

    fn receive(&mut self) -> Result<Option<Vec<u8>>, String> {
        let received = self.0.receive().map_err(|error| error.to_string())?;
        Ok(received.map(|(_, message)| message))
    }

    fn pause(&mut self, pace: &mut Pace) {
        pace.pause(thread::sleep);
    }
}
