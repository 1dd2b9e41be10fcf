//! Records of the crate `log`: sent by a logger in the child, given to the parent's logger.

use std::borrow::Cow;

use log::kv::{self, Key, ToValue, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata};
use procession_core::output::Source;
use procession_core::output::records::are_wanted;

use super::wire::{self, LogRecord, Record};

/// A logger around another. In a child whose parent wants its log records it sends them there; in
/// any other process it gives them to the other.
///
/// A program that forks needs it, because a forked child has its parent's logger, and `log` lets
/// nobody replace it.
///
/// ```
/// # struct MyLogger;
/// # impl log::Log for MyLogger {
/// #     fn enabled(&self, _: &log::Metadata<'_>) -> bool { true }
/// #     fn log(&self, record: &log::Record<'_>) { println!("{}", record.args()) }
/// #     fn flush(&self) {}
/// # }
/// use procession::records::Forwarding;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// log::set_boxed_logger(Box::new(Forwarding::new(MyLogger)))?;
/// log::set_max_level(log::LevelFilter::Info);
/// let pool = procession::Context::fork().pool_builder(2).forward_logs().start()?;
/// pool.apply(|x: u32| log::info!("got {x}"), 1)?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Default, Debug)]
pub struct Forwarding<L>(L);

impl<L: Log> Forwarding<L> {
    /// Around this logger.
    pub const fn new(logger: L) -> Forwarding<L> {
        Forwarding(logger)
    }
}

impl<L: Log> Log for Forwarding<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        are_wanted() || self.0.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        if are_wanted() {
            wire::send(&Record::Log(written(record)));
        } else {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// A logger that drops everything: in an executed child, which has no other.
struct Nothing;

impl Log for Nothing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn log(&self, _: &log::Record<'_>) {}

    fn flush(&self) {}
}

static LOGGER: Forwarding<Nothing> = Forwarding::new(Nothing);

/// The level up to which this program wants records, as a number.
pub(super) fn wanted_level() -> u8 {
    log::max_level() as u8
}

/// In the child: has records of up to this level sent.
pub(super) fn begin(level: u8) {
    let level = LevelFilter::iter().find(|known| *known as u8 == level).unwrap_or(LevelFilter::Trace);
    // Refused in a forked child, which has its parent's logger.
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(level);
    }
}

/// A record as it travels.
fn written(record: &log::Record<'_>) -> LogRecord {
    let text = record.args().as_str().map_or_else(|| Cow::from(record.args().to_string()), Cow::from);
    let mut pairs = Pairs(Vec::new());
    // It refuses nothing.
    let _ = record.key_values().visit(&mut pairs);
    LogRecord {
        level: record.level() as u8,
        target: record.target().to_owned(),
        text: text.into_owned(),
        module: record.module_path().map(str::to_owned),
        file: record.file().map(str::to_owned),
        line: record.line(),
        pairs: pairs.0,
    }
}

/// In the parent: gives it to the logger.
pub(super) fn emit(record: &LogRecord, source: &Source) {
    let Some(level) = Level::iter().find(|level| *level as u8 == record.level) else { return };
    let metadata = Metadata::builder().level(level).target(&record.target).build();
    let logger = log::logger();
    if level > log::max_level() || !logger.enabled(&metadata) {
        return;
    }
    let pairs = OfChild { source, pairs: &record.pairs };
    logger.log(
        &log::Record::builder()
            .metadata(metadata)
            .args(format_args!("{}", record.text))
            .module_path(record.module.as_deref())
            .file(record.file.as_deref())
            .line(record.line)
            .key_values(&pairs)
            .build(),
    );
}

/// The key-value pairs of a record, as text.
struct Pairs(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for Pairs {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
}

/// The pairs of a record that has come, and whose it is.
struct OfChild<'a> {
    source: &'a Source,
    pairs: &'a [(String, String)],
}

impl kv::Source for OfChild<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), kv::Error> {
        visitor.visit_pair(Key::from_str("process"), self.source.name.to_value())?;
        visitor.visit_pair(Key::from_str("pid"), self.source.pid.to_value())?;
        if let Some(slot) = &self.source.slot {
            visitor.visit_pair(Key::from_str("worker"), slot.to_value())?;
        }
        self.pairs.iter().try_for_each(|(key, value)| visitor.visit_pair(Key::from_str(key), value.to_value()))
    }
}
