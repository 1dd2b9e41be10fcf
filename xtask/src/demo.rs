//! `cargo xtask demo`: the main job on real input. Counts words sequentially and by a pool under each start method,
//! checks that all agree, and prints one table. Then the same by the Python package, in a program of examples/python.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use procession::{Context, StartMethod, available_parallelism};

use crate::wordcount::{Tally, files_below};
use crate::{Outcome, cargo, python};

/// Tasks for each worker: enough that no worker is left with the last one for long, and few enough that the tables of
/// words that come back are not the work.
const SHARES: u64 = 24;
/// Of the tree: Python counts slowly, and shows the same on less.
const PYTHON_MEGABYTES: &str = "40";
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// One way to count, as it went.
struct Run {
    how: String,
    time: Duration,
    tally: Tally,
    pids: BTreeSet<u32>,
}

pub(crate) fn run(path: Option<&str>) -> Outcome {
    if cfg!(debug_assertions) {
        // Times without optimisation tell nothing: this same command again, built for speed.
        let fixed = ["run", "--quiet", "--release", "--package", "xtask", "--", "demo"];
        let arguments: Vec<&str> = fixed.into_iter().chain(path).collect();
        return cargo::run(cargo::cargo(&arguments), LIMIT);
    }
    let path = match path {
        Some(path) => PathBuf::from(path),
        None => default_tree()?,
    };
    let files = files_below(&path)?;
    if files.is_empty() {
        return Err(format!("no files below {}: pass another PATH", path.display()));
    }
    let workers = available_parallelism().get();
    let batches = batches(&files, workers as u64 * SHARES);
    let total: u64 = files.iter().map(|(_, len)| len).sum();
    println!("{} files, {:.1} MB below {}", files.len(), total as f64 / 1e6, path.display());
    println!("{workers} workers, {} tasks\n", batches.len());

    // A first reading, so that every run finds the files in the page cache.
    for (path, _) in &files {
        std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    }
    let mut runs = vec![sequentially(&batches)?];
    for method in StartMethod::ALL {
        runs.push(by_pool(method, workers, &batches)?);
    }
    print_table(&runs);
    if let Some(odd) = runs.iter().find(|run| run.tally != runs[0].tally) {
        return Err(format!("{} counted otherwise than {}", odd.how, runs[0].how));
    }
    print_words(&runs[0].tally);
    in_python(&path)
}

fn in_python(path: &Path) -> Outcome {
    println!("\nThe same by the Python package:\n");
    let needs_python = |problem| format!("the Python half of the demo did not run: {problem}");
    let environment = python::environment(None).map_err(needs_python)?;
    let mut command = environment.command(&["examples/python/word_count.py"]);
    command.arg(path).arg(PYTHON_MEGABYTES);
    cargo::run(command, LIMIT)
}

fn sequentially(batches: &[Vec<OsString>]) -> Result<Run, String> {
    let bar = bar("sequential", batches.len());
    let begun = Instant::now();
    let mut tally = Tally::default();
    for batch in batches {
        tally.merge(count(batch.clone())?.0);
        bar.inc(1);
    }
    let time = begun.elapsed();
    bar.finish_and_clear();
    Ok(Run { how: "sequential".into(), time, tally, pids: BTreeSet::from([std::process::id()]) })
}

fn by_pool(method: StartMethod, workers: usize, batches: &[Vec<OsString>]) -> Result<Run, String> {
    let bar = bar(&method.to_string(), batches.len());
    let begun = Instant::now();
    let failed = |error: procession::Error| error.to_string();
    let pool = Context::new(method).pool(workers).map_err(failed)?;
    let results: Result<Vec<_>, _> = batches.iter().map(|batch| pool.apply_async(count, batch.clone())).collect();
    let mut tally = Tally::default();
    let mut pids = BTreeSet::new();
    for result in results.map_err(failed)? {
        let (part, pid) = result.get().map_err(failed)??;
        tally.merge(part);
        pids.insert(pid);
        bar.inc(1);
    }
    pool.close();
    pool.join().map_err(failed)?;
    let time = begun.elapsed();
    bar.finish_and_clear();
    Ok(Run { how: format!("pool, {method}"), time, tally, pids })
}

/// The task. A path is any bytes: serde takes an `OsString` as it is, a `PathBuf` only if it is UTF-8.
fn count(batch: Vec<OsString>) -> Result<(Tally, u32), String> {
    let mut tally = Tally::default();
    for path in batch.iter().map(Path::new) {
        tally.add_file(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    }
    Ok((tally, std::process::id()))
}

/// Cuts the files into batches of about the same number of bytes.
fn batches(files: &[(PathBuf, u64)], wanted: u64) -> Vec<Vec<OsString>> {
    let total: u64 = files.iter().map(|(_, len)| len).sum();
    let share = (total / wanted).max(1);
    let mut batches = Vec::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for (path, len) in files {
        batch.push(path.clone().into_os_string());
        bytes += len;
        if bytes >= share {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
    }
    batches.extend((!batch.is_empty()).then_some(batch));
    batches
}

/// A tree that is always there: the toolchain's documentation, or else the sources of the registry.
fn default_tree() -> Result<PathBuf, String> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = sysroot.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    let docs = sysroot.map(|sysroot| Path::new(sysroot.trim()).join("share").join("doc"));
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let sources = cargo_home.map(|home| home.join("registry").join("src"));
    let tree = [docs, sources].into_iter().flatten().find(|path| path.is_dir());
    tree.ok_or_else(|| "neither the toolchain's documentation nor registry sources are here: pass a PATH".into())
}

fn bar(how: &str, tasks: usize) -> ProgressBar {
    // No ticking thread: fork wants to be alone.
    let bar = ProgressBar::new(tasks as u64);
    let style = ProgressStyle::with_template("{prefix:>12} [{bar:40}] {pos}/{len} {elapsed_precise}");
    bar.set_style(style.expect("the template is right").progress_chars("=> "));
    bar.set_prefix(how.to_owned());
    bar
}

fn print_table(runs: &[Run]) {
    println!("{:<18} {:>8} {:>9} {:>9} {:>8}  worker pids seen", "how", "seconds", "speed-up", "files/s", "MB/s");
    let sequential = runs[0].time.as_secs_f64();
    for Run { how, time, tally, pids } in runs {
        let seconds = time.as_secs_f64();
        let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
        println!(
            "{how:<18} {seconds:>8.3} {:>8.2}x {:>9.0} {:>8.1}  {}",
            sequential / seconds,
            tally.files as f64 / seconds,
            tally.bytes as f64 / 1e6 / seconds,
            pids.join(" "),
        );
    }
}

fn print_words(tally: &Tally) {
    println!(
        "\nall agree: {} words, {} lines, {} bytes in {} text files",
        tally.words, tally.lines, tally.bytes, tally.files
    );
    println!("({} files are not UTF-8 text and were skipped)\n", tally.skipped);
    for (word, count) in tally.commonest(20) {
        println!("{count:>10} {word}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_every_file_once() {
        let files: Vec<_> = (0..100u64).map(|i| (PathBuf::from(i.to_string()), i * i)).collect();
        for wanted in [1, 7, 1000] {
            let batched: Vec<_> = batches(&files, wanted).concat();
            assert!(batched.iter().eq(files.iter().map(|(path, _)| path.as_os_str())), "{wanted} wanted");
        }
    }
}
