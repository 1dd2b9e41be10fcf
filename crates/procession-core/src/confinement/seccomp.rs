//! Seccomp: a filter that says which system calls a child may make. The kernel runs it at each
//! call. Described as groups and numbers, compiled and installed in the child.
//!
//! Three filters are installed. The kernel takes the severest answer of all:
//!
//! | filter | answers |
//! |---|---|
//! | what the C library tries first and can do without | the error that makes it go on |
//! | what code asks for that gets by without, such as a backtrace that looks for its source | `EACCES` |
//! | what is neither in [`BASE`] nor allowed besides | kills the process (SIGSYS) |

use std::collections::BTreeMap;
use std::io;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};

use crate::wire::{Reader, Writer};

/// The system calls that a child may make: what procession itself needs, what Rust's standard
/// library and the C library need to compute with any number of threads, to print and to measure
/// time, and what is allowed besides. Any other call kills the child, and its task fails with an
/// error that names the filter; looking at files fails with `EACCES` instead.
///
/// A child can use files, sockets and pipes that are open already, also those that come as handles
/// with its tasks.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Seccomp {
    groups: u8,
    /// Numbers of further calls.
    calls: Vec<i64>,
}

const FILES: u8 = 1;
const NETWORK: u8 = 2;
const PROCESSES: u8 = 4;

/// Always allowed. `clone`, `prlimit64` and `socketpair` are, beside these, with some arguments.
const BASE: &[c_long] = &[
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_membarrier,
    // Names of threads and of memory, which the C library sets by it.
    libc::SYS_prctl,
    // Memory that is shared: the pool's, and what is too large for a message.
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_memfd_create,
    // Files that are open already.
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_fcntl,
    libc::SYS_fsync,
    libc::SYS_lseek,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pselect6,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_write,
    libc::SYS_writev,
    // Waiting, time, chance.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Threads and signals of its own, and its end.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_get_robust_list,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    // Facts of the process itself and of the machine.
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getuid,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_times,
    libc::SYS_uname,
    // As clone: it says ENOSYS, and the C library uses clone.
    libc::SYS_clone3,
];

