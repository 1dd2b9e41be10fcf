//! Shared memory between processes, under each start method: with and without names, arrays,
//! values, and what is shared once.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use procession::{
    Connection, Context, Process, Queue, Shared, SharedArray, SharedMemory, SharedSlice, SharedValue, pipe, share,
};
use procession_testing::{OneWay, eventually, for_each_context, once, run, tests};
use serde::{Deserialize, Deserializer, Serialize};

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            memory_without_a_name_is_the_same_in_a_child,
            a_name_is_found_by_children_and_their_exit_leaves_it,
            a_childs_name_outlives_the_child,
            arrays_and_values_are_shared_and_no_addition_is_lost,
            a_killed_writer_costs_nobody_anything,
            no_value_is_seen_torn,
            what_is_shared_is_decoded_once_in_a_process,
            what_is_shared_serves_every_task_of_a_pool,
            a_worker_decodes_what_is_shared_once_for_all_tasks,
            a_worker_lets_go_of_what_is_shared_when_others_come,
            a_shared_slice_is_read_in_place_everywhere,
        ],
        once: [
            arrays_keep_values_of_every_type,
            taken_absent_and_impossible_names_are_errors,
            a_name_that_is_anothers_by_now_is_left_alone,
            what_does_not_travel_says_what_to_do,
            a_mapping_keeps_nothing_once_dropped,
            shared_slices_are_made_of_every_kind_of_elements,
        ],
    })
}

fn memory_without_a_name_is_the_same_in_a_child(context: Context) {
    let memory = SharedMemory::new(100_000).unwrap();
    memory.write(99_990, b"from above").unwrap();
    let child = |memory: SharedMemory| {
        let mut seen = [0; 10];
        memory.read(99_990, &mut seen).unwrap();
        memory.write(7, b"from below").unwrap();
        memory.words()[100].fetch_add(5, Ordering::Relaxed);
        (seen, memory.size(), memory.name().map(str::to_owned))
    };
    let seen = context.process(child, memory.clone()).start().unwrap().join().unwrap();
    assert_eq!(seen, (*b"from above", 100_000, None));
    let mut back = [0; 12];
    memory.read(6, &mut back).unwrap();
    assert_eq!(&back, b"\0from below\0");
    assert_eq!(memory.words()[100].load(Ordering::Relaxed), 5);
}

fn a_name_is_found_by_children_and_their_exit_leaves_it(context: Context) {
    let memory = SharedMemory::create_named(5000).unwrap();
    let name = memory.name().unwrap().to_owned();
    let child = |(name, handle): (String, SharedMemory)| {
        let found = SharedMemory::attach(&name).unwrap();
        found.write(0, b"found").unwrap();
        handle.write(5, b" sent").unwrap();
        (found.size(), handle.name() == Some(&name))
    };
    for _ in 0..3 {
        let mut reader = context.process(child, (name.clone(), memory.clone())).start().unwrap();
        assert_eq!(reader.join().unwrap(), (5000, true));
        assert!(path(&name).exists(), "a reader's exit leaves it");
    }
    let mut text = [0; 10];
    memory.read(0, &mut text).unwrap();
    assert_eq!(&text, b"found sent");
    memory.unlink().unwrap();
    assert!(!path(&name).exists());
    assert!(memory.unlink().unwrap_err().is_not_found());
    memory.read(0, &mut text).unwrap();
    assert_eq!(&text, b"found sent", "who has it keeps it");
}

fn a_childs_name_outlives_the_child(context: Context) {
    // The first name of this process starts the tracker, which its later children share.
    let _tracked = SharedMemory::create_named(1).unwrap();
    let child = |()| {
        let memory = SharedMemory::create_named(10).unwrap();
        memory.write(0, b"still here").unwrap();
        memory.name().unwrap().to_owned()
    };
    let name = context.process(child, ()).start().unwrap().join().unwrap();
    let memory = SharedMemory::attach(&name).unwrap();
    let mut text = [0; 10];
    memory.read(0, &mut text).unwrap();
    assert_eq!(&text, b"still here");
    let unlinked = |name: String| SharedMemory::attach(&name).unwrap().unlink().is_ok();
    assert!(context.process(unlinked, name.clone()).start().unwrap().join().unwrap(), "anybody may unlink");
    assert!(SharedMemory::attach(&name).unwrap_err().is_not_found());
}

