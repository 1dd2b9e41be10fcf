//! Counts words in the files that are named, each file a task of a pool.
//!
//! `cargo run --example wordcount README.md CHANGELOG.md`

use std::collections::HashMap;
use std::fs;

use procession::{Pool, available_parallelism};

type Counts = HashMap<String, u64>;

fn count(path: String) -> Result<Counts, String> {
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let mut counts = Counts::new();
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        *counts.entry(word.to_ascii_lowercase()).or_default() += 1;
    }
    Ok(counts)
}

fn main() -> procession::Result<()> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() {
        eprintln!("usage: wordcount FILE...");
        std::process::exit(2);
    }
    let pool = Pool::new(available_parallelism().get())?;
    let mut total = Counts::new();
    for counted in pool.map(count, paths)? {
        match counted {
            Ok(counts) => counts.into_iter().for_each(|(word, n)| *total.entry(word).or_default() += n),
            Err(problem) => eprintln!("{problem}"),
        }
    }
    let mut ranked: Vec<_> = total.into_iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    for (word, n) in ranked.iter().take(10) {
        println!("{n:>8} {word}");
    }
    Ok(())
}
