//! `cargo xtask tidy`: rules of the source that need no compiler. It is the first step of the gate,
//! so it reads every file once and takes less than two seconds.
//!
//! Each rule is a file: it gets the sources and returns its findings.

mod circles;
mod commits;
mod heads;
mod items;
mod layering;
mod manifest;
mod modules;
mod prose;
mod python;
mod rust;
mod source;
mod width;
mod words;

use crate::{Outcome, cargo};

pub(crate) fn run() -> Outcome {
    let root = cargo::root();
    let sources = source::read(&root)?;
    let mut findings = Vec::new();
    findings.extend(layering::check(&sources));
    findings.extend(circles::check(&sources));
    findings.extend(heads::check(&sources));
    findings.extend(width::check(&sources));
    findings.extend(words::check(&sources));
    match commits::check(&root) {
        Ok(wrong) => findings.extend(wrong),
        Err(reason) => println!("commit subjects are not checked: {reason}"),
    }
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => Err(format!("tidy: {count} to mend; see above")),
    }
}
