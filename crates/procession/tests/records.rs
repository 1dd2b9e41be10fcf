//! Log records and tracing events of children go through this program's logger and subscriber,
//! under each start method.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use log::kv::{Key, Value, VisitSource};
use procession::Context;
use procession::records::Forwarding;
use procession_testing::{for_each_context, kill, run, tests};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record as SpanFields};
use tracing_core::span::Current;

/// A record that this program's logger or subscriber has got: level, target, text, the rest by
/// name.
type Got = (String, String, String, BTreeMap<String, String>);

static GOT: Mutex<Vec<Got>> = Mutex::new(Vec::new());
static PANICS: AtomicBool = AtomicBool::new(false);

struct Keeper;

struct Pairs(BTreeMap<String, String>);

impl<'kvs> VisitSource<'kvs> for Pairs {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        self.0.insert(key.to_string(), value.to_string());
        Ok(())
    }
}

impl log::Log for Keeper {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() != "unwanted"
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut pairs = Pairs(BTreeMap::new());
        record.key_values().visit(&mut pairs).unwrap();
        let (level, target) = (record.level().to_string(), record.target().to_owned());
        assert!(record.file().is_some_and(|file| file.ends_with("records.rs")) && record.line().is_some());
        GOT.lock().unwrap().push((level, target, record.args().to_string(), pairs.0));
        if PANICS.load(Ordering::Relaxed) {
            std::panic::resume_unwind(Box::new("in the logger"));
        }
    }

    fn flush(&self) {}
}

struct Subscriber(AtomicU64);

static SPANS: Mutex<BTreeMap<u64, &'static tracing::Metadata<'static>>> = Mutex::new(BTreeMap::new());

thread_local! {
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl tracing::Subscriber for Subscriber {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO && metadata.target() != "unwanted"
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::INFO)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.0.fetch_add(1, Ordering::Relaxed);
        SPANS.lock().unwrap().insert(id, span.metadata());
        Id::from_u64(id)
    }

    fn current_span(&self) -> Current {
        let entered = ENTERED.with_borrow(|entered| entered.last().copied());
        entered.map_or(Current::none(), |id| Current::new(Id::from_u64(id), SPANS.lock().unwrap()[&id]))
    }

    fn record(&self, _: &Id, _: &SpanFields<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        let metadata = event.metadata();
        let text = fields.0.remove("message").unwrap_or_default();
        if let Some(name) = self.current_span().metadata().map(tracing::Metadata::name) {
            fields.0.insert("current".into(), name.into());
        }
        GOT.lock().unwrap().push((metadata.level().to_string(), metadata.target().to_owned(), text, fields.0));
    }

    fn enter(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(span.into_u64()));
    }

    fn exit(&self, _: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.pop());
    }
}

fn main() {
    procession::init();
    log::set_boxed_logger(Box::new(Forwarding::new(Keeper))).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    tracing::subscriber::set_global_default(Subscriber(AtomicU64::new(1))).unwrap();
    run(tests! {
        for_each_context: [
            log_records_of_workers_come_in_order,
            log_records_of_a_killed_process_come,
            unwanted_log_records_are_not_sent,
            hundred_thousand_log_records_come,
            panicking_logger_loses_no_further_record,
            events_of_workers_come_with_their_spans,
            events_of_a_process_come,
            events_of_tasks_are_in_the_span_of_their_caller,
            trace_context_goes_to_the_tasks,
            logs_and_events_go_together_with_output,
        ],
    })
}

fn take_got() -> Vec<Got> {
    std::mem::take(&mut *GOT.lock().unwrap())
}

fn log_three(x: u64) -> u32 {
    log::info!(target: "task", color = "blue", number = x; "first of {x}");
    log::warn!("second of {x}");
    log::debug!("not wanted");
    log::error!("third of {x}");
    std::process::id()
}

