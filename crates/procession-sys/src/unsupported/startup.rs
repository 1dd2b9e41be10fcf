//! No constructors. As [`linux/startup.rs`](../linux/startup.rs).

use std::ffi::CStr;

/// The place of a constructor, which says when it is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the program.
    Program,
    /// In a shared object that the parent has had preloaded.
    Preloaded,
    /// In a shared object that is loaded in any other way.
    Loaded,
}

/// A function that a constructor would call.
pub type BeforeFn = fn(&CStr, Place) -> Option<fn() -> !>;

/// Expands to a static that nobody calls: no process is executed as a child here.
#[macro_export]
macro_rules! before_main {
    ($slot:ident: $function:path) => {
        static $slot: $crate::startup::BeforeFn = $function;
    };
}
