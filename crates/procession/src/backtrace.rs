//! The stack of a panic, as its caller is shown it: by `RUST_BACKTRACE`, as std has it for threads.
//! In the process where the panic happens, in its thread.
//!
//! | `RUST_BACKTRACE` | the error has |
//! |---|---|
//! | not set, or `0` | no stack |
//! | `full` | the whole stack |
//! | anything else | the frames of the user's code: without those that panic, and those that call a task |

use std::backtrace::Backtrace;

/// The part of a stack that is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    None,
    Short,
    Full,
}

impl Style {
    /// Returns the style that `RUST_BACKTRACE` asks for.
    pub(crate) fn of_environment() -> Style {
        match std::env::var_os("RUST_BACKTRACE") {
            None => Style::None,
            Some(value) if value == "0" => Style::None,
            Some(value) if value == "full" => Style::Full,
            Some(_) => Style::Short,
        }
    }
}

/// A stack that is not written out: that takes long, and is in vain for a panic that the task
/// itself catches.
pub(crate) struct Stack {
    backtrace: Backtrace,
    style: Style,
}

impl Stack {
    /// The stack of the caller, if one is wanted.
    pub(crate) fn capture(style: Style) -> Option<Stack> {
        (style != Style::None).then(|| Stack { backtrace: Backtrace::force_capture(), style })
    }

    /// Writes it out.
    pub(crate) fn to_text(&self) -> String {
        let text = self.backtrace.to_string();
        match self.style {
            Style::Short => users_frames(&text).unwrap_or(text),
            Style::None | Style::Full => text,
        }
    }
}

/// Prefixes of the frames that report a panic, above those that make it.
const REPORT: [&str; 1] = ["std::panicking::"];

/// Prefixes of the frames that make and report a panic, above the user's code.
const PANIC: [&str; 7] = [
    "core::panicking::",
    "std::panicking::",
    "std::sys::backtrace::__rust_end_short_backtrace",
    "__rustc::rust_begin_unwind",
    "rust_begin_unwind",
    "core::result::",
    "core::option::",
];

/// Prefixes of the frames that call a task or a process's function, below the user's code.
const CALLER: [&str; 4] = ["procession::", "procession_core::", "<procession::", "<procession_core::"];

/// The frames of the user's code, in the form of the whole stack; `None` if they cannot be told
/// apart, as without symbols.
fn users_frames(text: &str) -> Option<String> {
    let frames = frames(text);
    let is = |frame: &Frame<'_>, of: &[&str]| of.iter().any(|start| frame.symbol.starts_with(start));
    let panicked = frames.iter().position(|frame| is(frame, &REPORT))?;
    let first = panicked + frames[panicked..].iter().position(|frame| !is(frame, &PANIC))?;
    let mut end = first + frames[first..].iter().position(|frame| is(frame, &CALLER))?;
    while end > first && frames[end - 1].symbol.starts_with("core::ops::function::") {
        end -= 1;
    }
    let users = &frames[first..end];
    let lines =
        users.iter().enumerate().map(|(index, Frame { symbol, place })| format!("{index:4}: {symbol}\n{place}"));
    (!users.is_empty()).then(|| lines.collect())
}

struct Frame<'a> {
    symbol: &'a str,
    /// The lines that say where it is.
    place: String,
}

fn frames(text: &str) -> Vec<Frame<'_>> {
    let mut frames: Vec<Frame<'_>> = Vec::new();
    for line in text.lines() {
        let numbered = line.trim_start().split_once(": ").filter(|(number, _)| number.parse::<u32>().is_ok());
        match (numbered, frames.last_mut()) {
            (Some((_, symbol)), _) => frames.push(Frame { symbol, place: String::new() }),
            (None, Some(frame)) => {
                frame.place.push_str(line);
                frame.place.push('\n');
            }
            (None, None) => {}
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "   0: procession::task::describe
             at /home/src/task.rs:5:1
   1: core::option::Option<T>::map
   2: std::panicking::panic_with_hook
   2: rust_begin_unwind
   3: core::panicking::panic_fmt
             at /rustc/library/core/src/panicking.rs:80:14
   4: app::read
             at ./src/main.rs:7:5
   5: app::main::{{closure}}
             at ./src/main.rs:12:9
   6: core::ops::function::Fn::call
   7: procession::task::run_batches::{{closure}}
   8: std::panicking::catch_unwind
   9: app::main
";

    #[test]
    fn a_short_stack_has_the_users_frames_alone() {
        let short = "   0: app::read
             at ./src/main.rs:7:5
   1: app::main::{{closure}}
             at ./src/main.rs:12:9
";
        assert_eq!(users_frames(WHOLE).as_deref(), Some(short));
    }

    #[test]
    fn a_stack_without_symbols_stays_whole() {
        for text in ["   0: <unknown>\n   1: <unknown>\n", "", "   0: std::panicking::panic\n   1: procession::task\n"]
        {
            assert_eq!(users_frames(text), None, "{text}");
        }
    }

    #[test]
    fn nothing_is_captured_unless_it_is_wanted() {
        assert!(Stack::capture(Style::None).is_none());
        let whole = Stack::capture(Style::Full).expect("it is wanted").to_text();
        assert!(whole.contains("nothing_is_captured_unless_it_is_wanted"), "{whole}");
    }
}