fn arrays_and_values_are_shared_and_no_addition_is_lost(context: Context) {
    const EACH: u32 = 5000;
    let counts = SharedArray::<u32>::new(10).unwrap();
    let (total, most) = (SharedValue::new(0u64).unwrap(), SharedValue::new(f32::MIN).unwrap());
    let work = |(counts, total, most, id): (SharedArray<u32>, SharedValue<u64>, SharedValue<f32>, u32)| {
        for x in 0..EACH {
            counts.fetch_add(x as usize % 10, 1);
            total.fetch_add(u64::from(x));
            most.update(|most| most.max((id * EACH + x) as f32));
        }
    };
    let workers: Vec<_> = (0..3)
        .map(|id| context.process(work, (counts.clone(), total.clone(), most.clone(), id)).start().unwrap())
        .collect();
    workers.into_iter().for_each(|mut worker| worker.join().unwrap());
    assert_eq!(counts.to_vec(), [3 * EACH / 10; 10]);
    assert_eq!(total.get(), 3 * u64::from(EACH * (EACH - 1) / 2));
    assert_eq!(most.get(), (3 * EACH - 1) as f32);
}

fn a_killed_writer_costs_nobody_anything(context: Context) {
    let pair = SharedArray::<u64>::from_slice(&[0, u64::MAX]).unwrap();
    let write = |pair: SharedArray<u64>| {
        loop {
            pair.update(0, |x| x + 1);
            pair.set(1, !pair.get(0));
        }
    };
    for _ in 0..5 {
        let before = pair.get(0);
        let mut writer: Process<()> = context.process(write, pair.clone()).start().unwrap();
        eventually("it writes", || pair.get(0) > before + 100);
        writer.kill().unwrap();
        assert_eq!(writer.join().unwrap_err().signal(), Some(9));
        let (x, y) = (pair.get(0), !pair.get(1));
        assert!(x == y || x == y + 1, "{x} and {y}: whole, and one behind at most");
    }
}

fn no_value_is_seen_torn(context: Context) {
    let value = SharedValue::new(0u64).unwrap();
    let write = |value: SharedValue<u64>| {
        loop {
            value.set(u64::MAX);
            value.set(0);
        }
    };
    let mut writer: Process<()> = context.process(write, value.clone()).start().unwrap();
    eventually("it writes", || value.get() != 0);
    let seen: Vec<u64> = (0..200_000).map(|_| value.get()).collect();
    writer.kill().unwrap();
    assert!(writer.join().is_err());
    assert!(seen.iter().all(|seen| [0, u64::MAX].contains(seen)));
}

fn what_is_shared_is_decoded_once_in_a_process(context: Context) {
    let table = share(Counted((0..1000).collect())).unwrap();
    let child = |(one, other): (Shared<Counted>, Shared<Counted>)| {
        (one.0.iter().sum::<u32>(), std::ptr::eq(&*one, &*other), DECODED.load(Ordering::SeqCst))
    };
    let before = DECODED.load(Ordering::SeqCst);
    for _ in 0..2 {
        let mut process = context.process(child, (table.clone(), table.clone())).start().unwrap();
        let (sum, same, decoded) = process.join().unwrap();
        // A forked child has the count of its parent, which decodes nothing.
        let begun_with = if context == Context::fork() { before } else { 0 };
        assert_eq!((sum, same, decoded - begun_with), (499_500, true, 1));
    }
    assert_eq!(DECODED.load(Ordering::SeqCst), before, "and never where it was made");
    assert_eq!(table.0.len(), 1000);
}

fn what_is_shared_serves_every_task_of_a_pool(context: Context) {
    static TABLE: OnceLock<Shared<Vec<u64>>> = OnceLock::new();
    let table = share((0..100).map(|x| x * x).collect::<Vec<u64>>()).unwrap();
    let keep = |table: Shared<Vec<u64>>| drop(TABLE.set(table));
    let pool = context.pool_builder(2).initializer(keep, table).start().unwrap();
    let squares = pool.map(|x: usize| TABLE.get().unwrap()[x], 0..100).unwrap();
    assert!(squares.into_iter().eq((0..100).map(|x| x * x)));
}

fn a_worker_decodes_what_is_shared_once_for_all_tasks(context: Context) {
    let tables = [1, 2, 3, 4, 5, 6].map(|factor| share(Counted((0..1000).map(|x| x * factor).collect())).unwrap());
    let before = if context == Context::fork() { DECODED.load(Ordering::SeqCst) } else { 0 };
    let pool = context.pool(2).unwrap();
    let sum = |(tables, place): ([Shared<Counted>; 6], usize)| {
        (tables.iter().map(|table| table.0[place]).sum::<u32>(), DECODED.load(Ordering::SeqCst))
    };
    let tasks = (0..100).map(|place| (tables.clone(), place));
    let answers = pool.chunk_size(1).map(sum, tasks).unwrap();
    for (place, (sum, decoded)) in answers.into_iter().enumerate() {
        assert_eq!((sum, decoded - before), (21 * place as u32, 6));
    }
    let one = |table: Shared<Counted>| (table.0[9], DECODED.load(Ordering::SeqCst));
    assert_eq!(pool.apply(one, tables[5].clone()).unwrap(), (54, before + 6), "nor for other calls");
}

