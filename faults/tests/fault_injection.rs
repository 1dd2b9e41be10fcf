//! A process dies at every numbered step of every protocol. The others find everything that was
//! committed, once, and go on.
//!
//! Each step has a scenario: the state before, what the child does until it dies at the step, and
//! what must be true then. A step that the child does not reach fails its scenario, and so does a
//! step without one.

mod sync_faults;

use std::time::{Duration, Instant};

use procession_shm::fault::{Step, arm};
use procession_shm::{
    Allocator, Arrival, ClaimLimit, Control, Holder, Queue, Slot, Spin, StreamReader, Verdict, record,
};
use procession_sys::fork::fork;
use procession_testing::{Trial, once, run, tests, trial};

fn main() {
    run(tests! {
        for_each_step: [death_loses_nothing_that_was_committed],
        once: [memory_of_a_growth_is_given_back],
    })
}

fn for_each_step(name: &str, body: fn(Step)) -> Vec<Trial> {
    Step::ALL.into_iter().map(|step| trial(&format!("{name}::{step:?}"), move || body(step))).collect()
}

fn death_loses_nothing_that_was_committed(step: Step) {
    (1..=3).for_each(|nth| scenario(step, nth));
}

/// The bytes that a growth had copied when its process died are given back with the rest.
fn memory_of_a_growth_is_given_back() {
    let queue = Queue::create(0, false).unwrap();
    // The oldest frame lies in the middle of 8 MiB, so that the growth to 16 moves about half of
    // them.
    put(&queue, 0..4000);
    drop(take_rest(&queue));
    die_at(Step::GrowCopied, 2, || put(&queue, 0..20_000));
    assert!(take_rest(&queue).len() > 8000, "8 MiB were queued");
    let kept = rustix::fs::fstat(queue.as_fd()).unwrap().st_blocks * 512;
    assert!(kept < 1 << 20, "{kept} bytes are kept by an empty ring");
}

fn scenario(step: Step, nth: u32) {
    use Step::*;
    match step {
        TailLocked | PushCopied | PushCommitted => pushing(step, nth),
        GrowCopied | GrowCommitted => growing(step, nth),
        WindowTaken | WindowLengthened | WindowCommitted => {
            lengthening_the_ring(step, nth);
            lengthening_an_inbox(step, nth);
            lengthening_an_area(step, nth);
        }
        BlockPlaced | BlockSent | BlockCopied => giving_blocks(step, nth),
        BlockHeld => holding_blocks(nth),
        TakeCounted => taking_to_be_done(nth),
        HeadLocked => {
            taking(step, nth);
            claiming(step, nth);
        }
        TakeCopied | TakeCommitted => taking(step, nth),
        ShrinkPunched | ShrinkCommitted => shrinking(step, nth),
        ClaimCopied | ClaimLeased | ClaimCounted | ClaimCommitted | ClaimFinished => claiming(step, nth),
        TrimPunched => trimming(nth),
        FrameBegun => beginning(nth),
        RunningBegun | RunningFinished => running(step, nth),
        StreamCopied | StreamCommitted => streaming(step, nth),
        StreamPiece => streaming_in_pieces(nth),
        SearchBegun | SearchEnded => searching(step, nth),
        GateFlagged | GateWoken => sleeping(step, nth),
        GateBumped => waking(nth),
        of_sync => sync_faults::scenario(of_sync, nth),
    }
}

/// Runs `body` in a child that dies at the step. Fails if it does not.
fn die_at(step: Step, nth: u32, body: impl FnOnce()) {
    let child = fork(None, || {
        arm(step, nth);
        body();
        0
    })
    .unwrap();
    assert_eq!(child.reap().unwrap().signal(), Some(9), "{step:?} is reached a {nth}. time");
}

const LEN: usize = 1000;

