//! Kills and stops a process that echoes over a pipe. Each answer is right, or the connection says
//! that it is closed or was cut off.

use std::time::{Duration, Instant};

use procession::{Connection, Context, pipe};

use crate::Tally;
use crate::weather::Weather;

const PATIENCE: Duration = Duration::from_secs(30);

type Frame = (u64, Vec<u8>);

pub(crate) fn storm(context: Context, weather: &mut Weather, end: Instant) -> Tally {
    let (mut echoed, mut cut) = (0, 0);
    while Instant::now() < end {
        let (ours, theirs) = pipe::<Frame, Frame>(true).expect("a pipe is made");
        let mut process = context.process(echo, theirs).start().expect("a process starts");
        let doom = 1 + weather.choose(300) as u64;
        for number in 0.. {
            if number == doom {
                weather.kill(process.pid());
            } else if weather.once_in(200) {
                weather.stop(process.pid());
                weather.pass();
            }
            let padding = vec![number as u8; if weather.once_in(20) { 100_000 } else { weather.choose(500) }];
            let len = padding.len();
            match ours.send(&(number, padding)).and_then(|()| receive(&ours, weather)) {
                Ok((back, padding)) => {
                    assert!((back, padding.len()) == (number, len) && padding.iter().all(|byte| *byte == number as u8));
                    echoed += 1;
                }
                Err(error) if error.is_closed() || error.is_malformed() => break,
                Err(error) => panic!("{error}"),
            }
            if weather.once_in(50) {
                weather.pass();
            }
        }
        weather.clear();
        process.join().expect_err("it is killed");
        cut += 1;
    }
    Tally::from([("echoes", echoed), ("connections cut", cut)])
}

/// Receives the answer, once the echoing process is continued.
fn receive(ours: &Connection<Frame, Frame>, weather: &mut Weather) -> procession::Result<Frame> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ours.recv_timeout(Duration::from_millis(5)) {
            Err(error) if error.is_timeout() && Instant::now() < deadline => weather.pass(),
            received => return received,
        }
    }
}

fn echo(connection: Connection<Frame, Frame>) {
    loop {
        match connection.recv() {
            Ok(frame) => connection.send(&frame).expect("its parent is there"),
            Err(error) if error.is_closed() => return,
            Err(error) => panic!("{error}"),
        }
    }
}
