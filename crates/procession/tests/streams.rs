//! Results as futures, lazy maps, queues and connections as streams and sinks, under tokio and
//! under smol.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{self, join_all, poll_fn};
use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt, Stream, StreamExt, TryStreamExt};
use procession::{Connection, Context, Pool, Queue, Result, pipe};
use procession_testing::{Trial, eventually, for_each_context, kill, once, open_fds, run, tests, trial};

const IN_FLIGHT: u64 = 10_000;

fn main() {
    procession::init();
    run(tests! {
        // First: fork wants no other threads, and smol leaves some.
        for_each_context: [a_child_feeds_a_stream_by_a_queue, a_child_answers_a_sink_over_a_connection],
        for_each_runtime: [
            ten_thousand_tasks_in_flight_are_awaited,
            ten_thousand_tasks_in_flight_are_cancelled_and_the_pool_goes_on,
            a_lazy_map_is_a_stream,
            a_queue_is_a_stream_and_a_sink,
            a_connection_is_a_stream_and_a_sink,
        ],
        once: [
            a_dropped_future_cancels_its_running_task,
            a_result_that_was_not_awaited_runs_on_when_dropped,
            a_detached_future_runs_on,
            a_future_that_is_only_borrowed_is_not_cancelled,
            an_abort_handle_ends_what_another_awaits,
            a_stream_pulls_no_further_than_an_iterator,
            a_dropped_stream_cancels_what_runs,
            a_stream_given_back_runs_on,
            a_task_that_fails_is_an_item,
            more_queues_than_the_kernel_waits_for_at_once_have_one_thread,
            a_killed_producer_ends_no_wait,
            a_queue_without_a_waiter_keeps_no_descriptor,
            a_peer_that_is_killed_ends_a_stream,
            a_frame_larger_than_the_socket_goes_bit_by_bit,
            a_connection_waits_in_both_directions_at_once,
        ],
    })
}

/// One that runs a future to its end, and may run others beside it.
#[derive(Clone, Copy)]
enum Runtime {
    TokioOneThread,
    TokioTwoThreads,
    Smol,
}

impl Runtime {
    fn block_on<F: Future>(self, future: F) -> F::Output {
        match self {
            Runtime::TokioOneThread => tokio().block_on(future),
            Runtime::TokioTwoThreads => {
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap().block_on(future)
            }
            Runtime::Smol => smol::block_on(future),
        }
    }

    /// Runs futures as tasks of the runtime's, and returns what they return.
    async fn spawn_all<T: Send + 'static>(
        self,
        futures: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
    ) -> Vec<T> {
        match self {
            Runtime::TokioOneThread | Runtime::TokioTwoThreads => {
                let tasks: Vec<_> = futures.map(tokio::spawn).collect();
                join_all(tasks).await.into_iter().map(std::result::Result::unwrap).collect()
            }
            Runtime::Smol => {
                let tasks: Vec<_> = futures.map(smol::spawn).collect();
                join_all(tasks).await
            }
        }
    }
}

fn for_each_runtime(name: &str, body: fn(Runtime)) -> Vec<Trial> {
    let runtimes = [
        ("tokio_one_thread", Runtime::TokioOneThread),
        ("tokio_two_threads", Runtime::TokioTwoThreads),
        ("smol", Runtime::Smol),
    ];
    runtimes.map(|(kind, runtime)| trial(&format!("{name}::{kind}"), move || body(runtime))).into()
}

fn ten_thousand_tasks_in_flight_are_awaited(runtime: Runtime) {
    let pool = Arc::new(pool());
    let sum: u64 = runtime.block_on(async {
        let squares = (0..IN_FLIGHT).map(|x| {
            let pool = pool.clone();
            async move { pool.apply_async(|x: u64| x * x, x)?.await }
        });
        runtime.spawn_all(squares).await.into_iter().sum::<Result<u64>>().unwrap()
    });
    assert_eq!(sum, (0..IN_FLIGHT).map(|x| x * x).sum());
}

fn ten_thousand_tasks_in_flight_are_cancelled_and_the_pool_goes_on(runtime: Runtime) {
    let pool = pool();
    runtime.block_on(async {
        let mut results: FuturesUnordered<_> =
            (0..IN_FLIGHT).map(|_| pool.apply_async(sleep_for_ever, ()).unwrap()).collect();
        // Each is polled once, and none is there.
        assert!(is_pending(&mut results.next()).await);
        drop(results);
        assert_eq!(pool.apply_async(|x: u64| x + 1, 1).unwrap().await.unwrap(), 2);
    });
    eventually("every task is given up", || pool.stats().unwrap().queued == 0);
}

