//! Threads as forks and signals see them. The engine starts its threads here, a fork counts the
//! others here, and a new child names itself here.

#![allow(unsafe_code)] // Signal masks: rustix leaves them to libc.

use std::cell::Cell;
use std::ffi::CString;
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use rustix::io::Errno;

use crate::exit::exit_now;
use crate::fork_terms::OtherThread;
use crate::per_process::{PerProcess, fork_generation};

/// The number of the engine's live threads. It is raised after a thread is made and lowered before
/// it ends, so that it is never above the kernel's count. If it is too low for an instant, an
/// engine thread looks like another thread, which a fork waits out.
static ENGINE_THREADS: PerProcess<AtomicIsize> = PerProcess::new(|| AtomicIsize::new(0));

/// The ids of the engine's threads, for the text of an error alone.
static ENGINE_IDS: PerProcess<Mutex<Vec<i32>>> = PerProcess::new(Mutex::default);

const NOT_ENGINE: u64 = u64::MAX;

thread_local! {
    /// The fork generation in which this thread is one of the engine's. A child forked by such a
    /// thread has another generation.
    static ENGINE_IN: Cell<u64> = const { Cell::new(NOT_ENGINE) };
}

/// Starts a thread of the engine. It blocks all signals but those of its own faults, so that a
/// signal to the process always reaches a thread of the program. A fork is not refused for it.
///
/// The body must not take locks that a forked child could want: to a child it is as if the thread
/// had never been.
///
/// # Errors
///
/// If the system refuses another thread.
pub fn spawn_engine_thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let (threads, ids) = (ENGINE_THREADS.get(), ENGINE_IDS.get());
    let before = set_signal_mask(&all_but_faults());
    let thread = Builder::new().name(name.to_owned()).spawn(move || {
        ENGINE_IN.set(fork_generation());
        let _ended = CountDown(threads);
        let _listed = Listed::new(ids);
        body();
    });
    set_signal_mask(&before);
    if thread.is_ok() {
        threads.fetch_add(1, Ordering::SeqCst);
    }
    thread
}

/// Runs code of the program in a thread of the engine. Meanwhile the thread counts as one of the
/// program's, and forks are refused: it may hold any lock. A process that `body` itself forks ends
/// as it returns from `body`.
pub fn as_program_thread<R>(body: impl FnOnce() -> R) -> R {
    struct Engine {
        own: u64,
        threads: &'static AtomicIsize,
        ids: &'static Mutex<Vec<i32>>,
    }
    impl Drop for Engine {
        fn drop(&mut self) {
            if fork_generation() != self.own {
                // The copy would do the engine's work beside its parent. Another thread may have
                // held the lock of the standard stream, so it is not used.
                const TEXT: &str = "procession: a process that was forked in a callback has returned from it; \
                                    it ends now: end it by `_exit` in the callback\n";
                let _ = rustix::io::write(rustix::stdio::stderr(), TEXT.as_bytes());
                exit_now(1);
            }
            std::mem::forget(Listed::new(self.ids));
            self.threads.fetch_add(1, Ordering::SeqCst);
            ENGINE_IN.set(self.own);
        }
    }
    let own = ENGINE_IN.get();
    if own != fork_generation() {
        return body();
    }
    let (threads, ids) = (ENGINE_THREADS.get(), ENGINE_IDS.get());
    ENGINE_IN.set(NOT_ENGINE);
    threads.fetch_sub(1, Ordering::SeqCst);
    drop(Listed(ids));
    let _engine = Engine { own, threads, ids };
    body()
}

/// Returns how many threads this process has besides the caller and the engine's own. A thread that
/// was just joined may still be counted for an instant, and so may an engine thread that was just
/// made.
///
/// # Errors
///
/// If `/proc` cannot be read; the error of kind `NotFound` says what to do where there is none.
pub fn other_threads() -> io::Result<usize> {
    let is_engine = ENGINE_IN.get() == fork_generation();
    let engine = ENGINE_THREADS.get().load(Ordering::SeqCst) - isize::from(is_engine);
    let others = count()? as isize - 1 - engine;
    Ok(others.max(0).unsigned_abs())
}

/// Returns which threads those are that [`other_threads`] counts. Threads come and go, so their
/// number may be another by now. Returns none if `/proc` cannot be read.
pub(super) fn list_other_threads() -> Vec<OtherThread> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let mut not_other = ENGINE_IDS.get().lock().unwrap_or_else(PoisonError::into_inner).clone();
    not_other.push(current_id());
    let ids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
    let mut others: Vec<i32> = ids.filter(|id| !not_other.contains(id)).collect();
    others.sort_unstable();
    let named = others.into_iter().filter_map(|id| {
        let name = std::fs::read(format!("/proc/self/task/{id}/comm")).ok()?;
        Some(OtherThread { id, name: String::from_utf8_lossy(name.trim_ascii_end()).into_owned() })
    });
    named.collect()
}

fn current_id() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Returns whether the caller is the thread that the process began with.
pub fn is_main() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// Names the calling thread, and in a process's first thread the process, as `ps` and `top` show
/// it: the first 15 bytes.
pub fn set_process_name(name: &str) {
    let visible = name.split('\0').next().unwrap_or_default();
    let end = (0..=visible.len().min(15)).rfind(|end| visible.is_char_boundary(*end)).unwrap_or(0);
    let name = CString::new(&visible[..end]).expect("cut before the first NUL");
    // A security module may refuse it. The name is for people alone.
    let _ = rustix::thread::set_name(&name);
}

/// Returns the calling thread's name, as [`set_process_name`] or another has set it.
pub fn process_name() -> Vec<u8> {
    rustix::thread::name().map(CString::into_bytes).unwrap_or_default()
}