fn log_records_of_workers_come_in_order(context: Context) {
    take_got();
    let pool = context.pool_builder(2).forward_logs().start().unwrap();
    let pids = pool.chunk_size(1).map(log_three, 0..50).unwrap();
    let workers = pool.worker_pids();
    pool.close();
    pool.join().unwrap();
    let got = take_got();
    assert_eq!(got.len(), 150, "{got:#?}");
    let mut of_pid: HashMap<&str, Vec<&Got>> = HashMap::new();
    got.iter().for_each(|record| of_pid.entry(&record.3["pid"]).or_default().push(record));
    for records in of_pid.values() {
        for three in records.chunks(3) {
            let number = three[0].2.strip_prefix("first of ").unwrap();
            let index: usize = number.parse().unwrap();
            assert_eq!((three[0].0.as_str(), three[0].1.as_str()), ("INFO", "task"));
            assert_eq!((three[0].3["color"].as_str(), three[0].3["number"].as_str()), ("blue", number));
            assert_eq!((three[1].0.as_str(), three[1].2.as_str()), ("WARN", &*format!("second of {number}")));
            assert_eq!((three[2].0.as_str(), three[2].2.as_str()), ("ERROR", &*format!("third of {number}")));
            let slot: usize = three[2].3["worker"].parse().unwrap();
            assert_eq!((three[2].3["pid"].clone(), workers[slot]), (pids[index].to_string(), pids[index]));
        }
    }
}

fn log_and_die(count: u64) {
    (0..count).for_each(|number| log::info!("{number}"));
    kill(std::process::id());
}

fn log_records_of_a_killed_process_come(context: Context) {
    take_got();
    let mut process = context.process(log_and_die, 3000).name("logger").forward_logs().start().unwrap();
    assert_eq!(process.join().unwrap_err().signal(), Some(9));
    let got = take_got();
    assert!(got.iter().map(|record| record.2.clone()).eq((0..3000).map(|number| number.to_string())));
    assert!(got.iter().all(|record| record.3["process"] == "logger" && !record.3.contains_key("worker")));
}

fn unwanted_log_records_are_not_sent(context: Context) {
    take_got();
    let log = |()| {
        log::trace!("by its level");
        log::info!(target: "unwanted", "by its target");
        log::info!("wanted");
    };
    context.process(log, ()).forward_logs().start().unwrap().join().unwrap();
    assert_eq!(take_got().iter().map(|record| record.2.as_str()).collect::<Vec<_>>(), ["wanted"]);
}

fn hundred_thousand_log_records_come(context: Context) {
    take_got();
    let pool = context.pool_builder(2).forward_logs().start().unwrap();
    let log = |part: u32| (0..50_000_u32).for_each(|number| log::info!("{part} {number}"));
    pool.chunk_size(1).map(log, [0, 1]).unwrap();
    drop(pool);
    let mut next = [0, 0];
    // The records of this process about its pool are another matter.
    for (.., text, _) in take_got().into_iter().filter(|got| got.1 == "records") {
        let (part, number) = text.split_once(' ').unwrap();
        let part: usize = part.parse().unwrap();
        assert_eq!(number.parse::<u32>().unwrap(), next[part]);
        next[part] += 1;
    }
    assert_eq!(next, [50_000, 50_000]);
}

fn panicking_logger_loses_no_further_record(context: Context) {
    take_got();
    PANICS.store(true, Ordering::Relaxed);
    let log = |()| (0..5).for_each(|number| log::info!("{number}"));
    context.process(log, ()).forward_logs().start().unwrap().join().unwrap();
    PANICS.store(false, Ordering::Relaxed);
    assert_eq!(take_got().len(), 5);
}

fn trace(x: u64) {
    let span = tracing::info_span!("work", x, later = tracing::field::Empty);
    let _entered = span.enter();
    span.record("later", "known");
    tracing::info!(target: "task", half = x as f64 / 2.0, what = "text", ?x, "traced {x}");
    tracing::debug!("not wanted");
    tracing::info!(target: "unwanted", "by its target");
}

