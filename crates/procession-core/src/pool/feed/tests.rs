//! Feeds of a pool without processes: the test says which chunks have their results, and when.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::super::crew::Never;
use super::super::job::Job;
use super::super::lifecycle::Phase;
use super::super::shared::Shared;
use super::super::table::Delivery;
use super::super::worker::Service;
use super::*;
use crate::outcome::tag;

type Next = dyn FnMut(&Feeder) -> Result<Option<Encoded<String>>, String>;

/// A source that the test writes.
struct Given(Box<Next>);

thread_local! {
    /// Runs before whatever may block.
    static BEFORE_BLOCKING: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
}

impl Source for Given {
    type Error = String;

    fn next(&mut self, feeder: &Feeder) -> Result<Option<Encoded<String>>, String> {
        (self.0)(feeder)
    }

    fn run<R: Send>(act: impl FnOnce() -> R + Send, _: impl FnOnce(&R) -> bool) -> Result<R, String> {
        BEFORE_BLOCKING.with_borrow_mut(|before| before.iter_mut().for_each(|before| before()));
        Ok(act())
    }

    fn refused(error: Error) -> String {
        error.to_string()
    }
}

fn pool() -> Arc<Shared> {
    Arc::new(Shared::new(2, Box::new(Never), Service::default()).unwrap())
}

/// One chunk of so many items.
fn encoded(feeder: &Feeder, items: u64) -> Encoded<String> {
    let push = |items: &mut Items, number: u64| {
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(&number.to_le_bytes());
            Ok(())
        };
        items.push(write, || "too large".to_owned())
    };
    Encoded::Items(feeder.items(1, |all| (0..items).try_for_each(|number| push(all, number))).unwrap())
}

/// Single items of a range, each a chunk.
fn numbers(mut range: Range<u64>) -> Given {
    Given(Box::new(move |feeder| Ok(range.next().map(|_| encoded(feeder, 1)))))
}

fn feed(pool: &Arc<Shared>, source: Given, most: usize) -> Feed<Given> {
    let entry = ChunkEntry::of(|_| ());
    let terms = Terms { chunk: Some(3), ..Terms::default() };
    let window = Window { most, refill_at: most / 2 };
    Feed::new(source, Feeder::new(pool).unwrap(), entry, terms, window)
}

/// As a worker would: gives each task of the job a value.
fn finish(pool: &Shared, job: &Arc<Job>) {
    for index in 0..job.len {
        if let Delivery::Finished(ended) = pool.table.deliver(job, 0, index as u32, tag::VALUE, b"") {
            pool.end_job(ended);
        }
    }
    assert!(job.is_finished());
}

fn job_of(ahead: &Ahead<Given>, chunk: usize) -> Arc<Job> {
    ahead.chunks[chunk].as_ref().unwrap().handle.job.clone()
}

fn take_first(ahead: &mut Ahead<Given>) -> Option<usize> {
    ahead.take(Some(Instant::now())).unwrap().map(|chunk| chunk.first)
}

#[test]
fn chunks_are_pulled_up_to_the_bound_once_few_are_left() {
    let pool = pool();
    let (mut feed, mut ahead) = (feed(&pool, numbers(0..1000), 8), Ahead::new(Order::OfItems));
    let mut lengths = Vec::new();
    for _ in 0..5 {
        ahead.refill(&mut feed);
        lengths.push(ahead.len());
        finish(&pool, &job_of(&ahead, 0));
        assert!(take_first(&mut ahead).is_some());
    }
    assert_eq!(lengths, [8, 7, 6, 5, 8]);
}

#[test]
fn ordered_results_wait_for_the_first_and_others_do_not() {
    let pool = pool();
    for (order, taken) in [(Order::OfItems, None), (Order::AsReady, Some(2))] {
        let (mut feed, mut ahead) = (feed(&pool, numbers(0..4), 4), Ahead::new(order));
        ahead.refill(&mut feed);
        assert_eq!(take_first(&mut ahead), None, "none is ready");
        finish(&pool, &job_of(&ahead, 2));
        assert_eq!(take_first(&mut ahead), taken);
        finish(&pool, &job_of(&ahead, 0));
        assert_eq!(take_first(&mut ahead), Some(0));
    }
}

#[test]
fn chunk_knows_the_index_of_its_first_item() {
    let pool = pool();
    let mut sizes = [3, 3, 1].into_iter();
    let source = Given(Box::new(move |feeder| Ok(sizes.next().map(|items| encoded(feeder, items)))));
    let (mut feed, mut ahead) = (feed(&pool, source, 8), Ahead::new(Order::OfItems));
    ahead.refill(&mut feed);
    let firsts: Vec<_> = ahead.chunks.iter().map(|chunk| chunk.as_ref().unwrap().first).collect();
    assert_eq!(firsts, [0, 3, 6]);
}

