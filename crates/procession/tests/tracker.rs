//! The tracker of shared memory: what a program leaves behind, however it ends; its own death;
//! other programs.
//!
//! The test runs this program again as the one to be killed
//! (`argument: a role, and what it needs`); that prints what it has made, and then waits for its
//! end.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use procession::{Context, Process, SharedMemory, active_children};
use procession_sys::Signal;
use procession_sys::pidfd::PidFd;
use procession_testing::{children_of_named, eventually, for_each_context, kill, once, run, runs, skip, tests};
use rustix::net::sockopt::socket_type;
use rustix::net::{SendFlags, SocketType, send};
use rustix::process::{Pid as RawPid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

fn main() {
    procession::init();
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "makes", method] => makes(Context::new(method.parse().unwrap())),
        [_, "attaches", name] => attaches(name),
        [_, "waits"] => waits(),
        [_, "returns"] => print(&[SharedMemory::create_named(100).unwrap().name().unwrap()]),
        _ => test(),
    }
}

fn test() -> ! {
    run(tests! {
        for_each_context: [
            all_are_killed_one_by_one_and_no_name_stays,
        ],
        once: [
            the_whole_process_group_is_killed_and_no_name_stays,
            a_program_that_returns_leaves_nothing,
            a_name_in_use_by_another_program_lives_until_that_ends,
            a_readers_exit_leaves_the_name,
            a_killed_tracker_is_started_anew_by_the_next_use,
            names_of_before_are_told_to_the_new_tracker,
            a_message_that_is_no_name_costs_the_tracker_none,
            python_finds_ours_and_we_find_pythons,
        ],
    })
}

fn all_are_killed_one_by_one_and_no_name_stays(context: Context) {
    let program = Program::run(&["makes", &context.start_method().to_string()]);
    let (names, pids): (Vec<String>, Vec<String>) =
        program.told.iter().cloned().partition(|word| word.parse::<u32>().is_err());
    assert!(names.len() == 5 && names.iter().all(|name| path(name).exists()), "{:?}", program.told);
    let tracker = program.tracker();
    let others = pids.iter().map(|pid| pid.parse().unwrap()).filter(|pid| *pid != program.process.id());
    assert!(others.flat_map(|pid| children_of_named(pid, "tracker")).next().is_none(), "all share the one");
    for pid in pids {
        // The first death takes others along.
        let _ = PidFd::open(pid.parse().unwrap()).map(|process| process.signal(Signal::KILL));
    }
    program.killed();
    eventually("every name is gone", || !names.iter().any(|name| path(name).exists()));
    eventually("the tracker ends", || !runs(tracker));
}

fn the_whole_process_group_is_killed_and_no_name_stays() {
    let program = Program::run(&["makes", "spawn"]);
    let (names, tracker) = (program.names(), program.tracker());
    let group = format!("-{}", program.process.id());
    for signal in ["-INT", "-TERM", "-HUP", "-KILL"] {
        // Once the group is gone there is nobody left to signal.
        Command::new("kill").args([signal, "--", &group]).stderr(Stdio::null()).status().unwrap();
    }
    program.killed();
    eventually("every name is gone", || !names.iter().any(|name| path(name).exists()));
    eventually("the tracker ends", || !runs(tracker));
}

fn a_program_that_returns_leaves_nothing() {
    let program = Program::run(&["returns"]);
    let names = program.names();
    assert_eq!(names.len(), 1);
    program.ended();
    eventually("its name is gone", || !path(&names[0]).exists());
}

fn a_name_in_use_by_another_program_lives_until_that_ends() {
    let maker = Program::run(&["makes", "fork"]);
    let (names, tracker) = (maker.names(), maker.tracker());
    let reader = Program::run(&["attaches", &names[0]]);
    let mine = SharedMemory::attach(&names[1]).unwrap();
    maker.kill();
    eventually("names nobody uses are gone", || names[2..].iter().all(|name| !path(name).exists()));
    assert!(path(&names[0]).exists() && path(&names[1]).exists(), "what is in use stays");
    assert!(SharedMemory::attach(&names[0]).is_ok(), "and can be found");
    reader.kill();
    eventually("the killed reader's is gone", || !path(&names[0]).exists());
    assert!(path(&names[1]).exists(), "the tracker has looked at all again");
    drop(mine);
    eventually("the dropped one's is gone", || !path(&names[1]).exists());
    eventually("the tracker ends", || !runs(tracker));
}

