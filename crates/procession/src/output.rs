//! The output of children, brought home line by line.
//!
//! [`pool::Builder::output`](crate::pool::Builder::output) and
//! [`process::Builder::output`](crate::process::Builder::output) take an [`Output`]:
//!
//! | | what children print |
//! |---|---|
//! | [`Output::Inherit`], the default | goes where this program's output goes |
//! | [`Output::Null`] | is dropped |
//! | [`Output::Prefix`] | is printed by this program behind `[worker 3] ` or `[Process-1] ` |
//! | [`Output::callback`] | goes to a function, line by line |
//!
//! The children's standard output and standard error are pipes then. So this is about all that they
//! write to fds 1 and 2, be it by `println!`, by C code or by a program that they have started. The
//! lines of one stream of one child come in order; lines of its two streams may overtake each
//! other.
//!
//! All that a child has written before it was killed comes, whatever killed it. (`println!` writes
//! at each newline. So does C's `printf`.) The lines of a process have come when
//! [`join`](crate::Process::join) returns, those of a pool's workers when the pool's `join` or
//! `terminate` returns. A program that a child has started and left behind may hold the pipes open:
//! no line is read later than half a second after the child's end.
//!
//! ```
//! use procession::{Context, Output};
//!
//! # fn main() -> procession::Result<()> {
//! let mut greeting = Context::fork().process(|()| println!("hello"), ()).output(Output::Prefix).start()?;
//! greeting.join()?; // has printed "[Process-1] hello"
//! # Ok(()) }
//! ```
//!
//! **Difference from `multiprocessing`:** there, children always write to their parent's streams.

pub use procession_core::output::{Line, LineCallback, MAX_LINE, Output, StreamName};