fn a_worker_lets_go_of_what_is_shared_when_others_come(context: Context) {
    /// Says when it goes.
    #[derive(Serialize, Deserialize)]
    struct Noted(u32);
    static GONE: AtomicU32 = AtomicU32::new(0);
    impl Drop for Noted {
        fn drop(&mut self) {
            GONE.fetch_add(1, Ordering::SeqCst);
        }
    }
    let pool = context.pool(1).unwrap();
    let gone = || pool.call(|| GONE.load(Ordering::SeqCst)).unwrap();
    let before = gone();
    for number in 0..20 {
        let noted = share(Noted(number)).unwrap();
        assert_eq!(pool.apply(|noted: Shared<Noted>| noted.0, noted).unwrap(), number);
    }
    assert!(gone() - before >= 15, "{} of 20 are gone", gone() - before);
}

fn a_shared_slice_is_read_in_place_everywhere(context: Context) {
    let squares = SharedSlice::from_elements((0..100_000_u64).map(|x| x * x)).unwrap();
    let look = |(squares, at): (SharedSlice<u64>, usize)| (std::process::id(), squares.as_ptr() as usize, squares[at]);
    let pool = context.pool(2).unwrap();
    let looked = pool.chunk_size(1).map(look, (0..200).map(|at| (squares.clone(), at * 500))).unwrap();
    let mut places = std::collections::HashMap::new();
    for (at, (pid, place, square)) in looked.into_iter().enumerate() {
        assert_eq!(square, (at as u64 * 500).pow(2));
        assert_eq!(*places.entry(pid).or_insert(place), place, "a worker maps it once");
    }
    let by_state = pool.map_with(&squares, |squares, at: usize| squares[at], [3, 99_999]).unwrap();
    assert_eq!(by_state, [9, 99_999 * 99_999]);
    let sum = |squares: SharedSlice<u64>| squares.iter().sum::<u64>();
    let by_process = context.process(sum, squares.clone()).start().unwrap().join().unwrap();
    assert_eq!(by_process, squares.iter().sum::<u64>());
    let (ours, theirs) = pipe::<(), SharedSlice<u64>>(true).unwrap();
    let send = |(squares, parent): (SharedSlice<u64>, Connection<SharedSlice<u64>, ()>)| parent.send(&squares).unwrap();
    let mut sender = context.process(send, (squares.clone(), theirs)).start().unwrap();
    let back = ours.recv().unwrap();
    sender.join().unwrap();
    assert!(back == squares && std::ptr::eq(&*back, &*squares), "it is known where it was made");
}

fn shared_slices_are_made_of_every_kind_of_elements() {
    let empty = SharedSlice::<u16>::from_slice(&[]).unwrap();
    let points = SharedSlice::from_slice(&[[1.0_f32, 2.0, 3.0]; 5]).unwrap();
    let of_vec = SharedSlice::from_elements(vec![7_u8; 5000]).unwrap();
    let sizes = |(empty, points, of_vec): (SharedSlice<u16>, SharedSlice<[f32; 3]>, SharedSlice<u8>)| {
        (empty.len(), points[4][2], of_vec.iter().map(|x| usize::from(*x)).sum::<usize>())
    };
    let pool = Context::forkserver().pool(1).unwrap();
    assert_eq!(pool.apply(sizes, (empty.clone(), points, of_vec)).unwrap(), (0, 3.0, 35_000));
    assert!(empty.is_empty() && empty.clone() == empty);
    let carrier = Queue::<SharedSlice<u16>>::new().unwrap();
    let error = procession::Error::from(carrier.put(empty).unwrap_err());
    assert!(error.is_encode() && error.to_string().contains("a shared slice travels as an argument"), "{error}");
}

