//! A program whose `main` is a framework's: it starts processes without a word before, beside the
//! framework's threads.

use procession::Context;
use procession_testing::{Trial, run, tests, trial};
use tokio::runtime::Handle;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    run(tests! {
        for_spawn_and_forkserver: [
            process_starts_in_a_program_of_tokios,
            pool_serves_tasks_of_tokio,
        ],
    })
}

fn for_spawn_and_forkserver(name: &str, body: fn(Context)) -> Vec<Trial> {
    let methods = [("spawn", Context::spawn()), ("forkserver", Context::forkserver())];
    methods.map(|(method, context)| trial(&format!("{name}::{method}"), move || body(context))).into()
}

fn process_starts_in_a_program_of_tokios(context: Context) {
    let mut process = context.process(|x: u64| x + 1, 41).start().unwrap();
    assert_eq!(process.join().unwrap(), 42);
}

fn pool_serves_tasks_of_tokio(context: Context) {
    let pool = context.pool(2).unwrap();
    let submitted: Vec<_> = (0..20).map(|x| pool.apply_async(|x: u64| x * x, x).unwrap()).collect();
    let tasks: Vec<_> = submitted.into_iter().map(|result| Handle::current().spawn(result)).collect();
    let (tell, told) = std::sync::mpsc::channel();
    Handle::current().spawn(async move {
        for task in tasks {
            tell.send(task.await.unwrap().unwrap()).unwrap();
        }
    });
    assert_eq!(told.iter().collect::<Vec<u64>>(), (0..20).map(|x| x * x).collect::<Vec<_>>());
}
