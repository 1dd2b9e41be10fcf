//! Sends messages to other ranks of the job and receives theirs. All of MPI goes through one
//! [`Post`], which one thread at a time uses (`MPI_THREAD_SERIALIZED`).
//!
//! A message goes in pieces, because MPI counts a piece's bytes by an `int`. MPI keeps the order of
//! what one rank sends to another, so a tag is enough to say whether more of the message follows.
//!
//! No call waits for another rank, except those that say so. Sends are non-blocking: their bytes
//! are kept until MPI has taken them. Messages are received from whichever rank has sent one, at
//! the same cost for any number of ranks.

// Every call of MPI is one into C.
#![allow(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

use mpi_sys as ffi;

use crate::error::{Error, Result, check};

/// The tag of a piece that more of its message follows.
const MORE: c_int = 1;
/// The tag of a message's last piece.
const LAST: c_int = 0;
/// The longest piece: well below the greatest `int`.
const MAX_PIECE: usize = 1 << 30;

/// This process as a rank of its job.
#[derive(Debug)]
pub struct Post {
    comm: ffi::MPI_Comm,
    rank: usize,
    size: usize,
    max_piece: usize,
    /// Sends that MPI has not finished, in their order.
    sending: VecDeque<Sending>,
    /// The pieces so far of messages whose last one is still to come, by the rank that sends.
    arriving: HashMap<usize, Vec<u8>>,
}

// SAFETY: what makes it other than `Send` are MPI's handles, which are addresses in some libraries.
// MPI lets any thread of the process use them, one at a time: `init` asks for
// MPI_THREAD_SERIALIZED, and every method takes `&mut self`.
unsafe impl Send for Post {}

/// A send that MPI has not finished.
#[derive(Debug)]
struct Sending {
    requests: Vec<ffi::MPI_Request>,
    /// MPI reads them until the requests are finished. On the heap, so that they stay where they
    /// are.
    _bytes: Vec<u8>,
}

impl Post {
    /// Initializes MPI. Waits until the other ranks of the job do so too.
    ///
    /// # Errors
    ///
    /// If MPI has been initialized before, or cannot be used by several threads in turn.
    pub fn init() -> Result<Post> {
        Post::with_pieces(MAX_PIECE)
    }

    /// As [`init`](Post::init), with another length of the longest piece. A receiver takes pieces
    /// of any length.
    ///
    /// # Errors
    ///
    /// As [`init`](Post::init).
    pub fn with_pieces(max_piece: usize) -> Result<Post> {
        let mut is_initialized = 0;
        // SAFETY: MPI allows this call at any time; it writes the number.
        check("MPI_Initialized", unsafe { ffi::MPI_Initialized(&raw mut is_initialized) })?;
        if is_initialized != 0 {
            return Err(Error::new(
                "MPI_Init_thread",
                "the program has initialized MPI itself: leave that to procession",
            ));
        }
        let mut provided = 0;
        // SAFETY: null stands for the program's arguments since MPI 2. MPI is not initialized, as
        // was just seen, and the caller's thread is the first to do so.
        let (wanted, code) = unsafe {
            let wanted = ffi::RSMPI_THREAD_SERIALIZED;
            (wanted, ffi::MPI_Init_thread(ptr::null_mut(), ptr::null_mut(), wanted, &raw mut provided))
        };
        check("MPI_Init_thread", code)?;
        if provided < wanted {
            let why = "the MPI library can be used by one thread of a process only (it provides less than \
                       MPI_THREAD_SERIALIZED): take one that was built with support for threads";
            // SAFETY: MPI was initialized above.
            check("MPI_Finalize", unsafe { ffi::MPI_Finalize() })?;
            return Err(Error::new("MPI_Init_thread", why));
        }
        let mut comm = MaybeUninit::uninit();
        let (mut rank, mut size) = (0, 0);
        // SAFETY: MPI is initialized, the world is a communicator, and each call writes what its
        // pointer is for. `comm` is read only if MPI says that it has made one.
        unsafe {
            let world = ffi::RSMPI_COMM_WORLD;
            check("MPI_Comm_set_errhandler", ffi::MPI_Comm_set_errhandler(world, ffi::RSMPI_ERRORS_RETURN))?;
            // Of its own, so that no message of the program's is taken for one of these.
            check("MPI_Comm_dup", ffi::MPI_Comm_dup(world, comm.as_mut_ptr()))?;
            let comm = comm.assume_init();
            check("MPI_Comm_set_errhandler", ffi::MPI_Comm_set_errhandler(comm, ffi::RSMPI_ERRORS_RETURN))?;
            check("MPI_Comm_rank", ffi::MPI_Comm_rank(comm, &raw mut rank))?;
            check("MPI_Comm_size", ffi::MPI_Comm_size(comm, &raw mut size))?;
            Ok(Post {
                comm,
                rank: number("MPI_Comm_rank", rank)?,
                size: number("MPI_Comm_size", size)?,
                max_piece: max_piece.clamp(1, MAX_PIECE),
                sending: VecDeque::new(),
                arriving: HashMap::new(),
            })
        }
    }

