//! A library that starts processes. Programs that know nothing of procession call it: one of Rust's
//! whose `main` is plain, one of C's that is linked with it, and an interpreter that loads it.

#![allow(unsafe_code)] // It is called by C.

use std::ffi::{CStr, CString, c_char};
use std::path::Path;

use procession::{Context, Process, Result, StartMethod, parent_process};

/// Returns the sum of the squares below `n`, from a pool of this start method.
///
/// # Errors
///
/// The error of the pool.
pub fn sum_of_squares(method: StartMethod, n: u64) -> Result<u64> {
    let squares = Context::new(method).pool(2)?.map(|x: u64| x * x, 0..n)?;
    Ok(squares.into_iter().sum())
}

/// Returns what a child of this start method finds, as text.
fn report(method: &str) -> Result<String> {
    let method: StartMethod = method.parse()?;
    let context = Context::new(method);
    let sum = sum_of_squares(method, 100)?;
    let nested = context.process(|method: String| nested(&method), method.to_string()).start()?.join()?;
    let found = context.process(|()| found(), ()).start()?.join()?;
    Ok(format!("sum {sum}; nested {nested}; {found}"))
}

fn nested(method: &str) -> String {
    let start = || sum_of_squares(method.parse()?, 10);
    start().map_or_else(|error| error.to_string(), |sum| sum.to_string())
}

fn found() -> String {
    let has_parent = parent_process().is_some();
    let preloaded = std::env::var("LD_PRELOAD").unwrap_or_default();
    let loads = std::thread::spawn(can_load).join().unwrap_or_default();
    format!("has a parent: {has_parent}; LD_PRELOAD {preloaded:?}; a thread loads an object: {loads}")
}

/// It would wait for ever if the child had begun while the loader holds its lock.
fn can_load() -> bool {
    // SAFETY: loads the mathematical part of the C library, which has no constructors of its own.
    unsafe { !libc::dlopen(c"libm.so.6".as_ptr(), libc::RTLD_NOW).is_null() }
}

/// Returns the text of `report`, or its error. The caller owns the string, and leaks it.
///
/// # Safety
///
/// `method` is a string that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn procession_test_report(method: *const c_char) -> *mut c_char {
    // SAFETY: the caller's promise.
    let method = unsafe { CStr::from_ptr(method) }.to_string_lossy().into_owned();
    text(report(&method))
}

/// Sets the program that is executed, as [`procession::set_executable`].
///
/// # Safety
///
/// `program` is a string that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn procession_test_set_executable(program: *const c_char) {
    // SAFETY: the caller's promise.
    let program = unsafe { CStr::from_ptr(program) }.to_string_lossy().into_owned();
    procession::set_executable(Path::new(&program));
}

/// Has a child of this start method crash, and returns the error.
///
/// # Safety
///
/// `method` is a string that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn procession_test_crash(method: *const c_char) -> *mut c_char {
    // SAFETY: the caller's promise.
    let method = unsafe { CStr::from_ptr(method) }.to_string_lossy().into_owned();
    let crash = || {
        let context = Context::new(method.parse()?);
        let mut process: Process<()> = context.process(|()| std::process::abort(), ()).start()?;
        process.join()?;
        Ok(String::new())
    };
    text(crash())
}

fn text(said: Result<String>) -> *mut c_char {
    let said = said.unwrap_or_else(|error| format!("error: {error}"));
    CString::new(said).map_or(std::ptr::null_mut(), CString::into_raw)
}