/// Blocks all signals but those of its own faults in the calling thread until it is dropped.
pub struct SignalsBlocked {
    before: libc::sigset_t,
    /// A mask belongs to one thread.
    _thread: PhantomData<*const ()>,
}

impl SignalsBlocked {
    /// Blocks them.
    #[expect(clippy::new_without_default, reason = "it changes the thread")]
    pub fn new() -> SignalsBlocked {
        SignalsBlocked { before: set_signal_mask(&all_but_faults()), _thread: PhantomData }
    }

    /// Returns the numbers of the signals that were blocked before.
    pub fn blocked_before(&self) -> Vec<i32> {
        let is_blocked = |signal: &i32| {
            // SAFETY: reads an initialised set; for a number that is no signal it returns -1.
            unsafe { libc::sigismember(&raw const self.before, *signal) == 1 }
        };
        (1..=libc::SIGRTMAX()).filter(is_blocked).collect()
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        set_signal_mask(&self.before);
    }
}

impl std::fmt::Debug for SignalsBlocked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignalsBlocked").finish_non_exhaustive()
    }
}

/// Has this process ignore SIGINT, as Ctrl-C sends it to a whole terminal, from now on. Programs
/// that it executes ignore it, too.
pub fn ignore_interrupt() {
    // SAFETY: SIG_IGN is no handler, so that no code of anybody's runs; SIGINT may be ignored.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
}

/// Unblocks all signals in the calling thread. For a child that an engine thread forked or that a
/// program with blocked signals executed.
pub fn unblock_all_signals() {
    set_signal_mask(&empty_set());
}

/// Blocks all signals but those of its own faults in the calling thread. For a process of the
/// engine.
pub(super) fn block_all_signals() {
    set_signal_mask(&all_but_faults());
}

/// Returns the number of threads of this process, the caller included.
pub(super) fn count() -> io::Result<usize> {
    let tasks = "/proc/self/task";
    // A directory's links are its own two and one per directory in it. The kernel derives it from
    // its count of threads.
    let links = rustix::fs::stat(tasks).map_err(uncounted)?.st_nlink as usize;
    if links >= 3 {
        return Ok(links - 2);
    }
    Ok(std::fs::read_dir(tasks)?.count())
}

fn uncounted(error: Errno) -> io::Error {
    if error != Errno::NOENT {
        return error.into();
    }
    let text = "/proc is not mounted, without which the threads that are in the way cannot be counted: mount it \
                (mount -t proc proc /proc)";
    io::Error::new(io::ErrorKind::NotFound, text)
}

pub(super) fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the whole set it is given.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Returns all signals but those of a thread's own faults. If a thread blocked a fault's signal,
/// the fault would kill the process without the handler that explains it.
fn all_but_faults() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the whole set it is given, and sigdelset takes known signals
    // off it.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS] {
            libc::sigdelset(set.as_mut_ptr(), fault);
        }
        set.assume_init()
    }
}

/// Sets the calling thread's mask and returns the mask before.
fn set_signal_mask(mask: &libc::sigset_t) -> libc::sigset_t {
    let mut before = empty_set();
    // SAFETY: reads one initialised set and writes another; changes only the calling thread's mask.
    let refused = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, &raw mut before) };
    assert_eq!(refused, 0, "pthread_sigmask takes any mask");
    before
}

/// The calling thread among the engine's.
struct Listed(&'static Mutex<Vec<i32>>);

impl Listed {
    fn new(ids: &'static Mutex<Vec<i32>>) -> Listed {
        ids.lock().unwrap_or_else(PoisonError::into_inner).push(current_id());
        Listed(ids)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let own = current_id();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| *id != own);
    }
}

struct CountDown(&'static AtomicIsize);

impl Drop for CountDown {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn an_engine_thread_blocks_signals_and_its_maker_does_not() {
        let before = set_signal_mask(&empty_set());
        let (tell, told) = mpsc::channel();
        let thread = spawn_engine_thread("engine", move || {
            let mask = set_signal_mask(&empty_set());
            // SAFETY: reads an initialised set.
            tell.send(unsafe { [libc::SIGINT, libc::SIGTERM, libc::SIGSEGV].map(|s| libc::sigismember(&mask, s)) })
                .unwrap();
        });
        thread.unwrap().join().unwrap();
        assert_eq!(told.recv().unwrap(), [1, 1, 0]);
        let mine = set_signal_mask(&before);
        // SAFETY: reads an initialised set.
        assert_eq!(unsafe { libc::sigismember(&mine, libc::SIGINT) }, 0);
    }

    #[test]
    fn a_programs_code_in_an_engine_thread_is_not_the_engines() {
        // Other tests start and end threads of either kind, so this one can only count its own.
        let thread = spawn_engine_thread("engine", || {
            assert_eq!(ENGINE_IN.get(), fork_generation());
            as_program_thread(|| {
                assert_eq!(ENGINE_IN.get(), NOT_ENGINE);
                as_program_thread(|| assert_eq!(ENGINE_IN.get(), NOT_ENGINE));
            });
            assert_eq!(ENGINE_IN.get(), fork_generation());
        });
        thread.unwrap().join().unwrap();
    }

    #[test]
    fn a_process_name_is_cut_between_characters() {
        std::thread::spawn(|| {
            for (name, shown) in
                [("worker", "worker"), ("fourteen bytes\u{e9}", "fourteen bytes"), ("nul\0here", "nul"), ("", "")]
            {
                set_process_name(name);
                assert_eq!(rustix::thread::name().unwrap().to_str().unwrap(), shown);
            }
        })
        .join()
        .unwrap();
    }
}
