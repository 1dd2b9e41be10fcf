//! Random SIGKILLs over producers and consumers of one ring: every frame that was committed arrives once, or is the one
//! that a dead consumer was at.
//!
//! `KILL_STORM_SEED` replays a run's choices (the instants are the machine's), `KILL_STORM_SECONDS` lengthens it.

#[path = "../../procession-sys/tests/time_scale/mod.rs"]
mod time_scale;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use procession_shm::{Arrival, ClaimLimit, Control, Spin, StreamReader, record};
use procession_sys::Signal;
use procession_sys::fork::fork;
use procession_sys::pidfd::PidFd;
use procession_sys::thread::spawn_engine_thread;

const PRODUCERS: usize = 3;
const CONSUMERS: usize = 3;

fn main() {
    let seconds = number_from("KILL_STORM_SECONDS").unwrap_or(2);
    let seed = number_from("KILL_STORM_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_nanos() as u64
    });
    println!("seed {seed}, {seconds} s");
    let limit = Duration::from_secs(seconds) + time_scale::scaled(Duration::from_secs(60));
    spawn_engine_thread("watchdog", move || {
        std::thread::sleep(limit);
        eprintln!("kill_storm hangs: seed {seed}");
        std::process::exit(101);
    })
    .unwrap();
    Storm::new(seed).run(Duration::from_secs(seconds));
}