    /// Returns which rank this process is.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Returns how many ranks the job has.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns the name of this process's machine.
    ///
    /// # Errors
    ///
    /// If MPI does not know it.
    pub fn host(&self) -> Result<String> {
        let mut name = [0_u8; ffi::MPI_MAX_PROCESSOR_NAME as usize];
        let mut len = 0;
        // SAFETY: MPI is initialized, and writes no more than the buffer is long.
        let code = unsafe { ffi::MPI_Get_processor_name(name.as_mut_ptr().cast(), &raw mut len) };
        check("MPI_Get_processor_name", code)?;
        let name = name.get(..number("MPI_Get_processor_name", len)?).unwrap_or_default();
        Ok(String::from_utf8_lossy(name).into_owned())
    }

    /// Begins to send a message.
    ///
    /// # Errors
    ///
    /// If MPI refuses it, for one because that rank is gone.
    ///
    /// # Panics
    ///
    /// If there is no such rank.
    pub fn send(&mut self, to: usize, message: Vec<u8>) -> Result<()> {
        assert!(to < self.size, "the job has {} ranks, and no rank {to}", self.size);
        self.finish_sends()?;
        let mut requests = Vec::with_capacity(1);
        let mut begin = |piece: &[u8], tag| {
            let mut request = MaybeUninit::uninit();
            // SAFETY: MPI is initialized, `to` is a rank of the communicator, and the length is no
            // more than `MAX_PIECE`. The piece stays where it is and as it is until the request is
            // finished: it is in `message`, which goes into `sending` below, whatever happens
            // here. The request is read only if MPI says that it has made one.
            unsafe {
                let bytes = piece.as_ptr().cast::<c_void>();
                let (len, kind) = (piece.len() as c_int, ffi::RSMPI_UINT8_T);
                let code = ffi::MPI_Isend(bytes, len, kind, to as c_int, tag, self.comm, request.as_mut_ptr());
                check("MPI_Isend", code).map(|()| requests.push(request.assume_init()))
            }
        };
        let whole = message.len().saturating_sub(1) / self.max_piece;
        let (front, last) = message.split_at(whole * self.max_piece);
        let sent =
            front.chunks(self.max_piece).try_for_each(|piece| begin(piece, MORE)).and_then(|()| begin(last, LAST));
        self.sending.push_back(Sending { requests, _bytes: message });
        sent
    }

    /// Returns whether MPI has yet to finish sends.
    pub fn is_sending(&self) -> bool {
        !self.sending.is_empty()
    }

