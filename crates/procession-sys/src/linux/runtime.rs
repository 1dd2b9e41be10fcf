//! The setup that Rust's runtime does before it calls `main`, for a child that never gets there.
//! Called by [`startup`](super::startup) in the child, in its only thread.
//!
//! | Rust's runtime | here |
//! |---|---|
//! | opens `/dev/null` for each standard stream that is closed | the same |
//! | ignores SIGPIPE | the same |
//! | names a stack overflow of the main thread, on a signal stack | the same |
//! | does so for other threads | not: an overflow there is a plain SIGSEGV |
//! | keeps the program's arguments | the standard library has done it, in a constructor of its own |
//! | calls the main thread `main` in messages of panics | not: nothing public sets it, and it says `<unnamed>` |

#![allow(unsafe_code)] // Signals and the stacks for them: rustix leaves them to libc.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};

/// The lowest address that the main thread's stack may grow to; 0 if it is not known.
static LOWEST: AtomicUsize = AtomicUsize::new(0);

/// The kernel keeps this much free below a stack. An access there is an overflow.
const GUARD: usize = 1 << 20;

pub(super) fn set_up() {
    open_closed_streams();
    // SAFETY: sets the action of a signal; no handler is involved.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    name_stack_overflows();
}

/// Opens `/dev/null` under each standard stream's number that is free.
fn open_closed_streams() {
    for number in 0..3 {
        // SAFETY: asks for a flag of a number, and opens a file by a string that ends with a NUL.
        // The lowest free number is this one, because those below it are taken by now. It stays
        // open: it is a standard stream. Without a /dev/null it stays closed.
        unsafe {
            if libc::fcntl(number, libc::F_GETFD) == -1
                && Errno::from_io_error(&std::io::Error::last_os_error()) == Some(Errno::BADF)
            {
                libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
            }
        }
    }
}

/// Has a stack overflow of this thread written to standard error before it ends the process.
/// Without `/proc`, or where the stack has no limit, or the program handles these signals already,
/// nothing changes.
fn name_stack_overflows() {
    let Some(lowest) = lowest_of_stack() else { return };
    if signal_stack().is_none() {
        return;
    }
    LOWEST.store(lowest, Ordering::Relaxed);
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: zero is a valid value of the C structure; each call reads one live local or
        // writes to it. The handler keeps to what a signal handler may do.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, ptr::null(), &raw mut action);
            if action.sa_sigaction == libc::SIG_DFL {
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                action.sa_sigaction = on_fault as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
                libc::sigaction(signal, &raw const action, ptr::null_mut());
            }
        }
    }
}

fn lowest_of_stack() -> Option<usize> {
    let mut attributes = MaybeUninit::uninit();
    let (mut lowest, mut len) = (ptr::null_mut(), 0);
    // SAFETY: the first call initialises the attributes unless it fails, the others read them, and
    // the last frees what they own.
    unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return None;
        }
        let refused = libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut lowest, &raw mut len);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        (refused == 0 && lowest as usize > GUARD).then_some(lowest as usize)
    }
}

/// Gives this thread a stack for signal handlers, above a page that faults. It stays for the life
/// of the process.
fn signal_stack() -> Option<()> {
    // SAFETY: asks for a number.
    let needed = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
    let page = rustix::param::page_size();
    let len = needed.max(libc::SIGSTKSZ).next_multiple_of(page);
    // SAFETY: maps fresh memory where the kernel likes, makes the lowest page of it inaccessible,
    // and gives the rest to the kernel as a stack that nothing else uses. It is never unmapped.
    unsafe {
        let memory =
            mmap_anonymous(ptr::null_mut(), page + len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE).ok()?;
        mprotect(memory, page, MprotectFlags::empty()).ok()?;
        let stack = libc::stack_t { ss_sp: memory.byte_add(page), ss_flags: 0, ss_size: len };
        (libc::sigaltstack(&raw const stack, ptr::null_mut()) == 0).then_some(())
    }
}

/// Runs on the signal stack, in the thread that faulted.
extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    const TEXT: &str = "\nthe main thread of a process of procession has overflowed its stack\n";
    let lowest = LOWEST.load(Ordering::Relaxed);
    // SAFETY: the kernel passes a description of a fault, which has an address. All calls may be
    // made in a signal handler.
    unsafe {
        let address = (*info).si_addr() as usize;
        if (lowest - GUARD..lowest + rustix::param::page_size()).contains(&address) {
            libc::write(2, TEXT.as_ptr().cast(), TEXT.len());
            libc::abort();
        }
        // Anything else faults again when this returns, and ends the process as it would have.
        libc::signal(signal, libc::SIG_DFL);
    }
}
