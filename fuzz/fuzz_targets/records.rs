//! See `procession_core::fuzzing::records`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| procession_core::fuzzing::records(data));