fn a_lazy_map_is_a_stream(runtime: Runtime) {
    let pool = pool();
    runtime.block_on(async {
        let ordered: Vec<u64> = pool.imap(|x: u64| x * 2, 0..1000).into_async().try_collect().await.unwrap();
        assert_eq!(ordered, (0..1000).map(|x| x * 2).collect::<Vec<_>>());
        let chunks = pool.chunk_size(7).imap_unordered(|x: u64| x * 2, 0..1000).into_async();
        let mut unordered: Vec<u64> = chunks.try_collect().await.unwrap();
        unordered.sort_unstable();
        assert_eq!(unordered, ordered);
    });
}

fn a_queue_is_a_stream_and_a_sink(runtime: Runtime) {
    let queue = Queue::<u64>::bounded(3).unwrap();
    let (mut sink, stream) = (queue.clone().into_async(), queue.into_async());
    let (received, ()) = runtime.block_on(future::join(stream.try_collect::<Vec<_>>(), async {
        for number in 0..1000 {
            sink.send(number).await.unwrap();
        }
        sink.get_ref().close();
        assert!(sink.send(1000).await.unwrap_err().is_closed());
    }));
    assert_eq!(received.unwrap(), (0..1000).collect::<Vec<_>>());
}

fn a_connection_is_a_stream_and_a_sink(runtime: Runtime) {
    let (left, right) = pipe::<u64, String>(true).unwrap();
    let (mut left, right) = (left.into_async().unwrap(), right.into_async().unwrap());
    let (mut answers, mut questions) = right.split();
    runtime.block_on(future::join(
        async {
            for number in 0..1000 {
                left.send(number).await.unwrap();
                assert_eq!(left.next().await.unwrap().unwrap(), number.to_string());
            }
            drop(left);
        },
        async {
            while let Some(number) = questions.next().await {
                answers.send(number.unwrap().to_string()).await.unwrap();
            }
        },
    ));
}

fn a_child_feeds_a_stream_by_a_queue(context: Context) {
    let queue = Queue::new().unwrap();
    let feed = |queue: Queue<u64>| {
        for number in 0..100 {
            queue.put(number).unwrap();
        }
        queue.close();
    };
    let mut child = context.process(feed, queue.clone()).start().unwrap();
    let received: Vec<u64> = tokio().block_on(queue.into_async().try_collect()).unwrap();
    assert_eq!(received, (0..100).collect::<Vec<_>>());
    child.join().unwrap();
}

fn a_child_answers_a_sink_over_a_connection(context: Context) {
    let (ours, theirs) = pipe::<String, usize>(true).unwrap();
    let serve = |end: Connection<usize, String>| {
        while let Ok(word) = end.recv() {
            end.send(&word.len()).unwrap()
        }
    };
    let child = context.process(serve, theirs).start().unwrap();
    tokio().block_on(async {
        let mut ours = ours.into_async().unwrap();
        for len in 0..100 {
            ours.send("x".repeat(len)).await.unwrap();
            assert_eq!(ours.next().await.unwrap().unwrap(), len);
        }
    });
    child.kill().unwrap();
}

fn a_dropped_future_cancels_its_running_task() {
    let pool = Context::forkserver().pool(1).unwrap();
    tokio().block_on(async {
        let pid = pool.worker_pids()[0];
        let ran = tokio::time::timeout(Duration::from_millis(50), pool.apply_async(sleep_for_ever, ()).unwrap()).await;
        assert!(ran.is_err());
        // The worker is ended with the task, and another takes the next.
        let next = pool.apply_async(|()| std::process::id(), ()).unwrap().await.unwrap();
        assert_ne!(next, pid);
    });
}

fn a_result_that_was_not_awaited_runs_on_when_dropped() {
    let pool = pool();
    let queue = Queue::new().unwrap();
    drop(pool.apply_async(note, queue.clone()).unwrap());
    assert_eq!(queue.get().unwrap(), "ran");
}

fn a_detached_future_runs_on() {
    let pool = pool();
    let (begin, queue) = (Queue::new().unwrap(), Queue::new().unwrap());
    let wait_and_note = |(begin, queue): (Queue<()>, Queue<String>)| {
        begin.get().unwrap();
        note(queue);
    };
    let mut result = pool.apply_async(wait_and_note, (begin.clone(), queue.clone())).unwrap();
    smol::block_on(async { assert!(is_pending(&mut result).await) });
    result.detach();
    begin.put(()).unwrap();
    assert_eq!(queue.get().unwrap(), "ran");
}

