//! Contexts: start methods as objects, side by side in one program.
//!
//! `cargo run --example contexts`

use procession::{Context, Process, current_process};

fn square(x: u64) -> (u64, String) {
    (x * x, current_process().name().to_owned())
}

fn main() -> procession::Result<()> {
    let fork = Context::fork();
    let spawn = Context::spawn();

    // Both run at once; each process came to be in its own way.
    let mut forked = fork.process(square, 3).name("forked").start()?;
    let mut spawned = spawn.process(square, 4).name("spawned").start()?;
    println!("fork: {:?}", forked.join()?);
    println!("spawn: {:?}", spawned.join()?);

    // Under fork a closure may capture, and even borrow: the child has a copy of everything.
    let words = ["copied", "not", "sent"];
    let mut borrowing = Process::fork(|| words.concat().len()).start()?;
    println!("a closure that borrows: {}", borrowing.join()?);

    // A pool of its own for each context works too.
    println!("a pool by {}: {:?}", spawn.start_method(), spawn.pool(2)?.map(|x: u64| x + 1, 0..5)?);
    Ok(())
}