/// Those of [`BASE`] that only x86-64 has.
#[cfg(target_arch = "x86_64")]
const BASE_OF_ARCH: &[c_long] =
    &[libc::SYS_arch_prctl, libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_select, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const BASE_OF_ARCH: &[c_long] = &[];

/// Calls that fail with `EACCES` unless a group allows them: code gets by without.
const REFUSED: &[c_long] = &[
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_ioctl,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_readlinkat,
    libc::SYS_statfs,
    libc::SYS_statx,
];
#[cfg(target_arch = "x86_64")]
const REFUSED_OF_ARCH: &[c_long] =
    &[libc::SYS_access, libc::SYS_lstat, libc::SYS_open, libc::SYS_readlink, libc::SYS_stat];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_OF_ARCH: &[c_long] = &[];

/// Of [`FILES`], beside those of [`REFUSED`].
const FILE_CALLS: &[c_long] = &[
    libc::SYS_chdir,
    libc::SYS_copy_file_range,
    libc::SYS_fadvise64,
    libc::SYS_fchdir,
    libc::SYS_fchmodat,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstatfs,
    libc::SYS_linkat,
    libc::SYS_mkdirat,
    libc::SYS_renameat2,
    libc::SYS_sendfile,
    libc::SYS_symlinkat,
    libc::SYS_truncate,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_umask,
];
#[cfg(target_arch = "x86_64")]
const FILE_CALLS_OF_ARCH: &[c_long] = &[
    libc::SYS_chmod,
    libc::SYS_link,
    libc::SYS_mkdir,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_rmdir,
    libc::SYS_symlink,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const FILE_CALLS_OF_ARCH: &[c_long] = &[libc::SYS_renameat];

const NETWORK_CALLS: &[c_long] = &[
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_setsockopt,
    libc::SYS_socket,
    libc::SYS_socketpair,
];

const PROCESS_CALLS: &[c_long] = &[
    libc::SYS_clone,
    libc::SYS_close_range,
    libc::SYS_dup3,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_kill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pipe2,
    libc::SYS_setpgid,
    libc::SYS_setsid,
    libc::SYS_wait4,
    libc::SYS_waitid,
];
#[cfg(target_arch = "x86_64")]
const PROCESS_CALLS_OF_ARCH: &[c_long] =
    &[libc::SYS_dup2, libc::SYS_fork, libc::SYS_getpgrp, libc::SYS_pipe, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const PROCESS_CALLS_OF_ARCH: &[c_long] = &[];

impl Seccomp {
    /// Allows what procession and the standard library need to compute.
    pub fn new() -> Seccomp {
        Seccomp::default()
    }

    /// Allows to open, read, write, make, rename and delete files, and to look at folders.
    #[must_use]
    pub fn allow_files(self) -> Seccomp {
        self.with(FILES)
    }

    /// Allows to make sockets and to use them.
    #[must_use]
    pub fn allow_network(self) -> Seccomp {
        self.with(NETWORK)
    }

    /// Allows to start processes, to wait for them and to signal any process of the same user.
    #[must_use]
    pub fn allow_processes(self) -> Seccomp {
        self.with(PROCESSES)
    }

    /// Allows calls by their numbers, such as the crate `libc` has (`libc::SYS_ioctl`). They are
    /// the processor's: x86-64 and aarch64 have others.
    #[must_use]
    pub fn allow(mut self, calls: impl IntoIterator<Item = i64>) -> Seccomp {
        self.calls.extend(calls);
        self
    }

    fn with(self, group: u8) -> Seccomp {
        Seccomp { groups: self.groups | group, ..self }
    }

    /// Has the kernel hold this process to it.
    pub(super) fn install(&self) -> io::Result<()> {
        for filter in self.filters().map_err(io::Error::other)? {
            apply_filter_all_threads(&filter).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn filters(&self) -> Result<Vec<BpfProgram>, Box<dyn std::error::Error + Send + Sync>> {
        let has = |group| self.groups & group != 0;
        let mut allowed: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        let mut allow = |calls: &[c_long]| allowed.extend(calls.iter().map(|call| (*call, Vec::new())));
        // First, as a rule without conditions replaces one that has some.
        allow(BASE);
        allow(BASE_OF_ARCH);
        // Another filter answers these.
        allow(REFUSED);
        allow(REFUSED_OF_ARCH);
        if has(FILES) {
            allow(FILE_CALLS);
            allow(FILE_CALLS_OF_ARCH);
        }
        if has(NETWORK) {
            allow(NETWORK_CALLS);
        }
        if has(PROCESSES) {
            allow(PROCESS_CALLS);
            allow(PROCESS_CALLS_OF_ARCH);
        }
        allow(&self.calls);
        let with_some_arguments = [
            (libc::SYS_clone, new_thread()?),
            (libc::SYS_prlimit64, look_at_limit()?),
            (libc::SYS_socketpair, private_pair()?),
        ];
        for (call, rule) in with_some_arguments {
            allowed.entry(call).or_insert_with(|| vec![rule]);
        }
        let is_free = |call: &c_long| has(FILES) && *call != libc::SYS_ioctl || self.calls.contains(call);
        let refused = REFUSED.iter().chain(REFUSED_OF_ARCH).filter(|call| !is_free(call));
        let mut refused: BTreeMap<i64, Vec<SeccompRule>> = refused.map(|call| (*call, Vec::new())).collect();
        if !self.calls.contains(&libc::SYS_prctl) {
            refused.insert(libc::SYS_prctl, vec![odd_prctl()?]);
        }
        let mut missing = BTreeMap::new();
        if !has(PROCESSES) && !self.calls.contains(&libc::SYS_clone3) {
            missing.insert(libc::SYS_clone3, Vec::new());
        }
        let errno = |number: i32| SeccompAction::Errno(number as u32);
        let answers = [(missing, errno(libc::ENOSYS)), (refused, errno(libc::EACCES))];
        let mut programs = Vec::new();
        for (calls, answer) in answers.into_iter().filter(|(calls, _)| !calls.is_empty()) {
            programs.push(compiled(calls, SeccompAction::Allow, answer)?);
        }
        // The last, since it allows no further filter.
        programs.push(compiled(allowed, SeccompAction::KillProcess, SeccompAction::Allow)?);
        Ok(programs)
    }
}

/// `clone`, if it makes a thread.
fn new_thread() -> Result<SeccompRule, BackendError> {
    let flag = libc::CLONE_THREAD as u64;
    argument(0, SeccompCmpOp::MaskedEq(flag), flag).and_then(|flag| SeccompRule::new(vec![flag]))
}

/// `prlimit64`, if it sets no limit.
fn look_at_limit() -> Result<SeccompRule, BackendError> {
    argument(2, SeccompCmpOp::Eq, 0).and_then(|new| SeccompRule::new(vec![new]))
}

/// `socketpair`, if the sockets lead nowhere else: so a worker asks for the handles of its tasks.
fn private_pair() -> Result<SeccompRule, BackendError> {
    argument(0, SeccompCmpOp::Eq, libc::AF_UNIX as u64).and_then(|family| SeccompRule::new(vec![family]))
}

/// `prctl`, unless it is for what the C library and the installing of filters need.
fn odd_prctl() -> Result<SeccompRule, BackendError> {
    const PR_SET_VMA: i32 = 0x5356_4d41;
    let known = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_NO_NEW_PRIVS, PR_SET_VMA];
    let others = known.map(|option| argument(0, SeccompCmpOp::Ne, option as u64));
    SeccompRule::new(others.into_iter().collect::<Result<_, _>>()?)
}

fn argument(index: u8, is: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Qword, is, value)
}

fn compiled(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    other: SeccompAction,
    matching: SeccompAction,
) -> Result<BpfProgram, Box<dyn std::error::Error + Send + Sync>> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, other, matching, arch)?.try_into()?)
}

pub(super) fn write(seccomp: Option<&Seccomp>, writer: Writer) -> Writer {
    let Some(Seccomp { groups, calls }) = seccomp else { return writer.u8(0) };
    let writer = writer.u8(1).u8(*groups).u32(calls.len() as u32);
    calls.iter().fold(writer, |writer, call| writer.u64(call.cast_unsigned()))
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Option<Seccomp>> {
    if reader.u8()? == 0 {
        return Some(None);
    }
    let (groups, count) = (reader.u8()?, reader.u32()?);
    let calls = (0..count).map(|_| reader.u64().map(u64::cast_signed)).collect::<Option<_>>()?;
    Some(Some(Seccomp { groups, calls }))
}
