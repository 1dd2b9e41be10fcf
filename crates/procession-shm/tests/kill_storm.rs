//! Random SIGKILLs over the workers of a task ring, and over producers and consumers of a queue.
//! Every frame that was committed arrives once, or a dead consumer was reading it.
//!
//! `KILL_STORM_SEED` replays a run's choices (the machine decides the instants),
//! `KILL_STORM_SECONDS` lengthens it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use procession_shm::{Arrival, ClaimLimit, Control, Queue, Spin, StreamReader, record};
use procession_sys::Signal;
use procession_sys::fork::fork;
use procession_sys::pidfd::PidFd;
use procession_testing::{Random, once, run, storm, tests};

const PRODUCERS: usize = 3;
const CONSUMERS: usize = 3;

fn main() {
    run(tests! {
        once: [tasks_arrive_once_whichever_workers_are_killed, items_arrive_once_whichever_processes_are_killed],
    })
}

fn tasks_arrive_once_whichever_workers_are_killed() {
    Storm::over(Source::Tasks { next: 0 });
}

fn items_arrive_once_whichever_processes_are_killed() {
    Storm::over(Source::Queue(Queue::create(0, false).unwrap()));
}

/// The source of frames.
enum Source {
    /// The task ring, which this process fills as its parent. The next sequence.
    Tasks { next: u64 },
    /// A queue, filled by processes.
    Queue(Queue),
}

struct Storm {
    source: Source,
    /// The streams bring the frames back, whatever the source.
    control: Control,
    random: Random,
    producers: Vec<PidFd>,
    consumers: Vec<(PidFd, StreamReader)>,
    next_producer: u64,
    /// For each producer, how often each of its frames has arrived, by sequence.
    arrived: BTreeMap<u64, Vec<u8>>,
    lost: Vec<(u64, u64)>,
    kills: u32,
}

impl Storm {
    fn over(source: Source) {
        let (random, length) = storm();
        Storm::new(random, source).run(length / 2);
    }

    fn new(random: Random, source: Source) -> Storm {
        let control = Control::create(CONSUMERS).unwrap();
        let (producers, consumers) = (Vec::new(), Vec::new());
        let (arrived, lost) = (BTreeMap::new(), Vec::new());
        Storm { source, control, random, producers, consumers, next_producer: 0, arrived, lost, kills: 0 }
    }

    fn run(mut self, length: Duration) {
        if let Source::Queue(_) = self.source {
            for _ in 0..PRODUCERS {
                let producer = self.produce();
                self.producers.push(producer);
            }
        }
        for slot in 0..CONSUMERS {
            let consumer = self.consume(slot);
            self.consumers.push((consumer, StreamReader::default()));
        }
        let end = Instant::now() + length;
        // On a machine with other work the storm lasts longer. The watchdog bounds it.
        while Instant::now() < end || self.kills <= 20 || self.frames() <= 1000 {
            std::thread::sleep(Duration::from_micros(self.random.below(800)));
            (0..CONSUMERS).for_each(|slot| self.drain(slot));
            match self.source {
                Source::Tasks { .. } => self.push_some(),
                Source::Queue(_) => self.replace_producer(),
            }
            std::thread::sleep(Duration::from_micros(self.random.below(400)));
            self.replace_consumer();
        }
        for producer in std::mem::take(&mut self.producers) {
            producer.signal(Signal::KILL).unwrap();
            producer.reap().unwrap();
        }
        self.control.close();
        if let Source::Queue(queue) = &self.source {
            queue.close();
        }
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
        let Source::Queue(queue) = &self.source else { unreachable!("the parent produces tasks") };
        fork(None, || {
            for sequence in 0u64.. {
                with_frame(id, sequence, |parts| queue.put_parts(parts, None).unwrap());
                while queue.len() > 2000 {
                    std::thread::yield_now();
                }
            }
            0
        })
        .unwrap()
    }

    fn push_some(&mut self) {
        let Source::Tasks { next } = &mut self.source else { return };
        let tasks = self.control.tasks();
        while tasks.bytes().unwrap() < 200_000 {
            // A worker may hold the other end when the ring must grow.
            with_frame(0, *next, |parts| while tasks.lock_tail().push(parts).is_err() {});
            *next += 1;
            self.control.task_gate().wake(1);
        }
        tasks.shrink().unwrap();
        self.control.check().unwrap();
    }