fn arrays_keep_values_of_every_type() {
    let bytes = SharedArray::<u8>::from_slice(b"some bytes").unwrap();
    bytes.write(5, b"BYTES");
    bytes.set(0, b'S');
    assert_eq!((bytes.to_vec().as_slice(), bytes.len()), (b"Some BYTES".as_slice(), 10));
    let points = SharedArray::<[f32; 3]>::new(4).unwrap();
    points.fill([1.0, 2.0, 3.0]);
    points.set(2, [4.0, 5.0, 6.0]);
    let mut two = [[0.0; 3]; 2];
    points.read(1, &mut two);
    assert_eq!(two, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    let signed = SharedArray::<i16>::new(3).unwrap();
    signed.copy_from_slice(&[-1, 0, 1]);
    assert_eq!((signed.fetch_sub(0, 5), signed.get(0), signed.update(2, |x| x * 9)), (-1, -6, 1));
    assert_eq!(signed.to_vec(), [-6, 0, 9]);
    assert!(SharedArray::<u8>::new(0).unwrap_err().is_invalid());
    let outside: [fn(&SharedArray<i16>); 2] = [|array| array.set(3, 0), |array| array.write(2, &[1, 2])];
    for act in outside {
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&signed))).is_err());
    }
    let odd = SharedArray::<[u8; 7]>::from_slice(&[[9; 7]; 3]).unwrap();
    let sum = |odd: SharedArray<[u8; 7]>| odd.to_vec().into_iter().flatten().map(u32::from).sum::<u32>();
    assert_eq!(Context::spawn().process(sum, odd).start().unwrap().join().unwrap(), 9 * 7 * 3);
}

fn taken_absent_and_impossible_names_are_errors() {
    let memory = SharedMemory::create_named(64).unwrap();
    let name = memory.name().unwrap();
    let error = SharedMemory::create(name, 64).unwrap_err();
    assert!(error.is_already_exists() && error.to_string().contains(name), "{error}");
    assert!(SharedMemory::attach("procession_nowhere").unwrap_err().is_not_found());
    for refused in [SharedMemory::create("a/b", 1), SharedMemory::create("fine", 0), SharedMemory::attach("")] {
        assert!(refused.unwrap_err().is_invalid());
    }
    assert!(memory.read(60, &mut [0; 5]).unwrap_err().is_invalid());
    assert!(SharedMemory::new(1).unwrap().unlink().unwrap_err().is_invalid());
    std::fs::write(path("procession_empty"), "").unwrap();
    let error = SharedMemory::attach("procession_empty").unwrap_err();
    std::fs::remove_file(path("procession_empty")).unwrap();
    assert!(error.to_string().contains("empty"), "{error}");
    memory.unlink().unwrap();
}

fn a_name_that_is_anothers_by_now_is_left_alone() {
    let memory = SharedMemory::create_named(8).unwrap();
    let name = memory.name().unwrap().to_owned();
    std::fs::remove_file(path(&name)).unwrap();
    std::fs::write(path(&name), "another's").unwrap();
    assert!(memory.unlink().unwrap_err().is_not_found());
    assert_eq!(std::fs::read(path(&name)).unwrap(), b"another's");
    std::fs::remove_file(path(&name)).unwrap();
}

fn what_does_not_travel_says_what_to_do() {
    let carrier = Queue::<SharedMemory>::new().unwrap();
    let error = procession::Error::from(carrier.put(SharedMemory::new(1).unwrap()).unwrap_err());
    assert!(error.is_encode() && error.to_string().contains("argument of a process"), "{error}");
    let error = share(SharedValue::new(1u8).unwrap()).unwrap_err();
    assert!(error.is_encode() && error.to_string().contains("argument of a process"), "{error}");
    let one_way = share(OneWay).unwrap();
    let error = Context::fork().process(|_: Shared<OneWay>| (), one_way).start().unwrap().join().unwrap_err();
    assert!(error.is_decode(), "{error}");
}

fn a_mapping_keeps_nothing_once_dropped() {
    // The names of all mappings of this process: a memfd shows as /memfd:procession-memory.
    let mapped = || std::fs::read_to_string("/proc/self/maps").unwrap().matches("memfd:procession-memory").count();
    let before = mapped();
    let memory = SharedMemory::new(4096).unwrap();
    let clone = memory.clone();
    assert_eq!(mapped(), before + 1, "clones share the mapping");
    drop((memory, clone));
    assert_eq!(mapped(), before);
}

/// Counts how often this process makes one from bytes.
#[derive(Serialize)]
struct Counted(Vec<u32>);

static DECODED: AtomicU32 = AtomicU32::new(0);

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DECODED.fetch_add(1, Ordering::SeqCst);
        #[derive(Deserialize)]
        struct Plain(Vec<u32>);
        Plain::deserialize(deserializer).map(|Plain(table)| Counted(table))
    }
}

fn path(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(name)
}