fn a_readers_exit_leaves_the_name() {
    let memory = SharedMemory::create_named(100).unwrap();
    let name = memory.name().unwrap();
    for _ in 0..3 {
        let reader = Program::run(&["attaches", name]);
        let trackers = children_of_named(reader.process.id(), "tracker");
        reader.kill();
        eventually("nobody of the reader's is left", || !trackers.iter().any(|pid| runs(*pid)));
        assert!(path(name).exists());
    }
    drop(SharedMemory::attach(name).unwrap());
    assert!(path(name).exists());
    memory.unlink().unwrap();
}

fn a_killed_tracker_is_started_anew_by_the_next_use() {
    let before = SharedMemory::create_named(100).unwrap();
    for _ in 0..3 {
        let trackers = children_of_named(std::process::id(), "tracker");
        assert_eq!(trackers.len(), 1, "one tracker");
        assert!(kill(trackers[0]));
        eventually("it is dead", || !runs(trackers[0]));
        let after = SharedMemory::create_named(100).unwrap();
        assert!(path(before.name().unwrap()).exists());
        assert_ne!(children_of_named(std::process::id(), "tracker"), trackers, "the dead one is reaped");
        let child = |name: String| SharedMemory::attach(&name).unwrap().size() as u64;
        let mut process = Context::spawn().process(child, after.name().unwrap().to_owned()).start().unwrap();
        assert_eq!(process.join().unwrap(), 100);
        after.unlink().unwrap();
    }
    before.unlink().unwrap();
    assert!(!active_children().iter().any(|child| child.name() == "tracker"), "it is nobody's child to see");
}

fn names_of_before_are_told_to_the_new_tracker() {
    let mut program = Program::run(&["makes", "spawn"]);
    let names = program.names();
    let killed = program.tracker();
    assert!(kill(killed));
    eventually("it is dead", || !runs(killed));
    let new = program.next();
    let tracker = program.tracker();
    program.kill();
    // The first names are its own; what its children had told is theirs to tell again.
    for name in [&names[0], &names[1], &new] {
        eventually("the name is gone", || !path(name).exists());
    }
    eventually("the tracker ends", || !runs(tracker));
    for name in names {
        // A name may be lost with a tracker.
        let _ = std::fs::remove_file(path(&name));
    }
}

fn a_message_that_is_no_name_costs_the_tracker_none() {
    let program = Program::run(&["waits"]);
    let (names, tracker) = (program.names(), program.tracker());
    let links = links_of(program.process.id());
    assert!(!links.is_empty());
    for link in &links {
        for garbage in [&b"garbage"[..], b"\0", &[1, 2, 3, 4]] {
            assert_eq!(send(link, garbage, SendFlags::NOSIGNAL).unwrap(), garbage.len());
        }
    }
    drop(links);
    program.kill();
    eventually("its name is gone", || !path(&names[0]).exists());
    eventually("the tracker ends", || !runs(tracker));
}

