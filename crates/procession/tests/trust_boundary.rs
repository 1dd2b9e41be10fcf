//! The harm that a hostile worker can do to its parent. It writes at random into all that it shares
//! with its parent, under every limit and filter. The parent goes on, takes no memory by what it is
//! told, and gives no task the result of another.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use procession::confinement::{Landlock, Limits, Seccomp};
use procession::output::Line;
use procession::{Context, Handle, Output, Pool, Process};
use procession_sys::descriptor::duplicate;
use procession_testing::{Random, Segment, eventually, for_each_context, long, open_fds, run, runs, tests};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            parent_outlives_a_worker_that_writes_everywhere,
            empty_message_does_not_stop_the_passing_of_handles,
            process_that_leaves_nonsense_has_ended,
        ],
    })
}

/// Everything that this worker shares with its parent. The initializer finds it, since later the
/// worker can open nothing.
static SHARED: Mutex<Option<Everything>> = Mutex::new(None);

struct Everything {
    segment: Segment,
    /// Sockets and pipes.
    channels: Vec<File>,
}

fn channels() -> Vec<File> {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
    let of_channel = fds.filter(|fd| {
        let target = std::fs::read_link(fd.path()).unwrap_or_default();
        ["socket:", "pipe:"].iter().any(|kind| target.to_string_lossy().starts_with(kind))
    });
    let numbers: Vec<i32> = of_channel.map(|fd| fd.file_name().to_string_lossy().parse().unwrap()).collect();
    numbers.into_iter().map(|number| File::from(duplicate(number).unwrap())).collect()
}

fn find_all(_: ()) {
    *SHARED.lock().unwrap() = Some(Everything { segment: Segment::of_pool(), channels: channels() });
}

/// Writes everywhere for so many milliseconds. Returns how often it did so.
fn rage((seed, millis): (u64, u64)) -> (u64, u64) {
    let mut shared = SHARED.lock().unwrap();
    let Everything { segment, channels } = shared.as_mut().unwrap();
    let mut random = Random::new(seed);
    let end = Instant::now() + Duration::from_millis(millis.min(1000));
    let (mut stores, mut messages) = (0, 0);
    while Instant::now() < end {
        // One store often ends the pool.
        if random.below(20) == 0 {
            segment.look();
            segment.store_somewhere(&mut random);
            stores += 1;
        } else {
            send_anything(&channels[random.index(channels.len())], &mut random);
            messages += 1;
        }
    }
    (stores, messages)
}

fn send_anything(channel: &File, random: &mut Random) {
    let len = if random.below(200) == 0 { 70_000 } else { [0, 1, 5, 17, 300][random.index(5)] };
    let word = random.number().to_le_bytes();
    let mut bytes: Vec<u8> = word.into_iter().cycle().take(len).collect();
    if let Some(first) = bytes.first_mut() {
        // As messages begin.
        *first %= 8;
    }
    // Refused by what is full. A pipe's reader is quick.
    if send(channel.as_fd(), &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) == Err(Errno::NOTSOCK) {
        let _ = rustix::io::write(channel, &bytes);
    }
}

/// An answer that says whose it is.
fn answer(x: u64) -> (u64, u64) {
    (x, Random::new(x).number())
}

fn confined(context: Context, lines: Output) -> Pool {
    let limits = Limits {
        address_space: Some(8 << 30),
        cpu_time: Some(Duration::from_secs(3)),
        files: Some(64),
        processes: Some(10_000),
        file_size: Some(1 << 30),
        memory: Some(1 << 30),
    };
    let builder = context.pool_builder(2).initializer(find_all, ()).limits(limits).own_process_group();
    let builder = builder.sealed_results().no_new_privs().landlock(Landlock::new()).seccomp(Seccomp::new());
    builder.output(lines).start().unwrap()
}

/// The most memory that this process has ever had, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn parent_outlives_a_worker_that_writes_everywhere(context: Context) {
    let seed = procession_testing::seed_of_now();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let end = Instant::now() + Duration::from_secs(10);
    let longest = Arc::new(Mutex::new(0));
    // The fork server's fds are there from now on.
    drop(context.pool(1).unwrap());
    let fds = open_fds();
    let mut written = (0, 0);
    let (mut pools, mut right, mut errors, mut pids) = (0, 0, 0, Vec::new());
    while Instant::now() < end {
        pools += 1;
        let seen = longest.clone();
        let output = Output::callback(move |line: &Line<'_>| {
            let mut longest = seen.lock().unwrap();
            *longest = line.bytes().len().max(*longest);
        });
        let pool = confined(context, output);
        pids.extend(pool.worker_pids());
        let raging = pool.timeout(Duration::from_secs(2)).apply_async(rage, (random.number(), 100 + random.below(400)));
        for round in 0..1000_u64 {
            let items: Vec<u64> = (0..200).map(|x| round * 1000 + x).collect();
            let each = pool.chunk_size(10).timeout(Duration::from_secs(2)).map_async(answer, items.clone());
            match each.and_then(|each| each.get_timeout(long())) {
                Ok(results) => {
                    for (item, result) in items.into_iter().zip(results) {
                        assert!(result == answer(item), "task {item} has got a wrong result: {result:?}");
                        right += 1;
                    }
                }
                Err(error) => {
                    assert!(!error.is_timeout(), "{error}");
                    errors += 1;
                    if error.is_broken() {
                        break;
                    }
                }
            }
            if raging.as_ref().map_or(true, |raging| raging.ready()) {
                break;
            }
        }
        match raging.and_then(|raging| raging.get_timeout(long())) {
            Ok(counts) => written = (written.0 + counts.0, written.1 + counts.1),
            Err(error) => assert!(!error.is_timeout(), "{error}"),
        }
        pool.stats().unwrap();
        drop(pool);
    }
    println!("{pools} pools: {right} right results, {errors} calls with errors");
    println!("written by tasks that came to their ends: {written:?}");
    assert!(pools > 3 && right > 0);
    eventually("no worker is left", || !pids.iter().any(|pid| runs(*pid)));
    eventually("no file descriptor is left", || open_fds() <= fds);
    assert!(*longest.lock().unwrap() <= procession::output::MAX_LINE, "a line is longer than lines may be");
    assert!(peak() < 1 << 20, "this process had {} KiB of memory", peak());
}

fn send_empty(_: ()) {
    let shared = SHARED.lock().unwrap();
    for channel in &shared.as_ref().unwrap().channels {
        let _ = send(channel.as_fd(), &[], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

fn length_of(file: Handle<File>) -> u64 {
    file.metadata().unwrap().len()
}

fn empty_message_does_not_stop_the_passing_of_handles(context: Context) {
    let pool = context.pool_builder(1).initializer(find_all, ()).start().unwrap();
    let file = || Handle::from(File::open("/proc/self/exe").unwrap());
    let length = length_of(file());
    assert_eq!(pool.apply(length_of, file()).unwrap(), length);
    pool.apply(send_empty, ()).unwrap();
    assert_eq!(pool.apply_async(length_of, file()).unwrap().get_timeout(long()).unwrap(), length);
}

/// Sends to its parent what no child sends, and ends.
fn leave_nonsense(_: ()) {
    let mut random = Random::new(1);
    let channels = channels();
    for _ in 0..100 {
        channels.iter().for_each(|channel| send_anything(channel, &mut random));
    }
}

fn process_that_leaves_nonsense_has_ended(context: Context) {
    let mut process: Process<()> = context.process(leave_nonsense, ()).output(Output::Null).start().unwrap();
    assert!(process.join().is_err());
    assert!(!process.is_alive());
    assert!(process.join().is_err());
}