    /// Lets go of the sends that MPI has finished.
    ///
    /// # Errors
    ///
    /// If MPI could not finish one.
    pub fn finish_sends(&mut self) -> Result<()> {
        while let Some(first) = self.sending.front_mut() {
            while let Some(request) = first.requests.last_mut() {
                let mut is_finished = 0;
                // SAFETY: the request is one that MPI_Isend has made, and MPI has not finished it
                // before, as it would have been removed. No status is wanted.
                let code = unsafe { ffi::MPI_Test(request, &raw mut is_finished, ffi::RSMPI_STATUS_IGNORE) };
                if code == ffi::MPI_SUCCESS as c_int && is_finished == 0 {
                    return Ok(());
                }
                // Also one that has failed is over.
                first.requests.pop();
                check("MPI_Isend", code)?;
            }
            self.sending.pop_front();
        }
        Ok(())
    }

    /// Returns a message that has come, and the rank that has sent it; `None` if there is none now.
    ///
    /// # Errors
    ///
    /// If MPI refuses, for one because a rank is gone.
    pub fn receive(&mut self) -> Result<Option<(usize, Vec<u8>)>> {
        self.finish_sends()?;
        let mut is_there = 0;
        let (mut message, mut status) = (MaybeUninit::uninit(), MaybeUninit::<ffi::MPI_Status>::uninit());
        loop {
            // SAFETY: MPI is initialized. It writes the message and its status if it says that one
            // is there, and they are read only then. The message is received at once, so that it is
            // received once.
            let (from, tag, mut piece, len) = unsafe {
                let (any, comm) = (ffi::RSMPI_ANY_SOURCE, self.comm);
                let (found, its) = (message.as_mut_ptr(), status.as_mut_ptr());
                let code = ffi::MPI_Improbe(any, ffi::RSMPI_ANY_TAG, comm, &raw mut is_there, found, its);
                check("MPI_Improbe", code)?;
                if is_there == 0 {
                    return Ok(None);
                }
                let mut count = 0;
                check("MPI_Get_count", ffi::MPI_Get_count(its, ffi::RSMPI_UINT8_T, &raw mut count))?;
                let len = number("MPI_Get_count", count)?;
                let status = status.assume_init_ref();
                let from = number("MPI_Improbe", status.MPI_SOURCE)?;
                let tag = status.MPI_TAG;
                let mut piece = self.arriving.remove(&from).unwrap_or_default();
                piece.reserve_exact(len);
                let room = piece.spare_capacity_mut().as_mut_ptr().cast::<c_void>();
                let (kind, ignored) = (ffi::RSMPI_UINT8_T, ffi::RSMPI_STATUS_IGNORE);
                check("MPI_Mrecv", ffi::MPI_Mrecv(room, count, kind, message.as_mut_ptr(), ignored))?;
                (from, tag, piece, len)
            };
            let len = piece.len() + len;
            // SAFETY: MPI has written so many bytes behind those that were there, into room that
            // was reserved.
            unsafe { piece.set_len(len) };
            if tag == LAST {
                return Ok(Some((from, piece)));
            }
            self.arriving.insert(from, piece);
        }
    }

    /// Ends this process's part in the job. Waits until the other ranks do so too.
    ///
    /// # Errors
    ///
    /// If MPI refuses.
    pub fn finalize(mut self) -> Result<()> {
        // SAFETY: MPI is initialized, and this call is its last, as `self` is gone then. The
        // communicator was made by MPI_Comm_dup. The sends that are left are finished first.
        unsafe {
            for sending in &mut self.sending {
                for request in &mut sending.requests {
                    check("MPI_Wait", ffi::MPI_Wait(request, ffi::RSMPI_STATUS_IGNORE))?;
                }
            }
            check("MPI_Comm_free", ffi::MPI_Comm_free(&raw mut self.comm))?;
            check("MPI_Finalize", ffi::MPI_Finalize())
        }
    }

    /// Ends all ranks of the job, with this exit code if the launcher can.
    pub fn abort(self, code: i32) -> ! {
        // SAFETY: MPI is initialized. The call ends this process; if it does not, the exit does.
        unsafe { ffi::MPI_Abort(self.comm, code) };
        std::process::exit(code)
    }
}

/// A number that MPI has written.
fn number(call: &'static str, number: c_int) -> Result<usize> {
    usize::try_from(number).map_err(|_| Error::new(call, format!("it says {number}")))
}
