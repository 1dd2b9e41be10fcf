//! Events of the crate `tracing`: sent by a subscriber in the child, given to the parent's
//! subscriber.
//!
//! An event comes with its level, target, place and fields, and with the spans that it was in, as
//! text. In the parent it is an event of a callsite that is made for it, so that filters treat it
//! as an event of the parent's own code. Callsites are never dropped: there is one for each place
//! in the code that has sent, and no more than [`MAX_CALLSITES`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use procession_core::output::Source;
use tracing::callsite::{Callsite, Identifier};
use tracing::field::{Field, FieldSet, Value, Visit};
use tracing::level_filters::LevelFilter;
use tracing::metadata::Kind;
use tracing::span::{Attributes, Id, Record as SpanFields};
use tracing::subscriber::{Interest, Subscriber};
use tracing::{Dispatch, Event, Level, Metadata};

use super::wire::{self, EventRecord, Record, Site};

/// The most places of which events come with their own names, levels and fields. A child that
/// nobody trusts may name as many as it likes.
const MAX_CALLSITES: usize = 4096;

/// The fields beside an event's own.
const PROCESS: &str = "process";
const PID: &str = "pid";
const WORKER: &str = "worker";
const SPANS: &str = "spans";

const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

fn number(level: Level) -> u8 {
    LEVELS.iter().position(|known| *known == level).map_or(0, |index| index as u8 + 1)
}

/// The level up to which this program wants events, as a number.
pub(super) fn wanted_level() -> u8 {
    LevelFilter::current().into_level().map_or(0, number)
}

/// In the child: has events of up to this level sent.
pub(super) fn begin(level: u8) {
    let level = level.checked_sub(1).and_then(|index| LEVELS.get(usize::from(index)).copied());
    let dispatch = Dispatch::new(Sender { level, next: AtomicU64::new(1), spans: Mutex::default() });
    if tracing::dispatcher::set_global_default(dispatch.clone()).is_err() {
        // A forked child has its parent's. This thread runs the tasks, and has another for good.
        std::mem::forget(tracing::dispatcher::set_default(&dispatch));
    }
}

/// The child's subscriber.
struct Sender {
    level: Option<Level>,
    next: AtomicU64,
    spans: Mutex<HashMap<u64, Span>>,
}

/// Returns whether a span is that of a pool's task, which tells of which job it is.
fn is_task(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.name() == "task" && metadata.target() == "procession::pool"
}

/// A span of the child.
struct Span {
    /// Its name and fields.
    text: String,
    /// Of a task: the job.
    job: Option<u64>,
    /// The number of references to the span.
    count: usize,
}

thread_local! {
    /// The spans that this thread is in.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl Subscriber for Sender {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_task(metadata) || self.level.is_some_and(|level| *metadata.level() <= level)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // That of a task's span is debug.
        Some(LevelFilter::from_level(self.level.map_or(Level::DEBUG, |level| level.max(Level::DEBUG))))
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut text = Text { text: format!("{}{{", span.metadata().name()), job: None };
        span.record(&mut text);
        let job = text.job.filter(|_| is_task(span.metadata()));
        self.spans().insert(id, Span { text: text.text + "}", job, count: 1 });
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &SpanFields<'_>) {
        if let Some(known) = self.spans().get_mut(&span.into_u64()) {
            known.text.pop();
            let mut text = Text { text: std::mem::take(&mut known.text), job: None };
            values.record(&mut text);
            known.text = text.text + "}";
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (mut spans, mut job) = (Vec::new(), 0);
        ENTERED.with_borrow(|entered| {
            let known = self.spans();
            for span in entered.iter().filter_map(|id| known.get(id)) {
                spans.push(span.text.clone());
                job = span.job.unwrap_or(job);
            }
        });
        let site = Site {
            name: metadata.name().to_owned(),
            target: metadata.target().to_owned(),
            level: number(*metadata.level()),
            module: metadata.module_path().map(str::to_owned),
            file: metadata.file().map(str::to_owned),
            line: metadata.line(),
            fields: fields.names,
        };
        wire::send(&Record::Event(EventRecord { site, job, values: fields.values, spans }));
    }

    fn enter(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| {
            if let Some(index) = entered.iter().rposition(|id| *id == span.into_u64()) {
                entered.remove(index);
            }
        });
    }

    fn clone_span(&self, span: &Id) -> Id {
        if let Some(known) = self.spans().get_mut(&span.into_u64()) {
            known.count += 1;
        }
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let mut spans = self.spans();
        let Some(known) = spans.get_mut(&span.into_u64()) else { return false };
        known.count -= 1;
        let is_last = known.count == 0;
        if is_last {
            spans.remove(&span.into_u64());
        }
        is_last
    }
}