fn a_future_that_is_only_borrowed_is_not_cancelled() {
    let pool = pool();
    let begin = Queue::new().unwrap();
    let mut result = pool.apply_async(|begin: Queue<u64>| begin.get().unwrap(), begin.clone()).unwrap();
    tokio().block_on(async {
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut result).await.is_err());
        begin.put(7).unwrap();
        assert_eq!(result.await.unwrap(), 7);
    });
}

fn an_abort_handle_ends_what_another_awaits() {
    let pool = pool();
    tokio().block_on(async {
        let result = pool.apply_async(sleep_for_ever, ()).unwrap();
        let handle = result.abort_handle();
        assert_eq!(handle.id(), result.id());
        let waiting = tokio::spawn(result);
        tokio::task::yield_now().await;
        assert!(!handle.is_finished());
        handle.abort();
        assert!(waiting.await.unwrap().unwrap_err().is_cancelled());
        assert!(handle.is_finished());
    });
}

fn a_stream_pulls_no_further_than_an_iterator() {
    let pool = pool();
    let pulled = Arc::new(AtomicUsize::new(0));
    let counted = pulled.clone();
    let items = (0..u64::MAX).inspect(move |_| _ = counted.fetch_add(1, Ordering::Relaxed));
    let mut stream = pool.imap(|x: u64| x, items).into_async();
    smol::block_on(async {
        for expected in 0..100 {
            assert_eq!(stream.next().await.unwrap().unwrap(), expected);
        }
    });
    assert!(pulled.load(Ordering::Relaxed) < 200, "{pulled:?} items were pulled for 100 results");
}

fn a_dropped_stream_cancels_what_runs() {
    let pool = Context::forkserver().pool(1).unwrap();
    smol::block_on(async {
        let mut stream = pool.imap(|_: u64| sleep_for_ever(()), 0..u64::MAX).into_async();
        assert!(is_pending(&mut stream.next()).await);
        eventually("the first task runs", || {
            pool.stats().unwrap().workers.iter().any(|worker| worker.running.is_some())
        });
        drop(stream);
        assert_eq!(pool.apply_async(|x: u64| x, 7).unwrap().await.unwrap(), 7);
    });
}

fn a_stream_given_back_runs_on() {
    let pool = pool();
    let queue = Queue::new().unwrap();
    let (begin, items) = (Queue::<()>::new().unwrap(), vec![queue.clone()]);
    let gate = begin.clone();
    let arguments = items.into_iter().map(move |queue| (gate.clone(), queue));
    let wait_and_note = |(begin, queue): (Queue<()>, Queue<String>)| {
        begin.get().unwrap();
        note(queue);
    };
    let mut stream = pool.imap(wait_and_note, arguments).into_async();
    smol::block_on(async { assert!(is_pending(&mut stream.next()).await) });
    drop(stream.into_inner());
    begin.put(()).unwrap();
    assert_eq!(queue.get().unwrap(), "ran");
}

fn a_task_that_fails_is_an_item() {
    let pool = pool();
    let odd_dies = |x: u64| if x == 1 { std::process::abort() } else { x };
    let results: Vec<Result<u64>> = smol::block_on(pool.imap(odd_dies, 0..3).into_async().collect());
    assert_eq!(results.len(), 3);
    assert!(results[1].as_ref().unwrap_err().is_worker_lost());
    assert_eq!(*results[2].as_ref().unwrap(), 2);
}

fn more_queues_than_the_kernel_waits_for_at_once_have_one_thread() {
    const COUNT: usize = 200;
    let queues: Vec<Queue<usize>> = (0..COUNT).map(|_| Queue::new().unwrap()).collect();
    let mut streams: Vec<_> = queues.iter().map(|queue| queue.clone().into_async()).collect();
    smol::block_on(async {
        let mut nexts = pin!(join_all(streams.iter_mut().map(StreamExt::next)));
        assert!(is_pending(&mut nexts).await);
        assert_eq!(threads("reactor"), 1);
        assert_eq!(threads("queue"), 0);
        let putting = std::thread::spawn(move || {
            for (number, queue) in queues.iter().enumerate().rev() {
                queue.put(number).unwrap();
            }
        });
        let got: Vec<usize> = nexts.await.into_iter().map(|item| item.unwrap().unwrap()).collect();
        assert_eq!(got, (0..COUNT).collect::<Vec<_>>());
        putting.join().unwrap();
    });
}

