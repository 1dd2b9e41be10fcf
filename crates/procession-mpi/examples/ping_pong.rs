//! The round trip of a message of 8 bytes between two ranks, by MPI's own blocking calls and by
//! this crate: what MPI itself costs on this machine.
//!
//! ```console
//! $ mpiexec -n 2 target/release/examples/ping_pong
//! ```

// The calls that it measures are MPI's.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use mpi_sys as ffi;
use procession_mpi::Post;

const TIMES: usize = 20_000;

fn main() -> procession_mpi::Result<()> {
    let mut post = Post::init()?;
    if post.size() != 2 {
        eprintln!("this takes 2 ranks, not {}: mpiexec -n 2 ...", post.size());
        std::process::exit(2);
    }
    let is_first = post.rank() == 0;
    let other = 1 - post.rank();
    let blocking = median(|| {
        if is_first { send(other).and_then(|()| receive(other)) } else { receive(other).and_then(|()| send(other)) }
    });
    let by_post = median(|| {
        if is_first {
            post.send(other, vec![0; 8])?;
            wait(&mut post)
        } else {
            wait(&mut post)?;
            post.send(other, vec![0; 8])
        }
    });
    let (blocking, by_post) = (blocking?, by_post?);
    if is_first {
        println!("ping-pong by MPI_Send and MPI_Recv  {:8.2} us", micros(blocking));
        println!("ping-pong by procession-mpi         {:8.2} us", micros(by_post));
    }
    post.finalize()
}

fn wait(post: &mut Post) -> procession_mpi::Result<()> {
    while post.receive()?.is_none() {
        std::thread::yield_now();
    }
    Ok(())
}

fn send(to: usize) -> procession_mpi::Result<()> {
    let bytes = [0_u8; 8];
    // SAFETY: MPI is initialized, the buffer is as long as is said, and the other rank is there. An
    // error ends the job, as this communicator's errors are looked at by nobody here.
    let code =
        unsafe { ffi::MPI_Send(bytes.as_ptr().cast(), 8, ffi::RSMPI_UINT8_T, to as i32, 0, ffi::RSMPI_COMM_WORLD) };
    assert_eq!(code, 0, "MPI_Send failed");
    Ok(())
}

fn receive(from: usize) -> procession_mpi::Result<()> {
    let mut bytes = [0_u8; 8];
    // SAFETY: as in `send`; MPI writes no more than 8 bytes. No status is wanted.
    let code = unsafe {
        let (kind, world) = (ffi::RSMPI_UINT8_T, ffi::RSMPI_COMM_WORLD);
        ffi::MPI_Recv(bytes.as_mut_ptr().cast(), 8, kind, from as i32, 0, world, ffi::RSMPI_STATUS_IGNORE)
    };
    assert_eq!(code, 0, "MPI_Recv failed");
    Ok(())
}

fn median(mut once: impl FnMut() -> procession_mpi::Result<()>) -> procession_mpi::Result<Duration> {
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let begun = Instant::now();
        once()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[TIMES / 2])
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