impl Sender {
    fn spans(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fields as the text of a span.
struct Text {
    text: String,
    /// The field of this name.
    job: Option<u64>,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let space = if self.text.ends_with('{') { "" } else { " " };
        // A string takes everything.
        let _ = write!(self.text, "{space}{}={value:?}", field.name());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "job" {
            self.job = Some(value);
        }
        self.record_debug(field, &value);
    }
}

/// Fields by their names.
#[derive(Default)]
struct Fields {
    names: Vec<String>,
    values: Vec<String>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.names.push(field.name().to_owned());
        self.values.push(format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.names.push(field.name().to_owned());
        self.values.push(value.to_owned());
    }
}

/// The parent's callsite for a place in the code of children.
struct Place {
    metadata: OnceLock<Metadata<'static>>,
}

impl Callsite for Place {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        self.metadata.get().expect("it is set before the place is registered")
    }
}

impl Place {
    /// Makes it, for as long as this process lives.
    fn new(site: &Site) -> &'static Place {
        let text = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        let own = site.fields.iter().map(|field| text(field));
        let names: Vec<&'static str> = own.chain([PROCESS, PID, WORKER, SPANS]).collect();
        let place: &'static Place = Box::leak(Box::new(Place { metadata: OnceLock::new() }));
        let level = site.level.checked_sub(1).and_then(|index| LEVELS.get(usize::from(index)).copied());
        let fields = FieldSet::new(Box::leak(names.into_boxed_slice()), Identifier(place));
        let metadata = Metadata::new(
            text(&site.name),
            text(&site.target),
            level.unwrap_or(Level::TRACE),
            site.file.as_deref().map(text),
            site.line,
            site.module.as_deref().map(text),
            fields,
            Kind::EVENT,
        );
        let set = place.metadata.set(metadata);
        debug_assert!(set.is_ok(), "a new place has no metadata");
        tracing::callsite::register(place);
        place
    }

    /// The place of a site; the same for the same. `None`: there are as many as may be.
    fn of(site: &Site) -> Option<&'static Place> {
        static PLACES: Mutex<Option<HashMap<Site, &'static Place>>> = Mutex::new(None);
        let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        let places = places.get_or_insert_default();
        if let Some(place) = places.get(site) {
            return Some(place);
        }
        if places.len() >= MAX_CALLSITES {
            return None;
        }
        let place = Place::new(site);
        places.insert(site.clone(), place);
        Some(place)
    }
}

/// In the parent: gives it to the subscriber.
pub(super) fn emit(event: &EventRecord, source: &Source) {
    let EventRecord { site, values, spans, .. } = event;
    // A child may send anything.
    if site.fields.len() != values.len() || site.fields.len() > 64 {
        return;
    }
    let Some(place) = Place::of(site) else {
        tracing::warn!(process = source.name, pid = source.pid, "an event of a further place in the code: {site:?}");
        return;
    };
    let metadata: &'static Metadata<'static> = place.metadata.get().expect("it was set when it was made");
    let is_wanted = tracing::dispatcher::get_default(|current| current.enabled(metadata));
    if *metadata.level() > LevelFilter::current() || !is_wanted {
        return;
    }
    let spans = spans.join(":");
    let message = |text: &String| tracing::field::display(text.clone());
    let texts: Vec<_> = values.iter().map(message).collect();
    let mut all: Vec<Option<&dyn Value>> = texts.iter().map(|text| Some(text as &dyn Value)).collect();
    let slot = source.slot.map(|slot| slot as u64);
    all.push(Some(&source.name));
    all.push(Some(&source.pid));
    all.push(slot.as_ref().map(|slot| slot as &dyn Value));
    all.push(if spans.is_empty() { None } else { Some(&spans) });
    Event::dispatch(metadata, &metadata.fields().value_set_all(&all));
}