    fn consume(&self, slot: usize) -> PidFd {
        let control = &self.control;
        let (own, stream) = (control.slot(slot), control.stream(slot));
        let answer = |frame: &[u8]| {
            if !stream.writer().write_value(&frame[..16]) {
                stream.write(0, &[&frame[..16]], control.result_gate());
            }
        };
        match &self.source {
            Source::Tasks { .. } => fork(None, || {
                loop {
                    let limit = ClaimLimit { max_frames: 8, max_bytes: 64 * 1024 };
                    if control.tasks().lock_for(slot as u32).claim(own, limit).unwrap() == 0 {
                        if control.is_closed() {
                            return 0;
                        }
                        let news = || !control.tasks().looks_empty() || control.is_closed();
                        control.task_gate().wait_until(None, &Spin::none(), news);
                    }
                    while let Some(place) = own.begin_next().unwrap() {
                        answer(own.claimed(place));
                    }
                    own.finish_claim();
                }
            }),
            Source::Queue(queue) => fork(None, || {
                let mut frame = Vec::new();
                while queue.get(&mut frame, None).unwrap() {
                    answer(&frame);
                    frame.clear();
                }
                0
            }),
        }
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
        let victim = self.random.index(PRODUCERS);
        self.producers[victim].signal(Signal::KILL).unwrap();
        self.producers[victim].reap().unwrap();
        self.kills += 1;
        self.producers[victim] = self.produce();
    }

    fn replace_consumer(&mut self) {
        let slot = self.random.index(CONSUMERS);
        self.consumers[slot].0.signal(Signal::KILL).unwrap();
        self.consumers[slot].0.reap().unwrap();
        self.kills += 1;
        if let Source::Tasks { .. } = self.source {
            self.take_back(slot);
        } else {
            self.drain(slot);
        }
        self.control.slot(slot).reset();
        self.control.stream(slot).reset();
        self.consumers[slot] = (self.consume(slot), StreamReader::default());
    }

    /// Other workers get the frames that a dead worker had claimed, except the one that it was
    /// running.
    fn take_back(&mut self, slot: usize) {
        let (tasks, own) = (self.control.tasks(), self.control.slot(slot));
        tasks.release(slot as u32, own);
        let back = loop {
            // Another worker may have it.
            if let Some(mut head) = tasks.lock_head_until(Instant::now() + Duration::from_millis(100)) {
                break head.take_back(own).unwrap();
            }
        };
        let begun = own.last_begun(tasks.longest()).unwrap();
        for frame in back {
            while tasks.lock_tail().push(&[&frame]).is_err() {}
        }
        self.drain(slot);
        if let Some(frame) = begun {
            let (producer, sequence) = identity(&frame);
            if *times(&mut self.arrived, producer, sequence) == 0 {
                self.lost.push((producer, sequence));
            }
        }
    }

    fn judge(mut self) {
        match self.source {
            Source::Tasks { .. } => assert_eq!(self.control.tasks().is_empty(), Ok(true)),
            Source::Queue(ref queue) => assert!(queue.is_empty()),
        }
        let mut lost = self.lost.len();
        for (producer, sequence) in self.lost.drain(..) {
            let earlier = std::mem::replace(times(&mut self.arrived, producer, sequence), 1);
            assert_eq!(earlier, 0, "frame {sequence} of producer {producer} was lost, and arrived");
        }
        for (producer, sequences) in &self.arrived {
            for (sequence, times) in sequences.iter().enumerate() {
                // The frame that a dead consumer of the queue had taken is lost with it, and nobody
                // else knows which frame that was.
                if matches!(self.source, Source::Queue(_)) && *times == 0 {
                    lost += 1;
                    continue;
                }
                assert_eq!(*times, 1, "frame {sequence} of producer {producer}, of {}, arrives once", sequences.len());
            }
        }
        assert!(lost <= self.kills as usize, "{lost} frames are lost by {} kills", self.kills);
        println!("{} kills, {} frames, {lost} lost with the consumer that was at them", self.kills, self.frames());
    }

    fn frames(&self) -> usize {
        self.arrived.values().map(Vec::len).sum()
    }
}

/// Makes a frame of that producer. Some are large, so that the ring grows and shrinks.
fn with_frame(producer: u64, sequence: u64, send: impl FnOnce(&[&[u8]])) {
    let padding = vec![0; if sequence % 97 == 96 { 40_000 } else { sequence as usize % 200 }];
    send(&[&producer.to_le_bytes(), &sequence.to_le_bytes(), &padding]);
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
