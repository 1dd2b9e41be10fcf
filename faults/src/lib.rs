//! Deaths and stops at every numbered step of every protocol: `tests/`. They need an engine whose
//! steps can be armed (`procession_shm::fault`), which no published crate has:
//!
//! ```console
//! $ RUSTFLAGS="--cfg procession_fault_injection" CARGO_TARGET_DIR=target/faults \
//!     cargo test -p procession-faults --features armed
//! ```
