//! Messages between three ranks: of every length around that of a piece, from several ranks at
//! once, and in the order in which they were sent. Started without a job, this program starts
//! itself in one.

use std::os::unix::process::CommandExt;
use std::process::Command;

use procession_mpi::{Post, launcher};
use procession_testing::watchdog;

const RANKS: usize = 3;
const PIECE: usize = 1000;
const ROUNDS: usize = 20;

fn main() {
    if launcher().is_none() {
        let mut command = Command::new("mpiexec");
        for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_mpi_yield_when_idle"] {
            command.env(name, "1");
        }
        let program = std::env::current_exe().unwrap();
        let error = command.args(["--oversubscribe", "-n", &RANKS.to_string()]).arg(program).exec();
        panic!("cannot run mpiexec: {error}");
    }
    let _watch = watchdog::watch("messages between ranks", std::time::Duration::from_secs(60));
    let mut post = Post::with_pieces(PIECE).unwrap();
    assert_eq!(post.size(), RANKS);
    assert!(!post.host().unwrap().is_empty());
    if post.rank() == 0 {
        gather(&mut post)
    } else {
        scatter(&mut post)
    }
    while post.is_sending() {
        post.finish_sends().unwrap();
    }
    let rank = post.rank();
    post.finalize().unwrap();
    if rank == 0 {
        println!("every message came whole and in order");
    }
}

/// The messages that a rank sends, in their order.
fn messages(rank: usize) -> impl Iterator<Item = Vec<u8>> {
    let lengths = [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 7 * PIECE + 3, 500 * PIECE];
    let of = move |(number, len): (usize, usize)| (0..len).map(|at| (at * rank + number) as u8).collect();
    (0..ROUNDS).flat_map(move |_| lengths).enumerate().map(of)
}

/// Rank 0: takes what the others send as it comes, and sends each message back.
fn gather(post: &mut Post) {
    let mut expected: Vec<_> = (1..RANKS).map(messages).collect();
    let mut left = RANKS - 1;
    while left > 0 {
        let Some((from, message)) = post.receive().unwrap() else { continue };
        if message == b"the end" {
            left -= 1;
            assert!(expected[from - 1].next().is_none(), "rank {from} has sent all");
            continue;
        }
        assert!(expected[from - 1].next().as_ref() == Some(&message), "{} bytes of rank {from}", message.len());
        post.send(from, message).unwrap();
    }
}

/// The other ranks: send without waiting, and then take what comes back.
fn scatter(post: &mut Post) {
    messages(post.rank()).for_each(|message| post.send(0, message).unwrap());
    post.send(0, b"the end".to_vec()).unwrap();
    let mut expected = messages(post.rank()).peekable();
    while expected.peek().is_some() {
        if let Some((from, message)) = post.receive().unwrap() {
            assert!(from == 0 && expected.next() == Some(message));
        }
    }
}