#[test]
fn closed_pool_is_fed_to_the_end_of_the_items() {
    let pool = pool();
    let (mut feed, mut ahead) = (feed(&pool, numbers(0..100), 4), Ahead::new(Order::OfItems));
    ahead.refill(&mut feed);
    assert_eq!((ahead.len(), pool.lifecycle.is_fed()), (4, true));
    pool.lifecycle.advance_to(Phase::Closed);
    ahead.refill(&mut feed);
    assert_eq!((ahead.len(), pool.table.outstanding()), (100, 100));
    assert!(!pool.lifecycle.is_fed(), "nothing more will come");
    assert!(Feeder::new(&pool).is_err(), "a new map is refused");
}

#[test]
fn closed_pool_is_fed_by_who_joins_it_too() {
    let pool = pool();
    let (mut feed, mut ahead) = (feed(&pool, numbers(0..100), 4), Ahead::new(Order::OfItems));
    pool.lifecycle.advance_to(Phase::Closed);
    feed.pull(0);
    assert!(!pool.lifecycle.is_fed());
    ahead.refill(&mut feed);
    assert_eq!(ahead.len(), 100);
}

#[test]
fn closed_pool_has_a_bounded_number_of_chunks_on_their_way() {
    let pool = pool();
    let (worker, most) = (pool.clone(), Rc::new(Cell::new(0)));
    let seen = most.clone();
    let before_blocking = move || {
        let outstanding = worker.table.outstanding();
        seen.set(outstanding.max(seen.get()));
        if outstanding >= MAX_ON_THEIR_WAY {
            worker.table.queued().iter().for_each(|job| finish(&worker, job));
        }
    };
    BEFORE_BLOCKING.set(Some(Box::new(before_blocking)));
    let mut feed = feed(&pool, numbers(0..MAX_ON_THEIR_WAY as u64 + 1000), 4);
    pool.lifecycle.advance_to(Phase::Closed);
    feed.pull(0);
    BEFORE_BLOCKING.set(None);
    assert_eq!((feed.submitted.len(), most.get()), (MAX_ON_THEIR_WAY + 1000, MAX_ON_THEIR_WAY));
}

#[test]
fn terminated_pool_ends_the_items_with_its_error() {
    let pool = pool();
    let (mut feed, mut ahead) = (feed(&pool, numbers(0..1000), 4), Ahead::new(Order::OfItems));
    ahead.refill(&mut feed);
    pool.lifecycle.advance_to(Phase::Terminated);
    let error = Arc::new(pool.lifecycle.check_serving().unwrap_err());
    pool.end_jobs(pool.table.fail_all(&error));
    ahead.refill(&mut feed);
    assert_eq!((ahead.len(), feed.take_error()), (4, Some(error.to_string())));
    assert!(feed.source().is_none() && feed.take_error().is_none(), "said once");
    while let Some(chunk) = ahead.take(Some(Instant::now())).unwrap() {
        assert!(chunk.handle.visit(|_| ()).unwrap().is_err());
    }
    assert!(ahead.is_empty());
}

#[test]
fn chunk_that_does_not_encode_keeps_its_place() {
    let pool = pool();
    let mut range = 0..4;
    let source = Given(Box::new(move |feeder| {
        Ok(range.next().map(|number| match number {
            1 => Encoded::Failed("one".to_owned()),
            _ => encoded(feeder, 1),
        }))
    }));
    let (mut feed, mut ahead) = (feed(&pool, source, 8), Ahead::new(Order::OfItems));
    ahead.refill(&mut feed);
    assert_eq!(ahead.len(), 4);
    finish(&pool, &job_of(&ahead, 0));
    assert_eq!(take_first(&mut ahead), Some(0));
    assert_eq!(ahead.take(None).unwrap_err(), "one");
    finish(&pool, &job_of(&ahead, 1));
    assert_eq!(take_first(&mut ahead), None, "the second is still to come");
    assert!(feed.take_error().is_none());
}

#[test]
fn source_that_fails_ends_the_items_and_what_it_gave_stays() {
    let pool = pool();
    let mut range = 0..4;
    let source = Given(Box::new(move |feeder| match range.next() {
        Some(3) => Err("three".to_owned()),
        number => Ok(number.map(|_| encoded(feeder, 1))),
    }));
    let (mut feed, mut ahead) = (feed(&pool, source, 8), Ahead::new(Order::OfItems));
    ahead.refill(&mut feed);
    assert_eq!((ahead.len(), feed.take_error()), (3, Some("three".to_owned())));
    assert!(feed.take_error().is_none() && !pool.lifecycle.is_fed());
}

#[test]
fn source_that_panics_is_gone() {
    let pool = pool();
    let mut range = 0..4;
    let source = Given(Box::new(move |feeder| {
        let number = range.next().unwrap();
        assert!(number < 2, "two");
        Ok(Some(encoded(feeder, 1)))
    }));
    let mut feed = feed(&pool, source, 8);
    let pulled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| feed.pull(0)));
    assert!(pulled.is_err() && feed.source().is_none() && !pool.lifecycle.is_fed());
    assert_eq!(feed.submitted.len(), 2);
}
