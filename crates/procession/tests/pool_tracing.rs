//! The spans and events that pools give to `tracing`, under each start method. Parent and workers
//! have the same subscriber, which writes a line for each span and event into one file.

use std::fmt::{Debug, Write as _};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use procession::Context;
use procession_testing::{eventually, for_each_context, kill, run, tests};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The file for the lines. Each test sets it anew; a forked worker has its parent's.
static FILE: Mutex<Option<File>> = Mutex::new(None);

struct Lines(AtomicU64);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("procession") || metadata.target().starts_with("pool_tracing")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields(format!("span {}", span.metadata().name()));
        span.record(&mut fields);
        write_line(&fields.0);
        Id::from_u64(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(format!("event {}", event.metadata().level()));
        event.record(&mut fields);
        write_line(&fields.0);
    }

    fn enter(&self, _: &Id) {
        write_line("enter");
    }

    fn exit(&self, _: &Id) {
        write_line("exit");
    }
}

fn write_line(line: &str) {
    let line = format!("{} {line}\n", std::process::id());
    if let Some(file) = &mut *FILE.lock().unwrap() {
        // One write to a file that is appended to: lines of several processes do not mix.
        file.write_all(line.as_bytes()).unwrap();
    }
}

fn subscribe(path: String) {
    *FILE.lock().unwrap() = Some(OpenOptions::new().append(true).create(true).open(path).unwrap());
    static SET: OnceLock<()> = OnceLock::new();
    SET.get_or_init(|| tracing::subscriber::set_global_default(Lines(AtomicU64::new(0))).unwrap());
}

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            jobs_tasks_and_workers_are_traced,
        ],
    })
}

fn jobs_tasks_and_workers_are_traced(context: Context) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines").to_str().unwrap().to_owned();
    subscribe(path.clone());
    let lines = || -> Vec<String> { std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect() };
    let pool = context.pool_builder(2).initializer(subscribe, path.clone()).start().unwrap();
    let result = pool.chunk_size(2).map_async(
        |x: u64| {
            tracing::debug!("in the task");
            (x, std::process::id())
        },
        0..4,
    );
    let result = result.unwrap();
    let ran = result.get().unwrap();
    let (us, id) = (std::process::id(), result.id());
    let has = |line: &str| lines().iter().any(|known| known == line);
    assert!(has(&format!("{us} span job id={id} tasks=4")), "{:#?}", lines());
    assert!(has(&format!("{us} event DEBUG message=submitted job={id}")), "{:#?}", lines());
    eventually("the end is told", || has(&format!("{us} event DEBUG message=finished job={id}")));
    for (index, worker) in ran {
        let all = lines();
        let span = format!("{worker} span task job={id} index={index} pid={worker}");
        let its: Vec<&str> = all.iter().filter_map(|line| line.strip_prefix(&format!("{worker} "))).collect();
        let begun = all.iter().filter(|line| **line == span).count();
        assert_eq!(begun, 1, "{span}: {all:#?}");
        assert!(its.windows(3).any(|lines| lines == ["enter", "event DEBUG message=in the task", "exit"]));
    }
    let pids = pool.worker_pids();
    for (slot, pid) in pids.iter().enumerate() {
        assert!(has(&format!("{us} event DEBUG message=worker started worker={pid} slot={slot}")), "{:#?}", lines());
        eventually("each says that it is ready", || {
            has(&format!("{pid} event DEBUG message=worker ready worker={pid} slot={slot}"))
        });
    }
    assert!(kill(pids[1]));
    eventually("the dead one is replaced", || {
        let now = pool.worker_pids();
        now.len() == 2 && now[1] != pids[1]
    });
    let new = pool.worker_pids()[1];
    eventually("which is told too", || {
        has(&format!("{us} event WARN message=worker lost worker={} slot=1 code=-9", pids[1]))
            && has(&format!("{us} event DEBUG message=worker replaced worker={new} slot=1"))
    });
    let cancelled = pool.apply_async(|()| std::thread::sleep(procession_testing::patience()), ()).unwrap();
    cancelled.cancel().unwrap();
    let id = cancelled.id();
    eventually("an early end says why", || {
        has(&format!("{us} event DEBUG message=finished job={id} error=the task was cancelled"))
    });
}
