//! Functions that return errors, lazy maps by iterators, and calls with one result, under each
//! start method.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use procession::{Context, MapIn, Message, Pool, Result};
use procession_testing::{for_each_context, once, run, scaled, tests};
use serde::{Deserialize, Serialize};

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            every_kind_of_error_comes_back_as_its_text,
            a_returned_error_ends_a_call_that_fails_fast,
            iterators_map_in_a_pool,
            a_chunk_of_a_lazy_map_loses_one_result_by_a_lost_worker,
            every_task_error_has_its_index,
            reduce_combines_in_order,
            reduce_fails_with_the_item_at_fault,
            functions_without_arguments_run,
        ],
        once: [
            an_argument_that_does_not_encode_names_its_item,
        ],
    })
}

/// An error with a source, as libraries have them.
#[derive(Debug)]
struct Outer(std::num::ParseIntError);

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no number in the file")
    }
}

impl StdError for Outer {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

fn every_kind_of_error_comes_back_as_its_text(context: Context) {
    let pool = context.pool(2).unwrap();
    let parse = |text: String| text.parse::<u64>().map_err(Outer);
    assert_eq!(pool.try_map(parse, ["1", "2"]).unwrap(), [1, 2]);
    let error = pool.try_map(parse, ["1", "x", "y"]).unwrap_err();
    assert!(error.is_task_error() && !error.is_panic() && !error.is_worker_lost());
    assert_eq!((error.index(), error.task_error()), (Some(1), Some("no number in the file")));
    let text = error.to_string();
    assert!(
        text.contains("task 1 of") && text.ends_with("no number in the file: invalid digit found in string"),
        "{text}"
    );
    let source = error.source().unwrap();
    assert_eq!((source.to_string(), source.source().is_none()), ("invalid digit found in string".into(), true));
    let boxed = |text: String| -> std::result::Result<u64, Box<dyn StdError>> { Ok(text.parse()?) };
    let sendable = |text: String| -> std::result::Result<u64, Box<dyn StdError + Send + Sync>> { Ok(text.parse()?) };
    let plain = |text: String| text.parse::<u64>().map_err(|error| error.to_string());
    let io = |path: String| std::fs::read(path);
    for error in [
        pool.try_apply(boxed, "x".into()).unwrap_err(),
        pool.try_apply(sendable, "x".into()).unwrap_err(),
        pool.try_apply(plain, "x".into()).unwrap_err(),
    ] {
        assert_eq!(error.task_error(), Some("invalid digit found in string"));
    }
    assert!(pool.try_apply(io, "/nowhere".into()).unwrap_err().task_error().unwrap().contains("os error 2"));
    let each = pool.try_map_each(parse, ["1", "x", "3"]).unwrap();
    assert_eq!(each.iter().map(|result| result.as_ref().ok().copied()).collect::<Vec<_>>(), [Some(1), None, Some(3)]);
    let lazily: Vec<_> = pool.try_imap(parse, ["1", "x", "3"]).collect();
    assert!(lazily[1].as_ref().is_err_and(|error| error.is_task_error() && error.index() == Some(1)));
    assert_eq!(lazily.into_iter().flatten().collect::<Vec<_>>(), [1, 3]);
}

fn a_returned_error_ends_a_call_that_fails_fast(context: Context) {
    let pool = context.pool(2).unwrap();
    let checked = |x: u64| if x == 5 { Err("five") } else { Ok(x) };
    let error = pool.fail_fast().try_map(checked, 0..1_000_000).unwrap_err();
    assert_eq!((error.task_error(), error.index()), (Some("five"), Some(5)));
    assert!(pool.stats().unwrap().done < 1_000_000);
}

fn iterators_map_in_a_pool(context: Context) {
    let pool = context.pool(2).unwrap();
    let squares: Vec<u64> = (0..1000_u64).map_in(&pool, |x: u64| x * x).collect::<Result<_>>().unwrap();
    assert!(squares.iter().copied().eq((0..1000).map(|x| x * x)));
    let odd = (0_u64..).filter(|x| x % 2 == 1).map_in(&pool.chunk_size(7), |x| x + 1).take(5);
    assert_eq!(odd.collect::<Result<Vec<u64>>>().unwrap(), [2, 4, 6, 8, 10]);
    let mut unordered: Vec<u64> = vec![3, 1, 2].map_in_unordered(&pool, |x| x).collect::<Result<_>>().unwrap();
    unordered.sort_unstable();
    assert_eq!(unordered, [1, 2, 3]);
    let error =
        ["1", "x"].try_map_in(&pool, |text: String| text.parse::<u8>()).collect::<Result<Vec<_>>>().unwrap_err();
    assert_eq!(error.index(), Some(1));
}

fn a_chunk_of_a_lazy_map_loses_one_result_by_a_lost_worker(context: Context) {
    let pool = context.pool(2).unwrap().chunk_size(10);
    let work = |x: u64| match x {
        13 => std::process::abort(),
        27 => panic!("twenty-seven"),
        x => x,
    };
    let results: Vec<_> = pool.imap(work, 0..40).collect();
    assert_eq!(results.len(), 40);
    for (x, result) in results.iter().enumerate() {
        match result {
            Ok(value) => assert_eq!(*value, x as u64),
            Err(error) => {
                assert!(if x == 13 { error.is_worker_lost() } else { x == 27 && error.is_panic() }, "{x}: {error}");
                assert_eq!(error.index(), Some(x));
            }
        }
    }
    assert_eq!(pool.imap_unordered(work, 0..40).filter(|result| result.is_ok()).count(), 38);
}

/// Checks that every kind of a task's failure has the task's index.
fn every_task_error_has_its_index(context: Context) {
    fn fail(kind: u64) -> std::result::Result<Bad, String> {
        match kind {
            0 => panic!("it panics"),
            1 => std::process::abort(),
            2 => std::thread::sleep(Duration::from_secs(3600)),
            3 => return Err("it fails".into()),
            _ => {}
        }
        Ok(Bad)
    }
    /// It does not encode.
    struct Bad;
    impl Serialize for Bad {
        fn serialize<S: serde::Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("it does not encode"))
        }
    }
    impl<'de> Deserialize<'de> for Bad {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> std::result::Result<Bad, D::Error> {
            Err(serde::de::Error::custom("it does not decode"))
        }
    }
    fn errors<R: Message>(results: Vec<Result<R>>) -> Vec<procession::Error> {
        results.into_iter().map(|result| result.err().expect("each fails")).collect()
    }
    let pool = context.pool(2).unwrap().timeout(scaled(Duration::from_millis(300)));
    let found = errors(pool.try_map_each(fail, 0..5).unwrap());
    let is = [
        found[0].is_panic(),
        found[1].is_worker_lost(),
        found[2].is_task_timeout(),
        found[3].is_task_error(),
        found[4].is_encode(),
    ];
    assert_eq!(is, [true; 5], "{found:?}");
    let undecodable = errors(pool.map_each(|_: procession_testing::OneWay| 1, [procession_testing::OneWay]).unwrap());
    assert!(undecodable[0].is_decode());
    for (index, error) in found.iter().enumerate() {
        assert_eq!(error.index(), Some(index), "{error}");
    }
    assert_eq!(undecodable[0].index(), Some(0));
}

