//! `cargo xtask stress --seconds N [--seed S] [--only STORM]`: storms of SIGKILL, SIGSTOP and SIGCONT at random instants over queues, locks,
//! pools, connections, shared memory and the fork server, each under a start method chosen at random. What is checked is the
//! reliability contract: what was committed arrives once and in order, nothing hangs, nothing is left behind.
//!
//! A storm of its own kind is `hostile`: there tasks overwrite what their pool shares with them.
//!
//! One seed decides what is done to whom; when exactly, the machine does. A storm that fails says its seed.

mod connections;
mod hostile;
mod leaks;
mod locks;
mod names;
mod pools;
mod queues;
mod watchdog;
mod weather;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use procession::Context;

use leaks::Belongings;
use weather::Weather;

/// What a storm has seen, by name.
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

const CONTEXTS: [(&str, Context); 3] =
    [("fork", Context::fork()), ("spawn", Context::spawn()), ("forkserver", Context::forkserver())];

fn main() -> ExitCode {
    procession::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (mut seconds, mut seed, mut only) = (None, Some(seed_of_now()), None);
    for argument in arguments.chunks(2) {
        match argument {
            ["--seconds", number] => seconds = number.parse().ok(),
            ["--seed", number] => seed = number.parse().ok(),
            ["--only", name] => only = Some(*name),
            _ => seconds = None,
        }
    }
    let storms: Vec<Storm> = STORMS.into_iter().filter(|(name, _)| only.is_none_or(|only| only == *name)).collect();
    let (Some(seconds), Some(seed), false) = (seconds, seed, storms.is_empty()) else {
        eprintln!("usage: cargo xtask stress --seconds N [--seed S] [--only STORM]");
        return ExitCode::FAILURE;
    };
    run(&storms, Duration::from_secs(seconds), seed, only);
    ExitCode::SUCCESS
}

fn run(storms: &[Storm], length: Duration, seed: u64, only: Option<&str>) {
    let only = only.map_or_else(String::new, |only| format!(" --only {only}"));
    let replay = format!("cargo xtask stress --seconds {} --seed {seed}{only}", length.as_secs());
    println!("seed {seed}, {} s; to replay: {replay}", length.as_secs());
    watchdog::begin(&replay);
    let end = Instant::now() + length;
    let mut weather = Weather::new(seed);
    // What is made once and kept, such as the fork server, is no leak.
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for (_, context) in CONTEXTS {
        for (name, storm) in storms {
            watchdog::enter(format!("the first {name}"));
            storm(context, &mut weather, Instant::now() + Duration::from_millis(50));
        }
    }
    let before = Belongings::now();
    while Instant::now() < end {
        for (name, storm) in storms {
            let (method, context) = CONTEXTS[weather.choose(CONTEXTS.len())];
            watchdog::enter(format!("{name} under {method}"));
            let until = end.min(Instant::now() + Duration::from_millis(300 + weather.choose(1200) as u64));
            for (what, count) in storm(context, &mut weather, until) {
                *tallies.entry(*name).or_default().entry(what).or_default() += count;
            }
        }
    }
    watchdog::enter("looking for what is left".into());
    before.expect_again();
    for (name, tally) in tallies {
        let seen: Vec<String> = tally.iter().map(|(what, count)| format!("{count} {what}")).collect();
        println!("{name:<12} {}", seen.join(", "));
    }
    println!("{:<12} {}", "weather", weather.report());
    println!("everything arrived once, nothing hangs, nothing is left");
}

fn seed_of_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64 >> 8)
}