fn events_of_workers_come_with_their_spans(context: Context) {
    take_got();
    let pool = context.pool_builder(2).forward_events().start().unwrap();
    pool.chunk_size(1).map(trace, 0..40).unwrap();
    let pids: Vec<String> = pool.worker_pids().iter().map(u32::to_string).collect();
    pool.close();
    pool.join().unwrap();
    let mut got: Vec<Got> = take_got().into_iter().filter(|event| event.1 != "procession::pool").collect();
    got.sort_by_key(|event| event.3["x"].parse::<u64>().unwrap());
    assert_eq!(got.len(), 40, "{got:#?}");
    for (index, (level, target, text, fields)) in got.into_iter().enumerate() {
        assert_eq!((level.as_str(), target.as_str(), text), ("INFO", "task", format!("traced {index}")));
        assert_eq!(fields["half"], format!("{:?}", index as f64 / 2.0));
        assert_eq!((fields["what"].as_str(), fields["x"].clone()), ("text", index.to_string()));
        assert_eq!(fields["pid"], pids[fields["worker"].parse::<usize>().unwrap()]);
        assert!(fields["spans"].ends_with(&format!("work{{x={index} later=\"known\"}}")), "{fields:?}");
    }
}

fn trace_and_die(count: u64) {
    (0..count).for_each(|number| tracing::warn!(number, "going to die"));
    kill(std::process::id());
}

fn events_of_a_process_come(context: Context) {
    take_got();
    let mut process = context.process(trace_and_die, 1000).forward_events().start().unwrap();
    assert_eq!(process.join().unwrap_err().signal(), Some(9));
    let got = take_got();
    assert!(got.iter().map(|event| event.3["number"].clone()).eq((0..1000).map(|number| number.to_string())));
    assert!(got.iter().all(|event| event.0 == "WARN" && event.2 == "going to die" && !event.3.contains_key("spans")));
}

fn logs_and_events_go_together_with_output(context: Context) {
    take_got();
    let say = |()| {
        log::info!("logged");
        println!("printed");
        tracing::info!("traced");
    };
    let output = procession::Output::callback(|line| {
        GOT.lock().unwrap().push((String::new(), String::new(), line.text().into_owned(), BTreeMap::new()));
    });
    let process = context.process(say, ()).forward_logs().forward_events().output(output);
    process.start().unwrap().join().unwrap();
    let mut texts: Vec<String> = take_got().into_iter().map(|got| got.2).collect();
    texts.sort();
    assert_eq!(texts, ["logged", "printed", "traced"]);
}

fn events_of_tasks_are_in_the_span_of_their_caller(context: Context) {
    take_got();
    let pool = context.pool_builder(2).forward_events().start().unwrap();
    tracing::info_span!("one").in_scope(|| pool.map(|x: u64| tracing::info!("of one: {x}"), 0..20).unwrap());
    pool.map(|x: u64| tracing::info!("of none: {x}"), 0..20).unwrap();
    tracing::info_span!("two").in_scope(|| pool.map(|x: u64| tracing::info!("of two: {x}"), 0..20).unwrap());
    pool.close();
    pool.join().unwrap();
    let got: Vec<Got> = take_got().into_iter().filter(|event| event.1 == "records").collect();
    assert_eq!(got.len(), 60);
    for (.., text, fields) in got {
        let caller = text.strip_prefix("of ").and_then(|text| text.split(':').next());
        assert_eq!(fields.get("current").map(String::as_str), caller.filter(|caller| *caller != "none"), "{text}");
    }
}

fn trace_context_goes_to_the_tasks(context: Context) {
    take_got();
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let begun = CALLS.load(Ordering::Relaxed);
    let inject =
        || Some(CALLS.fetch_add(1, Ordering::Relaxed)).filter(|call| call % 3 != 2).map(|call| format!("00-{call}-01"));
    let extract = |context: String| tracing::info_span!("caller", context);
    let pool = context.pool_builder(2).forward_events().trace_context(inject, extract).start().unwrap();
    for call in begun..begun + 6 {
        pool.map(|(call, x): (u64, u64)| tracing::info!(call, "{x}"), (0..10).map(|x| (call, x))).unwrap();
    }
    pool.close();
    pool.join().unwrap();
    let got: Vec<Got> = take_got().into_iter().filter(|event| event.1 == "records").collect();
    assert_eq!(got.len(), 60);
    for (.., fields) in got {
        let call: u64 = fields["call"].parse().unwrap();
        let spans = fields.get("spans").cloned().unwrap_or_default();
        let caller = format!("caller{{context=\"00-{call}-01\"}}");
        assert_eq!(spans.starts_with(&caller), call % 3 != 2, "{spans}");
        assert!(call % 3 != 2 || !spans.contains("caller"), "{spans}");
    }
}