fn a_killed_producer_ends_no_wait() {
    let context = Context::forkserver();
    let queue = Queue::new().unwrap();
    let put_and_wait = |queue: Queue<u64>| {
        queue.put(std::process::id().into()).unwrap();
        sleep_for_ever(());
    };
    let child = context.process(put_and_wait, queue.clone()).start().unwrap();
    let mut stream = queue.clone().into_async();
    smol::block_on(async {
        let pid = stream.next().await.unwrap().unwrap();
        assert_eq!(pid, u64::from(child.pid()));
        child.kill().unwrap();
        let mut next = stream.next();
        assert!(is_pending(&mut next).await);
        queue.put(7).unwrap();
        assert_eq!(next.await.unwrap().unwrap(), 7);
    });
}

fn a_queue_without_a_waiter_keeps_no_descriptor() {
    let wait_once = || {
        let mut stream = Queue::<u64>::new().unwrap().into_async();
        smol::block_on(async { assert!(is_pending(&mut stream.next()).await) });
    };
    wait_once();
    let before = open_fds();
    (0..20).for_each(|_| wait_once());
    eventually("the reactor has let go of the queues", || open_fds() <= before);
}

fn a_peer_that_is_killed_ends_a_stream() {
    let context = Context::forkserver();
    let (ours, theirs) = pipe::<(), u64>(true).unwrap();
    let send_and_wait = |end: Connection<u64, ()>| {
        end.send(&7).unwrap();
        sleep_for_ever(());
    };
    let child = context.process(send_and_wait, theirs).start().unwrap();
    let mut ours = ours.into_async().unwrap();
    smol::block_on(async {
        assert_eq!(ours.next().await.unwrap().unwrap(), 7);
        let pid = child.pid();
        let mut next = ours.next();
        assert!(is_pending(&mut next).await);
        kill(pid);
        assert!(next.await.is_none());
        assert!(ours.next().await.is_none(), "and stays so");
    });
}

fn a_frame_larger_than_the_socket_goes_bit_by_bit() {
    let (left, right) = pipe::<Vec<u8>, Vec<u8>>(true).unwrap();
    let (mut left, mut right) = (left.into_async().unwrap(), right.into_async().unwrap());
    let large = vec![7; 2 << 20];
    let (sent, received) =
        tokio().block_on(future::join(async { left.send(large.clone()).await }, async { right.next().await }));
    sent.unwrap();
    assert!(received.unwrap().unwrap() == large);
    // One that was given up half way is the end of the connection, and says so.
    smol::block_on(async { assert!(is_pending(&mut left.send(large)).await) });
    let left = left.into_inner();
    assert!(left.send(&vec![1]).unwrap_err().is_malformed());
}

fn a_connection_waits_in_both_directions_at_once() {
    let (left, right) = pipe::<Vec<u8>, u64>(true).unwrap();
    let (mut sink, mut stream) = left.into_async().unwrap().split();
    smol::block_on(async {
        let sending = sink.send(vec![7; 2 << 20]);
        let receiving = stream.next();
        let other = smol::unblock(move || {
            right.send(&7).unwrap();
            right.recv().unwrap().len()
        });
        let (sent, received, len) = future::join3(sending, receiving, other).await;
        sent.unwrap();
        assert_eq!(received.unwrap().unwrap(), 7);
        assert_eq!(len, 2 << 20);
    });
}

fn note(queue: Queue<String>) {
    queue.put("ran".to_owned()).unwrap();
}

fn sleep_for_ever(_: ()) {
    std::thread::sleep(Duration::MAX);
}

/// Polls a future once.
async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    poll_fn(|context| Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())).await
}

/// Returns the number of threads of this process that have a name with this part.
fn threads(part: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
    names.filter(|name| name.contains(part)).count()
}

fn tokio() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

fn pool() -> Pool {
    Context::forkserver().pool(2).unwrap()
}

/// Streams go to other threads, as their runtimes want it.
#[allow(dead_code, reason = "it is compiled, and not run")]
fn streams_are_send(pool: &Pool, queue: Queue<u64>, connection: Connection<u64, u64>) {
    fn is_send(_: impl Stream + Send + 'static) {}
    is_send(pool.imap(|x: u64| x, 0..1).into_async());
    is_send(queue.into_async());
    is_send(connection.into_async().unwrap());
}
