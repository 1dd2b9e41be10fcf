//! One process: start it, wait for it, take what its function returned.
//!
//! `cargo run --example hello`

use procession::{Process, current_process, parent_process};

fn hello(name: String) -> usize {
    let me = current_process();
    println!("hello {name}, from {} (process {})", me.name(), me.pid());
    if let Some(parent) = parent_process() {
        println!("my parent is process {}", parent.pid());
    }
    name.len()
}

fn main() -> procession::Result<()> {
    let mut process = Process::new(hello, "bob".to_owned()).start()?;
    let letters = process.join()?;
    println!("bob has {letters} letters; exit code {:?}", process.exit_code());
    Ok(())
}
