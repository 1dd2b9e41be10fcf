//! See `procession_core::fuzzing::outcomes`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| procession_core::fuzzing::outcomes(data));