fn python_finds_ours_and_we_find_pythons() {
    let memory = SharedMemory::create_named(100).unwrap();
    memory.write(10, b"from rust").unwrap();
    let script = r#"
import sys
from multiprocessing import resource_tracker, shared_memory
ours = shared_memory.SharedMemory(name=sys.argv[1])
resource_tracker.unregister(ours._name, "shared_memory")  # or its tracker unlinks at its exit
assert ours.size == 100, ours.size
assert bytes(ours.buf[10:19]) == b"from rust"
ours.buf[50:61] = b"from python"
theirs = shared_memory.SharedMemory(create=True, size=5000)
theirs.buf[4000:4005] = b"hello"
print(theirs.name, flush=True)
sys.stdin.readline()
assert bytes(theirs.buf[:4]) == b"seen"
theirs.unlink()
"#;
    let python = Command::new("python3")
        .args(["-c", script, memory.name().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut python) = python else {
        skip("there is no python3 on PATH");
    };
    let mut name = String::new();
    BufReader::new(python.stdout.take().unwrap()).read_line(&mut name).unwrap();
    let theirs = SharedMemory::attach(name.trim()).unwrap();
    assert_eq!(theirs.size(), 5000);
    let mut text = [0; 5];
    theirs.read(4000, &mut text).unwrap();
    assert_eq!(&text, b"hello");
    theirs.write(0, b"seen").unwrap();
    writeln!(python.stdin.take().unwrap()).unwrap();
    assert!(python.wait().unwrap().success());
    assert!(SharedMemory::attach(name.trim()).unwrap_err().is_not_found());
    let mut text = [0; 11];
    memory.read(50, &mut text).unwrap();
    assert_eq!(&text, b"from python");
    assert!(path(memory.name().unwrap()).exists());
    memory.unlink().unwrap();
}

/// Two names of its own, one of each of two children, and one of a child's child; prints them and
/// all pids.
fn makes(context: Context) -> ! {
    let names: Vec<SharedMemory> = (0..2).map(|_| SharedMemory::create_named(100).unwrap()).collect();
    let mut told: Vec<String> = names.iter().map(|memory| memory.name().unwrap().to_owned()).collect();
    let (tell, hear) = (procession::Queue::<Vec<String>>::new().unwrap(), 3);
    let child = |(tell, method, depth): (procession::Queue<Vec<String>>, String, u32)| child(tell, &method, depth);
    let method = context.start_method().to_string();
    let children: Vec<Process<()>> = [0, 1]
        .into_iter()
        .map(|depth| context.process(child, (tell.clone(), method.clone(), depth)).start().unwrap())
        .collect();
    for _ in 0..hear {
        told.extend(tell.get().unwrap());
    }
    told.push(std::process::id().to_string());
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    print(&told);
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line).unwrap() > 0 {
        print(&[SharedMemory::create_named(100).unwrap().name().unwrap()]);
    }
    drop(children);
    unreachable!("the test kills this process")
}

fn child(tell: procession::Queue<Vec<String>>, method: &str, depth: u32) {
    let memory = SharedMemory::create_named(100).unwrap();
    tell.put(vec![memory.name().unwrap().to_owned(), std::process::id().to_string()]).unwrap();
    let below = (depth > 0).then(|| {
        let context = Context::new(method.parse().unwrap());
        let again = |(tell, method, depth): (procession::Queue<Vec<String>>, String, u32)| child(tell, &method, depth);
        context.process(again, (tell.clone(), method.to_owned(), depth - 1)).start().unwrap()
    });
    std::thread::sleep(Duration::from_secs(3600));
    drop((memory, below));
}

fn waits() -> ! {
    let memory = SharedMemory::create_named(100).unwrap();
    print(&[memory.name().unwrap()]);
    std::thread::sleep(Duration::from_secs(3600));
    drop(memory);
    unreachable!("the test kills this process")
}

/// Copies of a process's ends of links, of which a link to the tracker is one.
fn links_of(pid: u32) -> Vec<OwnedFd> {
    let process = pidfd_open(RawPid::from_raw(pid as i32).unwrap(), PidfdFlags::empty()).unwrap();
    let numbers = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let numbers = numbers.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap());
    let copies = numbers.map(|number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).unwrap());
    copies.filter(|fd| socket_type(fd) == Ok(SocketType::SEQPACKET)).collect()
}

fn attaches(name: &str) -> ! {
    let memory = SharedMemory::attach(name).unwrap();
    print(&[name]);
    std::thread::sleep(Duration::from_secs(3600));
    drop(memory);
    unreachable!("the test kills this process")
}

fn print(words: &[&str]) {
    println!("{}", words.join(" "));
    std::io::stdout().flush().unwrap();
}

/// Another program, with a process group of its own.
struct Program {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
    told: Vec<String>,
}

impl Program {
    fn run(arguments: &[&str]) -> Program {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let told = words(&mut output);
        Program { process, output, told }
    }

    fn names(&self) -> Vec<String> {
        self.told.iter().filter(|word| word.parse::<u32>().is_err()).cloned().collect()
    }

    fn tracker(&self) -> u32 {
        let trackers = children_of_named(self.process.id(), "tracker");
        assert_eq!(trackers.len(), 1, "one tracker, whoever makes names");
        trackers[0]
    }

    /// Has it make another name.
    fn next(&mut self) -> String {
        writeln!(self.process.stdin.as_mut().unwrap()).unwrap();
        words(&mut self.output).remove(0)
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.killed();
    }

    fn killed(mut self) {
        assert!(!self.process.wait().unwrap().success());
    }

    fn ended(mut self) {
        assert!(self.process.wait().unwrap().success());
    }
}

fn words(output: &mut impl BufRead) -> Vec<String> {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

fn path(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(name)
}
