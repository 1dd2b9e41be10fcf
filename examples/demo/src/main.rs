//! Shows what procession does, in a few seconds: a worker is killed and costs one task, a large
//! array crosses, a task that runs too long is ended, and the words of many files are counted by a
//! pool under each start method.
//!
//! `cargo xtask demo [PATH]` builds and runs it, and then `examples/python/demo.py`, which does the
//! same.

mod words;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use procession::{Context, Pool, Slice, StartMethod, available_parallelism};

use words::{Words, batches, files_below};

/// Tasks for each worker: enough that no worker runs the last one alone for long.
const SHARES: usize = 24;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let files = arguments.get(1).map_or(Some(usize::MAX), |files| files.to_str()?.parse().ok());
    let ([path] | [path, _], Some(max_files)) = (&arguments[..], files) else {
        eprintln!("usage: procession-demo PATH [FILES]");
        return ExitCode::from(2);
    };
    let shown = lose_a_worker()
        .and_then(|()| send_an_array())
        .and_then(|()| end_a_slow_task())
        .map_err(|error| error.to_string())
        .and_then(|()| count_words(Path::new(path), max_files));
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("procession-demo: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn lose_a_worker() -> procession::Result<()> {
    println!("1. Twenty tasks. The worker that runs task 3 is killed by `kill -9`.\n");
    let pool = Pool::new(2)?;
    let results = (0..20).map(|number| pool.apply_async(work, number)).collect::<procession::Result<Vec<_>>>()?;
    let mut done = 0;
    for (number, result) in results.iter().enumerate() {
        match result.get() {
            Ok(_) => done += 1,
            Err(error) => println!("   task {number}: {error}"),
        }
    }
    println!("   {done} of 20 tasks are done, and the pool goes on: 6 x 7 = {}\n", pool.apply(|x: u32| x * 7, 6)?);
    Ok(())
}

fn work(number: u32) -> u32 {
    if number == 3 {
        let pid = std::process::id().to_string();
        Command::new("kill").args(["-9", &pid]).status().expect("`kill` is in PATH");
    }
    std::thread::sleep(Duration::from_millis(20));
    number
}

fn send_an_array() -> procession::Result<()> {
    println!("2. An array of 64 MiB goes to a worker, which returns its sum.\n");
    let pool = Pool::new(1)?;
    let numbers = Slice::from(vec![0.5_f64; (64 << 20) / size_of::<f64>()]);
    for turn in ["the first time", "and again"] {
        let begun = Instant::now();
        let sum: f64 = pool.apply(|numbers: Slice<f64>| numbers.iter().sum(), numbers.clone())?;
        println!("   {turn}: {:.1} ms, sum {sum}", begun.elapsed().as_secs_f64() * 1e3);
    }
    println!();
    Ok(())
}

fn end_a_slow_task() -> procession::Result<()> {
    println!("3. A task that would run for a minute has a time limit of 300 ms.\n");
    let pool = Pool::new(1)?;
    let limited = pool.timeout(Duration::from_millis(300));
    if let Err(error) = limited.apply(|seconds: u64| std::thread::sleep(Duration::from_secs(seconds)), 60) {
        println!("   {error}");
    }
    println!("   the pool goes on: 6 x 7 = {}\n", pool.apply(|x: u32| x * 7, 6)?);
    Ok(())
}

/// One way to count, with its time and its result.
struct Run {
    how: String,
    time: Duration,
    words: Words,
}

fn count_words(path: &Path, max_files: usize) -> Result<(), String> {
    let workers = available_parallelism().get();
    let files = files_below(path, max_files)?;
    if files.is_empty() {
        return Err(format!("no files below {}: pass another PATH", path.display()));
    }
    let tasks = batches(&files, workers * SHARES);
    let size = files.iter().map(|(_, len)| len).sum::<u64>() as f64 / 1e6;
    println!("4. The words of {} files, {size:.1} MB, in {} tasks for {workers} workers.\n", files.len(), tasks.len());
    // A first reading, so that every run finds the files in the page cache.
    words::count(files.iter().map(|(path, _)| path.clone().into_os_string()).collect())?;

    let mut runs = vec![timed("one after the other", || {
        tasks.iter().try_fold(Words::default(), |sum, task| Ok(sum.plus(words::count(task.clone())?)))
    })?];
    for method in StartMethod::ALL {
        runs.push(timed(&format!("a pool by {method}"), || {
            let pool = Context::new(method).pool(workers).map_err(|error| error.to_string())?;
            let mut results = pool.imap_unordered(words::count, tasks.clone());
            results.try_fold(Words::default(), |sum, part| Ok(sum.plus(part.map_err(|error| error.to_string())??)))
        })?);
    }
    for Run { how, time, words } in &runs {
        let faster = runs[0].time.as_secs_f64() / time.as_secs_f64();
        println!("   {how:<22} {:>6.2} s  {faster:>5.2} x", time.as_secs_f64());
        if *words != runs[0].words {
            return Err(format!("{how} counted otherwise than {}", runs[0].how));
        }
    }
    let words = &runs[0].words;
    let commonest: Vec<_> = words.commonest(5).into_iter().map(|(word, count)| format!("{word} {count}")).collect();
    println!("\n   all agree: {} words; {}\n", words.total(), commonest.join(", "));
    Ok(())
}

fn timed(how: &str, count: impl FnOnce() -> Result<Words, String>) -> Result<Run, String> {
    let begun = Instant::now();
    let words = count()?;
    Ok(Run { how: how.into(), time: begun.elapsed(), words })
}
