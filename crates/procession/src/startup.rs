//! The entry of a child into its work, before `main` of the program that it executes. Run by the C
//! library in every process of a program that this crate is linked into; see
//! [`before_main!`](procession_core::before_main). Without the feature `startup` there is none.

#[cfg(all(feature = "startup", not(feature = "bridge")))]
procession_core::before_main!(ENTRY: procession_core::init::before_main);

// An agent begins here, too.
#[cfg(all(feature = "startup", feature = "bridge"))]
procession_core::before_main!(ENTRY: crate::bridge::before_main);

/// Refers to the entry, so that it is kept by a linker that takes only what is referred to from a
/// static library. Called where a process is started.
pub(crate) fn keep_entry() {
    #[cfg(feature = "startup")]
    std::hint::black_box(&raw const ENTRY);
}