fn number_from(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

struct Storm {
    control: Control,
    random: u64,
    producers: Vec<PidFd>,
    consumers: Vec<(PidFd, StreamReader)>,
    next_producer: u64,
    /// Of each producer, how often each of its frames has arrived, by sequence.
    arrived: BTreeMap<u64, Vec<u8>>,
    lost: Vec<(u64, u64)>,
    kills: u32,
}

impl Storm {
    fn new(seed: u64) -> Storm {
        let control = Control::create(CONSUMERS).unwrap();
        let (producers, consumers) = (Vec::new(), Vec::new());
        let (arrived, lost) = (BTreeMap::new(), Vec::new());
        Storm { control, random: seed | 1, producers, consumers, next_producer: 0, arrived, lost, kills: 0 }
    }

    fn run(mut self, length: Duration) {
        for _ in 0..PRODUCERS {
            let producer = self.produce();
            self.producers.push(producer);
        }
        for slot in 0..CONSUMERS {
            let consumer = self.consume(slot);
            self.consumers.push((consumer, StreamReader::default()));
        }
        let end = Instant::now() + length;
        // A machine that is busy with something else has the storm last longer; the watchdog is what bounds it.
        while Instant::now() < end || self.kills <= 20 || self.frames() <= 1000 {
            std::thread::sleep(Duration::from_micros(self.choose(800)));
            (0..CONSUMERS).for_each(|slot| self.drain(slot));
            self.replace_producer();
            std::thread::sleep(Duration::from_micros(self.choose(400)));
            self.replace_consumer();
        }
        for producer in std::mem::take(&mut self.producers) {
            producer.signal(Signal::KILL).unwrap();
            producer.reap().unwrap();
        }
        self.control.close();
        loop {
            self.control.task_gate().wake(CONSUMERS as u32);
            (0..CONSUMERS).for_each(|slot| self.drain(slot));
            if self.consumers.iter().all(|(consumer, _)| consumer.has_ended().unwrap()) {
                break;
            }
        }
        (0..CONSUMERS).for_each(|slot| self.drain(slot));
        self.consumers.iter().for_each(|(consumer, _)| assert!(consumer.reap().unwrap().success()));
        self.judge();
    }

    fn produce(&mut self) -> PidFd {
        let id = self.next_producer;
        self.next_producer += 1;
        let control = &self.control;
        fork(None, || {
            for sequence in 0u64.. {
                // Some are large, so that the ring grows and shrinks.
                let padding = vec![0; if sequence % 97 == 96 { 40_000 } else { sequence as usize % 200 }];
                let parts: [&[u8]; 3] = [&id.to_le_bytes(), &sequence.to_le_bytes(), &padding];
                control.tasks().lock_tail().unwrap().push(&parts).unwrap();
                control.task_gate().wake(1);
                while control.tasks().len() > 2000 {
                    std::thread::yield_now();
                }
            }
            0
        })
        .unwrap()
    }

    fn consume(&self, slot: usize) -> PidFd {
        let control = &self.control;
        fork(None, || {
            let (own, stream) = (control.slot(slot), control.stream(slot));
            loop {
                let limit = ClaimLimit { max_frames: 8, max_bytes: 64 * 1024 };
                if control.tasks().lock_head(slot as u32 + 1).unwrap().claim(own, limit).unwrap() == 0 {
                    if control.is_closed() {
                        return 0;
                    }
                    let news = || !control.tasks().is_empty() || control.is_closed();
                    control.task_gate().wait_until(None, &Spin::none(), news);
                }
                while let Some(frame) = own.begin_next() {
                    if !stream.writer().write_value(&frame[..16]) {
                        stream.write(0, &[&frame[..16]], control.result_gate());
                    }
                }
            }
        })
        .unwrap()
    }

    fn drain(&mut self, slot: usize) {
        let arrived = &mut self.arrived;
        self.consumers[slot]
            .1
            .drain(self.control.stream(slot), |arrival| {
                let Arrival::Values(count, mut values) = arrival else { panic!("only values are written") };
                for _ in 0..count {
                    let (_, payload) = record::take(&mut values).unwrap();
                    let (producer, sequence) = identity(payload);
                    *times(arrived, producer, sequence) += 1;
                }
            })
            .unwrap();
    }

    fn replace_producer(&mut self) {
        let victim = self.choose(PRODUCERS as u64) as usize;
        self.producers[victim].signal(Signal::KILL).unwrap();
        self.producers[victim].reap().unwrap();
        self.kills += 1;
        self.producers[victim] = self.produce();
    }

    fn replace_consumer(&mut self) {
        let slot = self.choose(CONSUMERS as u64) as usize;
        self.consumers[slot].0.signal(Signal::KILL).unwrap();
        self.consumers[slot].0.reap().unwrap();
        self.kills += 1;
        let own = self.control.slot(slot);
        let (back, begun) =
            (self.control.tasks().lock_head(0).unwrap().take_back(own).unwrap(), own.last_begun().unwrap());
        self.drain(slot);
        if let Some(frame) = begun {
            let (producer, sequence) = identity(&frame);
            if *times(&mut self.arrived, producer, sequence) == 0 {
                self.lost.push((producer, sequence));
            }
        }
        for frame in back {
            self.control.tasks().lock_tail().unwrap().push(&[&frame]).unwrap();
        }
        self.control.slot(slot).reset();
        self.control.stream(slot).reset();
        self.consumers[slot] = (self.consume(slot), StreamReader::default());
    }

    fn judge(mut self) {
        assert!(self.control.tasks().is_empty());
        let lost = self.lost.len();
        for (producer, sequence) in self.lost.drain(..) {
            let earlier = std::mem::replace(times(&mut self.arrived, producer, sequence), 1);
            assert_eq!(earlier, 0, "frame {sequence} of producer {producer} was lost, and arrived");
        }
        for (producer, sequences) in &self.arrived {
            for (sequence, times) in sequences.iter().enumerate() {
                assert_eq!(*times, 1, "frame {sequence} of producer {producer}, of {}, arrives once", sequences.len());
            }
        }
        println!("{} kills, {} frames, {lost} lost with the consumer that was at them", self.kills, self.frames());
    }

    fn frames(&self) -> usize {
        self.arrived.values().map(Vec::len).sum()
    }

    fn choose(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }
}

fn times(arrived: &mut BTreeMap<u64, Vec<u8>>, producer: u64, sequence: u64) -> &mut u8 {
    let sequences = arrived.entry(producer).or_default();
    let len = sequences.len().max(sequence as usize + 1);
    sequences.resize(len, 0);
    &mut sequences[sequence as usize]
}

fn identity(frame: &[u8]) -> (u64, u64) {
    (u64::from_le_bytes(frame[..8].try_into().unwrap()), u64::from_le_bytes(frame[8..16].try_into().unwrap()))
}
