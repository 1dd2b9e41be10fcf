//! `cargo xtask stress --seconds N [--method METHOD] [--seed S] [--only STORM]`: storms of SIGKILL,
//! SIGSTOP and SIGCONT at random instants over queues, locks, pools, connections, shared memory and
//! the fork server, each under one start method, or under one chosen at random. They check the
//! reliability contract: committed items arrive once and in order, nothing hangs, nothing is left
//! behind.
//!
//! The storm `hostile` is of another kind: there tasks overwrite the memory that their pool shares
//! with them.
//!
//! One seed decides what is done to which process; the machine decides when exactly. A storm that
//! fails prints its seed.

mod connections;
mod hostile;
mod leaks;
mod locks;
mod names;
mod pools;
mod queues;
mod weather;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use procession::Context;
use procession_testing::{CONTEXTS, patience, seed_of_now, watchdog};

use leaks::Belongings;
use weather::Weather;

/// The events that a storm has seen, by name.
type Tally = BTreeMap<&'static str, u64>;

/// A storm over one kind of thing, until the instant.
type Storm = (&'static str, fn(Context, &mut Weather, Instant) -> Tally);

const STORMS: [Storm; 6] = [
    ("queues", queues::storm),
    ("locks", locks::storm),
    ("pools", pools::storm),
    ("connections", connections::storm),
    ("names", names::storm),
    ("hostile", hostile::storm),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Request::parse(&arguments) {
        Some(request) => run(&request),
        None => {
            eprintln!(
                "usage: cargo xtask stress --seconds N [--method fork|spawn|forkserver] [--seed S] [--only {}]",
                STORMS.map(|(name, _)| name).join("|")
            );
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// The command line.
struct Request {
    seconds: u64,
    /// The start methods to choose from.
    contexts: Vec<(&'static str, Context)>,
    /// The storms to choose from.
    storms: Vec<Storm>,
    seed: u64,
}

impl Request {
    fn parse(arguments: &[String]) -> Option<Request> {
        let (mut seconds, mut contexts, mut storms, mut seed) = (None, CONTEXTS.to_vec(), STORMS.to_vec(), None);
        for pair in arguments.chunks(2) {
            let [option, value] = pair else { return None };
            match option.as_str() {
                "--seconds" => seconds = Some(value.parse().ok()?),
                "--method" => contexts.retain(|(name, _)| name == value),
                "--only" => storms.retain(|(name, _)| name == value),
                "--seed" => seed = Some(value.parse().ok()?),
                _ => return None,
            }
        }
        let is_empty = contexts.is_empty() || storms.is_empty();
        let seed = seed.unwrap_or_else(seed_of_now);
        if is_empty { None } else { Some(Request { seconds: seconds?, contexts, storms, seed }) }
    }

    /// Returns the command that does the same again.
    fn replay(&self) -> String {
        let method = match self.contexts[..] {
            [(name, _)] => format!(" --method {name}"),
            _ => String::new(),
        };
        let only = match self.storms[..] {
            [(name, _)] => format!(" --only {name}"),
            _ => String::new(),
        };
        format!("cargo xtask stress --seconds {}{method} --seed {}{only}", self.seconds, self.seed)
    }
}

fn run(request: &Request) {
    let (replay, contexts, storms) = (request.replay(), &request.contexts, &request.storms);
    println!("seed {}, {} s; to replay: {replay}", request.seed, request.seconds);
    tell_of_replay_on_panic(&replay);
    let watch = |storm: String| watchdog::watch(format!("{storm}; to replay: {replay}:"), patience());
    let end = Instant::now() + Duration::from_secs(request.seconds);
    let mut weather = Weather::new(request.seed);
    // The first run makes what is made once and kept, such as the fork server, which is no leak.
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for &(_, context) in contexts {
        for (name, storm) in storms {
            let _watch = watch(format!("the first {name}"));
            storm(context, &mut weather, Instant::now() + Duration::from_millis(50));
        }
    }
    let before = Belongings::now();
    while Instant::now() < end {
        for (name, storm) in storms {
            let (method, context) = contexts[weather.choose(contexts.len())];
            let _watch = watch(format!("{name} under {method}"));
            let until = end.min(Instant::now() + Duration::from_millis(300 + weather.choose(1200) as u64));
            for (what, count) in storm(context, &mut weather, until) {
                *tallies.entry(*name).or_default().entry(what).or_default() += count;
            }
        }
    }
    let _watch = watch("looking for what is left".into());
    before.expect_again();
    for (name, tally) in tallies {
        let seen: Vec<String> = tally.iter().map(|(what, count)| format!("{count} {what}")).collect();
        println!("{name:<12} {}", seen.join(", "));
    }
    println!("{:<12} {}", "weather", weather.report());
    println!("everything arrived once, nothing hangs, nothing is left");
}

/// Has a panic of this process, not of its children, say which storm it was in.
fn tell_of_replay_on_panic(replay: &str) {
    let (replay, own, default) = (replay.to_owned(), std::process::id(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        default(panic);
        if std::process::id() == own {
            eprintln!("\nthe storm that failed: {}", watchdog::latest().unwrap_or(replay.clone()));
        }
    }));
}
