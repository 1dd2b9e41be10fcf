//! Kills and stops producers and consumers of a joinable queue, bounded or not. Consumers report
//! each item that they took through a second queue, so the producers of that one are killed as
//! well.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use procession::{Context, JoinableQueue, Process, Queue};

use crate::Tally;
use crate::weather::Weather;

/// Producer, number, padding.
type Item = (u32, u64, Vec<u8>);
/// Consumer, producer, number.
type Taken = (u32, u32, u64);

const PRODUCERS: usize = 2;
const CONSUMERS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn storm(context: Context, weather: &mut Weather, end: Instant) -> Tally {
    let items = match weather.choose(3) {
        0 => JoinableQueue::bounded(1 + weather.choose(100)),
        _ => JoinableQueue::new(),
    };
    let items = items.expect("a queue is made");
    let mut storm = Queues::new(context, items);
    let mut producers: Vec<_> = (0..PRODUCERS).map(|_| storm.produce()).collect();
    let mut consumers: Vec<_> = (0..CONSUMERS).map(|_| storm.consume()).collect();
    while Instant::now() < end {
        weather.pass();
        storm.read_log();
        let victim = weather.choose(PRODUCERS + CONSUMERS);
        let process = if victim < PRODUCERS { &mut producers[victim] } else { &mut consumers[victim - PRODUCERS] };
        match weather.choose(4) {
            0 => {
                weather.kill(process.pid());
                *process = if victim < PRODUCERS { storm.produce() } else { storm.consume() };
                storm.consumers_killed += u64::from(victim >= PRODUCERS);
            }
            1 => weather.stop(process.pid()),
            _ => {}
        }
    }
    weather.clear();
    for producer in &mut producers {
        weather.kill(producer.pid());
        producer.join().expect_err("it is killed");
    }
    storm.items.close();
    for consumer in &mut consumers {
        while consumer.is_alive() {
            storm.read_log();
        }
        consumer.join().expect("it ends when the queue is closed and empty");
    }
    storm.items.join_timeout(PATIENCE).expect("what is not done has died with its taker");
    storm.judge()
}

struct Queues {
    context: Context,
    items: JoinableQueue<Item>,
    log: Queue<Taken>,
    processes: u32,
    consumers_killed: u64,
    /// For each producer, how often each of its items was taken.
    taken: BTreeMap<u32, Vec<u8>>,
    /// For each consumer and producer, the number behind the last.
    next: BTreeMap<(u32, u32), u64>,
}

impl Queues {
    fn new(context: Context, items: JoinableQueue<Item>) -> Queues {
        let log = Queue::new().expect("a queue is made");
        let (taken, next) = (BTreeMap::new(), BTreeMap::new());
        Queues { context, items, log, processes: 0, consumers_killed: 0, taken, next }
    }

    fn produce(&mut self) -> Process<()> {
        let produce = |(items, id): (JoinableQueue<Item>, u32)| {
            for number in 0.. {
                let padding = vec![7; if number % 97 == 96 { 40_000 } else { number as usize % 200 }];
                match items.put((id, number, padding)) {
                    Ok(()) => {}
                    Err(refused) if refused.error().is_closed() => return,
                    Err(refused) => panic!("{refused}"),
                }
                // Three processes cannot drain what two put without end.
                while items.len() > 2000 && !items.is_closed() {
                    std::thread::yield_now();
                }
            }
        };
        self.processes += 1;
        self.context.process(produce, (self.items.clone(), self.processes)).start().expect("a process starts")
    }

    fn consume(&mut self) -> Process<()> {
        let consume = |(items, log, id): (JoinableQueue<Item>, Queue<Taken>, u32)| {
            loop {
                match items.get_timeout(Duration::from_secs(1)) {
                    Ok((producer, number, padding)) => {
                        assert!(padding.iter().all(|byte| *byte == 7), "an item is whole");
                        log.put((id, producer, number)).expect("the log is open");
                        items.task_done().expect("an item was taken");
                    }
                    Err(error) if error.is_timeout() => {}
                    Err(error) if error.is_closed() => return,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        self.processes += 1;
        let argument = (self.items.clone(), self.log.clone(), self.processes);
        self.context.process(consume, argument).start().expect("a process starts")
    }

    fn read_log(&mut self) {
        // The items that are there now, since more come all the time.
        for _ in 0..self.log.len() {
            let Some((consumer, producer, number)) = self.log.try_get().expect("the log is open") else { return };
            let next = self.next.entry((consumer, producer)).or_default();
            assert!(number >= *next, "consumer {consumer} got {number} of producer {producer} behind {next}");
            *next = number + 1;
            let taken = self.taken.entry(producer).or_default();
            taken.resize(taken.len().max(number as usize + 1), 0);
            taken[number as usize] += 1;
            assert_eq!(taken[number as usize], 1, "item {number} of producer {producer} came twice");
        }
    }

    fn judge(mut self) -> Tally {
        self.read_log();
        assert!(self.log.is_empty() && self.items.is_empty(), "nothing is left");
        let all: u64 = self.taken.values().map(|taken| taken.len() as u64).sum();
        let lost = self.taken.values().flatten().filter(|times| **times == 0).count() as u64;
        let killed = self.consumers_killed;
        assert!(lost <= killed, "{lost} items are lost, and {killed} consumers were killed");
        Tally::from([("items", all - lost), ("lost with their consumer", lost), ("consumers killed", killed)])
    }
}