fn reduce_combines_in_order(context: Context) {
    let pool = context.pool(3).unwrap();
    // Associative, and not commutative.
    let joined = pool.map_reduce(|x: u32| x.to_string(), |a, b| a + &b, 0..2000).unwrap().unwrap();
    assert_eq!(joined, (0..2000).map(|x| x.to_string()).collect::<String>());
    for size in [1, 7, 5000] {
        let sum = pool.chunk_size(size).reduce(|a: u64, b: u64| a + b, 0..1000_u64).unwrap();
        assert_eq!(sum, Some(499_500));
    }
    let limited = pool.timeout(scaled(Duration::from_secs(30))).retries(1);
    assert_eq!(limited.reduce(u64::max, [3, 9, 4]).unwrap(), Some(9));
    assert_eq!(pool.reduce(u64::max, Vec::<u64>::new()).unwrap(), None);
    let words = vec!["by".to_owned(), "reference".to_owned()];
    assert_eq!(pool.map_reduce(|word: String| word.len(), usize::max, &words).unwrap(), Some(9));
    assert!(pool.chunk_size(0).reduce(u64::max, [1]).unwrap_err().is_invalid());
    pool.for_each(|x: u64| assert!(x < 100), 0..100).unwrap();
    assert_eq!(pool.for_each(|x: u64| assert!(x < 100), 0..101).unwrap_err().index(), Some(100));
}

fn reduce_fails_with_the_item_at_fault(context: Context) {
    let pool = context.pool(2).unwrap();
    let map = |x: u64| if x == 777 { panic!("seven") } else { x };
    for pool in [pool.clone(), pool.chunk_size(50)] {
        let error = pool.map_reduce(map, |a, b| a + b, 0..1000).unwrap_err();
        assert_eq!((error.panic_message(), error.index()), (Some("seven"), Some(777)), "{error}");
        assert!(error.task().unwrap().starts_with("task 777 of"), "{error}");
    }
    let lost = |x: u64| if x == 777 { std::process::abort() } else { x };
    let error = pool.chunk_size(50).map_reduce(lost, |a, b| a + b, 0..1000).unwrap_err();
    assert!(error.is_worker_lost() && error.index() == Some(750), "{error}");
    let error = pool.retries(1).map_reduce(lost, |a, b| a + b, 0..1000).unwrap_err();
    assert!(error.is_worker_lost() && error.index() == Some(777), "{error}");
}

fn functions_without_arguments_run(context: Context) {
    let pool = context.pool(2).unwrap();
    fn pid() -> u32 {
        std::process::id()
    }
    assert!(pool.worker_pids().contains(&pool.call(pid).unwrap()));
    let started: Vec<_> = (0..10).map(|_| pool.call_async(|| "called".to_owned()).unwrap()).collect();
    assert!(started.iter().all(|result| result.get().unwrap() == "called"));
    assert_eq!(pool.call(|| -> u8 { panic!("uncalled for") }).unwrap_err().panic_message(), Some("uncalled for"));
}

fn an_argument_that_does_not_encode_names_its_item() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::path::PathBuf;

    let pool: Pool = Context::fork().pool(1).unwrap();
    let bad = PathBuf::from(OsString::from_vec(vec![b'/', 0xff]));
    let paths = [PathBuf::from("/fine"), PathBuf::from("/fine/too"), bad];
    let exists = |path: PathBuf| path.exists();
    let lazily = pool.chunk_size(2).imap(exists, paths.clone()).find_map(Result::err).unwrap();
    for error in [pool.map(exists, &paths).unwrap_err(), pool.reduce(|a: PathBuf, _| a, &paths).unwrap_err(), lazily] {
        assert!(error.is_encode() && error.index() == Some(2), "{error}");
        assert!(error.to_string().contains("task 2 of") && error.to_string().contains("UTF-8"), "{error}");
    }
}