fn frame(number: u32) -> Vec<u8> {
    let mut bytes = vec![number as u8; LEN];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn number(frame: &[u8]) -> u32 {
    let number = u32::from_le_bytes(frame[..4].try_into().unwrap());
    assert!(frame.len() >= LEN && frame[4..].iter().all(|byte| *byte == number as u8), "frame {number} is whole");
    number
}

fn push(control: &Control, numbers: std::ops::Range<u32>) {
    for number in numbers {
        control.tasks().lock_tail().push(&[&frame(number)]).unwrap();
    }
}

const FOUR: ClaimLimit = ClaimLimit { max_frames: 4, max_bytes: 1 << 20 };

/// Claims the frames that are left, as the worker of slot 1.
fn rest(control: &Control) -> Vec<u32> {
    let (slot, mut numbers) = (control.slot(1), Vec::new());
    while control.tasks().lock_for(1).claim(slot, FOUR).unwrap() > 0 {
        numbers.extend(std::iter::from_fn(|| begin(slot)));
        slot.finish_claim();
    }
    numbers
}

fn begin(slot: &Slot) -> Option<u32> {
    slot.begin_next().unwrap().map(|place| number(slot.claimed(place)))
}

/// Does what the parent does when it learns of the death of the worker in slot 0. Returns the
/// frames that the worker had claimed and not begun.
fn clean_up(control: &Control) -> Vec<u32> {
    let slot = control.slot(0);
    control.tasks().release(0, slot);
    let mut head = control.tasks().lock_head_until(Instant::now()).expect("nobody holds it");
    head.take_back(slot).unwrap().iter().map(|frame| number(frame)).collect()
}

fn last_begun(control: &Control) -> Option<u32> {
    let frame = control.slot(0).last_begun(control.tasks().longest()).unwrap();
    frame.map(|frame| number(&frame))
}

/// Checks that the ring works as before, through growth.
fn assert_sound(control: &Control) {
    push(control, 0..200);
    assert_eq!(rest(control), (0..200).collect::<Vec<_>>());
    control.check().unwrap();
}

fn put(queue: &Queue, numbers: std::ops::Range<u32>) {
    numbers.for_each(|number| queue.put(&frame(number), None).unwrap());
}

fn take_one(queue: &Queue) -> Option<u32> {
    let mut out = Vec::new();
    queue.get(&mut out, Some(Instant::now())).unwrap().then(|| number(&out))
}

fn take_rest(queue: &Queue) -> Vec<u32> {
    std::iter::from_fn(|| take_one(queue)).collect()
}

/// Checks that the queue works as before, through growth.
fn assert_queue_sound(queue: &Queue) {
    put(queue, 0..200);
    assert_eq!(take_rest(queue), (0..200).collect::<Vec<_>>());
}

fn pushing(step: Step, nth: u32) {
    let queue = Queue::create(0, false).unwrap();
    die_at(step, nth, || put(&queue, 0..10));
    let committed = if step == Step::PushCommitted { nth } else { nth - 1 };
    assert_eq!(take_rest(&queue), (0..committed).collect::<Vec<_>>());
    assert_queue_sound(&queue);
}

/// A producer dies: the frames it had pushed are there, and the ring grows as before.
fn lengthening_the_ring(step: Step, nth: u32) {
    let queue = Queue::create(0, false).unwrap();
    die_at(step, nth, || put(&queue, 0..1000));
    let numbers = take_rest(&queue);
    assert_eq!(numbers, (0..numbers.len() as u32).collect::<Vec<_>>());
    // Lengths that fit a ring of 64 KiB, and one that has doubled once or twice.
    assert_eq!(numbers.len(), [64, 128, 256][nth as usize - 1] * 1024 / (LEN + 8).next_multiple_of(16));
    put(&queue, 0..1000);
    assert_eq!(take_rest(&queue), (0..1000).collect::<Vec<_>>());
    assert_queue_sound(&queue);
}

/// A worker dies while its inbox grows for a frame: that is still in the ring, and the next worker
/// in the slot claims it.
fn lengthening_an_inbox(step: Step, nth: u32) {
    const ONE: ClaimLimit = ClaimLimit { max_frames: 1, max_bytes: 1 };
    const LENGTHS: [usize; 3] = [100_000, 1_000_000, 5_000_000];
    let control = Control::create(2).unwrap();
    let (ring, slot) = (control.tasks(), control.slot(0));
    for (number, len) in (0..).zip(LENGTHS) {
        ring.lock_tail().push(&[&vec![number; len]]).unwrap();
    }
    die_at(step, nth, || {
        while ring.lock_for(0).claim(slot, ONE).unwrap() > 0 {
            slot.begin_next().unwrap();
            slot.finish_claim();
        }
    });
    assert_eq!(clean_up(&control), []);
    assert_eq!(last_begun(&control), None, "the claim before is finished");
    slot.reset();
    control.enter(0).unwrap();
    for number in nth as u8 - 1..3 {
        assert_eq!(ring.lock_for(0).claim(slot, ONE).unwrap(), 1);
        let place = slot.begin_next().unwrap().expect("it was claimed");
        assert!(slot.claimed(place) == vec![number; LENGTHS[number as usize]]);
        slot.finish_claim();
    }
    assert_eq!(ring.is_empty(), Ok(true));
    assert_sound(&control);
}

/// A worker dies while its area grows, for the table or for a block: the next worker in the slot
/// has all of the area.
fn lengthening_an_area(step: Step, nth: u32) {
    const LENGTHS: [usize; 2] = [200_000, 3_000_000];
    let control = Control::create(1).unwrap();
    let results = control.results(0);
    die_at(step, nth, || {
        let mut worker = Allocator::new(results.clone()).unwrap();
        assert!(LENGTHS.iter().all(|len| worker.allocate(&vec![1; *len]).is_some()));
    });
    results.reclaim().unwrap();
    let mut replacement = Allocator::new(results.clone()).unwrap();
    assert_eq!(replacement.in_use(), 0);
    let blocks = LENGTHS.map(|len| replacement.allocate(&vec![2; len]).unwrap());
    for (block, len) in blocks.into_iter().zip(LENGTHS) {
        assert!(*results.take(block, Holder::Parent).unwrap() == vec![2; len]);
    }
}

fn growing(step: Step, nth: u32) {
    let queue = Queue::create(0, false).unwrap();
    // The oldest frame lies in the middle, so that growth has frames to move.
    put(&queue, 0..40);
    (0..30).for_each(|expected| assert_eq!(take_one(&queue), Some(expected)));
    die_at(step, nth, || put(&queue, 40..1000));
    let numbers = take_rest(&queue);
    assert!(numbers.len() > 30, "there was growth");
    assert_eq!(numbers, (30..30 + numbers.len() as u32).collect::<Vec<_>>());
    assert_queue_sound(&queue);
}

/// A worker dies while it makes blocks for results.
fn giving_blocks(step: Step, nth: u32) {
    let control = Control::create(1).unwrap();
    let results = control.results(0);
    let told = Allocator::new(results.clone()).unwrap().allocate(&frame(9)).unwrap();
    let held = results.take(told, Holder::Parent).unwrap();
    die_at(step, nth, || {
        let mut worker = Allocator::new(results.clone()).unwrap();
        (0..nth).for_each(|_| {
            worker.allocate(&frame(1)).unwrap();
        });
    });
    results.reclaim().unwrap();
    let mut replacement = Allocator::new(results.clone()).unwrap();
    assert!((1..=8192).contains(&replacement.in_use()), "what nobody was told of is free: {}", replacement.in_use());
    let new = replacement.allocate(&frame(2)).unwrap();
    assert_eq!((number(&held), number(&results.take(new, Holder::Parent).unwrap())), (9, 2));
    drop(held);
    assert_eq!(replacement.in_use(), 4096, "pinned: this process has forked while it held it");
}

/// A worker dies while it holds blocks of the parent.
fn holding_blocks(nth: u32) {
    let control = Control::create(1).unwrap();
    let arguments = control.arguments();
    let mut parent = Allocator::new(arguments.clone()).unwrap();
    let blocks: Vec<_> = (0..5).map(|number| parent.allocate(&frame(number)).unwrap()).collect();
    die_at(Step::BlockHeld, nth, || {
        blocks.iter().for_each(|block| std::mem::forget(arguments.take(*block, Holder::Worker(0)).unwrap()));
    });
    assert!(!parent.free(blocks[0]) && arguments.take(blocks[0], Holder::Worker(0)).is_err(), "it is the dead one's");
    arguments.release_held_by(0).unwrap();
    for (expected, block) in blocks.iter().enumerate() {
        assert_eq!(number(&arguments.take(*block, Holder::Worker(0)).unwrap()), expected as u32, "it goes to the next");
        assert!(parent.free(*block));
    }
    assert_eq!(parent.in_use(), 0);
}

fn taking_to_be_done(nth: u32) {
    let queue = Queue::create(0, true).unwrap();
    (0..5).for_each(|number| queue.put(&frame(number), None).unwrap());
    let take = || {
        let mut out = Vec::new();
        assert!(queue.get(&mut out, None).unwrap());
        number(&out)
    };
    die_at(Step::TakeCounted, nth, || {
        (0..nth).for_each(|_| {
            take();
        })
    });
    // The last is still queued. The dead workers had taken those before it.
    for left in nth - 1..5 {
        assert!(!queue.join(Some(Instant::now())).unwrap(), "some are unfinished");
        assert_eq!(take(), left);
        assert!(queue.done().unwrap());
    }
    assert!(queue.join(sync_faults::patience()).unwrap());
    assert!(!queue.done().unwrap(), "nothing is unfinished");
}

fn taking(step: Step, nth: u32) {
    let queue = Queue::create(0, false).unwrap();
    put(&queue, 0..10);
    die_at(step, nth, || drop(take_rest(&queue)));
    let taken = if step == Step::TakeCommitted { nth } else { nth - 1 };
    assert_eq!(take_rest(&queue), (taken..10).collect::<Vec<_>>());
    assert_queue_sound(&queue);
}

fn shrinking(step: Step, nth: u32) {
    let queue = Queue::create(0, false).unwrap();
    die_at(step, nth, || {
        for _ in 0..nth {
            put(&queue, 0..6000);
            drop(take_rest(&queue));
        }
    });
    assert_eq!(take_rest(&queue), []);
    assert_queue_sound(&queue);
}

fn claiming(step: Step, nth: u32) {
    let control = Control::create(2).unwrap();
    push(&control, 0..20);
    let slot = control.slot(0);
    die_at(step, nth, || {
        for _ in 0..nth {
            control.tasks().lock_for(0).claim(slot, FOUR).unwrap();
            while begin(slot).is_some() {}
            slot.finish_claim();
        }
    });
    // The frames that it had begun in earlier claims are done. The rest is in the ring or in its
    // slot, each frame once.
    let done = if step == Step::ClaimFinished { nth * 4 } else { (nth - 1) * 4 };
    let mut numbers = clean_up(&control);
    if step == Step::ClaimCommitted {
        assert_eq!(numbers, (done..done + 4).collect::<Vec<_>>(), "a committed claim is in the slot");
    } else {
        assert_eq!(numbers, [], "a claim that is not committed is void");
        assert!(slot.has_nothing());
    }
    numbers.extend(rest(&control));
    assert_eq!(numbers, (done..20).collect::<Vec<_>>());
    slot.reset();
    assert_sound(&control);
}

fn trimming(nth: u32) {
    let control = Control::create(2).unwrap();
    let slot = control.slot(0);
    let large = vec![7; 8 << 20];
    let one = ClaimLimit { max_frames: 1, ..FOUR };
    let run_large = || {
        control.tasks().lock_for(0).claim(slot, one).unwrap();
        let place = slot.begin_next().unwrap().expect("it was claimed");
        assert!(slot.claimed(place) == large && slot.begin_next() == Ok(None) && slot.is_bulky());
        slot.finish_claim();
        control.tasks().lock_for(0).trim(slot).unwrap();
    };
    (0..nth + 1).for_each(|_| control.tasks().lock_tail().push(&[&large]).unwrap());
    die_at(Step::TrimPunched, nth, || (0..nth).for_each(|_| run_large()));
    assert_eq!(clean_up(&control), []);
    assert_eq!(last_begun(&control), None, "what is given back is not read");
    slot.reset();
    assert!(slot.is_bulky(), "the replacement trims again");
    run_large();
    assert!(!slot.is_bulky());
    assert_sound(&control);
}

fn beginning(nth: u32) {
    let control = Control::create(2).unwrap();
    push(&control, 0..4);
    let slot = control.slot(0);
    die_at(Step::FrameBegun, nth, || {
        control.tasks().lock_for(0).claim(slot, FOUR).unwrap();
        while begin(slot).is_some() {}
    });
    assert_eq!(clean_up(&control), (nth..4).collect::<Vec<_>>());
    assert_eq!(last_begun(&control), Some(nth - 1), "the frame that was running");
    assert_eq!(begin(slot), None);
    assert_sound(&control);
}

fn running(step: Step, nth: u32) {
    let control = Control::create(1).unwrap();
    let slot = control.slot(0);
    die_at(step, nth, || {
        for task in 1..10 {
            assert_eq!(slot.running().begin(task), Verdict::Run);
            assert!(slot.running().finish());
        }
    });
    let seen = slot.running().look();
    assert_eq!(seen.map(|seen| seen.job), (step == Step::RunningBegun).then_some(u64::from(nth)));
    slot.reset();
    assert_eq!(slot.running().begin(77), Verdict::Run);
    assert!(seen.is_none_or(|seen| !slot.running().stop_stretch(seen)), "a replacement's task is another");
    assert!(slot.running().finish());
}

fn records(control: &Control, reader: &mut StreamReader) -> Vec<u32> {
    let mut numbers = Vec::new();
    reader
        .drain(control.stream(0), |arrival| match arrival {
            Arrival::Record(tag, payload) => {
                assert_eq!(tag, number(payload));
                numbers.push(tag);
            }
            Arrival::Values(count, mut values) => {
                for _ in 0..count {
                    let (_, payload) = record::take(&mut values).unwrap();
                    numbers.push(u32::from_le_bytes(payload[..4].try_into().unwrap()));
                }
                assert!(values.is_empty());
            }
        })
        .unwrap();
    numbers
}

fn streaming(step: Step, nth: u32) {
    let control = Control::create(1).unwrap();
    die_at(step, nth, || {
        for number in 0..10 {
            control.stream(0).write(number, &[&frame(number)[..300], &frame(number)[300..]], control.result_gate());
        }
    });
    let committed = if step == Step::StreamCommitted { nth } else { nth - 1 };
    let mut reader = StreamReader::default();
    assert_eq!(records(&control, &mut reader), (0..committed).collect::<Vec<_>>());
    control.stream(0).reset();
    control.stream(0).write(77, &[&frame(77)], control.result_gate());
    assert_eq!(records(&control, &mut StreamReader::default()), [77]);
    // The same with short values, which arrive one by one all the same.
    let control = Control::create(1).unwrap();
    die_at(step, nth, || {
        let mut writer = control.stream(0).writer();
        assert!((0..10u32).all(|number| writer.write_value(&number.to_le_bytes())));
    });
    assert_eq!(records(&control, &mut StreamReader::default()), (0..committed).collect::<Vec<_>>());
}

fn tag_of(arrival: Arrival<'_>) -> u32 {
    match arrival {
        Arrival::Record(tag, _) => tag,
        Arrival::Values(..) => panic!("no value is written here"),
    }
}

fn streaming_in_pieces(nth: u32) {
    let control = Control::create(1).unwrap();
    let child = fork(None, || {
        arm(Step::StreamPiece, nth);
        control.stream(0).write(0, &[&frame(0)], control.result_gate());
        control.stream(0).write(1, &[&vec![1; 4 << 20]], control.result_gate());
        0
    })
    .unwrap();
    let mut reader = StreamReader::default();
    let mut seen = 0;
    while !child.has_ended().unwrap() {
        reader.drain(control.stream(0), |arrival| seen += 1 + tag_of(arrival)).unwrap();
        control.result_gate().wait_until(Some(Instant::now() + Duration::from_millis(5)), &Spin::none(), || {
            !control.stream(0).is_empty()
        });
    }
    assert_eq!(child.reap().unwrap().signal(), Some(9), "a record is written in pieces");
    reader.drain(control.stream(0), |arrival| seen += 1 + tag_of(arrival)).unwrap();
    assert_eq!(seen, 1, "the record before is there, the one in pieces is not");
    control.stream(0).reset();
    control.stream(0).write(77, &[&frame(77)], control.result_gate());
    assert_eq!(records(&control, &mut StreamReader::default()), [77]);
}

/// A worker dies that looks for work; the parent ends its search, and another looks.
fn searching(step: Step, nth: u32) {
    let control = Control::create(2).unwrap();
    die_at(step, nth, || {
        for _ in 0..nth {
            assert!(control.search().look(0, &Spin::none(), &Spin::none(), || true));
        }
    });
    assert_eq!(control.search().is_on(), step == Step::SearchBegun);
    control.search().end();
    assert!(control.search().look(1, &Spin::none(), &Spin::none(), || control.search().is_on()));
    assert!(!control.search().is_on());
}

/// A sleeper dies; another that sleeps at the same gate is woken all the same.
fn sleeping(step: Step, nth: u32) {
    let control = Control::create(1).unwrap();
    let gate = control.task_gate();
    let survivor = fork(None, || {
        gate.wait_until(None, &Spin::none(), || !control.tasks().looks_empty());
        7
    })
    .unwrap();
    let victim = fork(None, || {
        arm(step, nth);
        gate.wait_until(None, &Spin::none(), || false);
        0
    })
    .unwrap();
    // Wakes that find nothing to do, until the victim has come to its step.
    while !victim.wait_ended(Some(Instant::now() + Duration::from_millis(5))).unwrap() {
        gate.wake(2);
    }
    assert_eq!(victim.reap().unwrap().signal(), Some(9));
    push(&control, 0..1);
    gate.wake(1);
    assert_eq!(survivor.reap().unwrap().code(), 7);
}

/// A waker dies after it has published and before it has woken anybody.
fn waking(nth: u32) {
    let control = Control::create(1).unwrap();
    let gate = control.task_gate();
    let sleeper = fork(None, || {
        gate.wait_until(None, &Spin::none(), || control.is_closed());
        7
    })
    .unwrap();
    die_at(Step::GateBumped, nth, || {
        // Until somebody sleeps, a wake has nothing to do.
        for _ in 0..20_000 {
            gate.wake(1);
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    control.close();
    assert_eq!(sleeper.reap().unwrap().code(), 7, "the sleeper looks by itself");
}
