//! Kills and stops processes that attach to named shared memory, write to it and unlink it. Words
//! are never torn, and no name is left.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use procession::{Context, Process, SharedMemory};

use crate::Tally;
use crate::weather::Weather;

const PROCESSES: usize = 2;
const WORDS: usize = 512;

pub(crate) fn storm(context: Context, weather: &mut Weather, end: Instant) -> Tally {
    let (mut names, mut killed) = (0, 0);
    while Instant::now() < end {
        let name = format!("{}{names}", prefix());
        let memory = SharedMemory::create(&name, WORDS * 8).expect("memory is made");
        names += 1;
        let mut processes: Vec<Process<()>> =
            (0..PROCESSES).map(|_| context.process(use_it, name.clone()).start().expect("a process starts")).collect();
        for _ in 0..weather.choose(20) {
            weather.pass();
            let victim = processes[weather.choose(PROCESSES)].pid();
            match weather.choose(3) {
                0 => killed += u64::from(weather.kill(victim)),
                1 => weather.stop(victim),
                _ => {}
            }
            for word in memory.words() {
                let word = word.load(Ordering::Relaxed);
                assert_eq!(word as u32, (word >> 32) as u32, "a word is whole");
            }
        }
        if weather.once_in(2) {
            match memory.unlink() {
                Err(error) if !error.is_not_found() => panic!("{error}"),
                _ => {}
            }
        }
        weather.clear();
        drop(memory);
        for process in &mut processes {
            weather.kill(process.pid());
            // It was killed, or has unlinked the memory and is done.
            drop(process.join());
        }
        if let Ok(memory) = SharedMemory::attach(&name) {
            memory.unlink().expect("nobody else is there");
        }
    }
    Tally::from([("names", names), ("processes killed", killed)])
}

fn use_it(name: String) {
    let begun = Instant::now();
    for turn in 0u64.. {
        let memory = match SharedMemory::attach(&name) {
            Ok(memory) => memory,
            Err(error) if error.is_not_found() => return,
            Err(error) => panic!("{error}"),
        };
        let word = turn & u64::from(u32::MAX);
        memory.words()[turn as usize % WORDS].store(word << 32 | word, Ordering::Relaxed);
        if begun.elapsed() > Duration::from_secs(5) {
            return;
        }
    }
}

/// Returns the names of this program that are left.
pub(crate) fn left() -> Vec<String> {
    let entries = fs::read_dir("/dev/shm").into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&prefix())).collect()
}

fn prefix() -> String {
    format!("procession-stress-{}-", std::process::id())
}
