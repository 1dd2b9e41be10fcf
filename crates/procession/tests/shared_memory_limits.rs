//! Shared memory where there is little of everything: a `/dev/shm` of 1 MiB or none, no `/proc`,
//! few file descriptors.
//!
//! The test runs this program again (`argument: what it lacks`) in a mount namespace of its own,
//! which takes privileges: without them that test is skipped.

use std::process::Command;

use procession::{Context, SharedArray, SharedMemory, share};
use procession_testing::{needs_mounts, once, run, tests};

fn main() {
    procession::init();
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("little") => little(),
        Some("absent") => absent(),
        Some("no-proc") => no_proc(),
        Some("few-fds") => few_fds(),
        _ => run(tests! {
            once: [works_with_a_dev_shm_of_1_mib, works_without_dev_shm, works_without_proc, works_with_few_fds],
        }),
    }
}

fn works_with_a_dev_shm_of_1_mib() {
    mounted("mount -t tmpfs -o size=1M tmpfs /dev/shm", "little");
}

fn works_without_dev_shm() {
    mounted("mount -t tmpfs tmpfs /dev", "absent");
}

fn works_without_proc() {
    mounted("mount -t tmpfs tmpfs /proc", "no-proc");
}

fn works_with_few_fds() {
    under(Command::new("sh").arg("-c"), "ulimit -n 64", "few-fds");
}

fn mounted(mount: &str, role: &str) {
    needs_mounts();
    under(Command::new("unshare").args(["-m", "sh", "-c"]), mount, role);
}

fn under(command: &mut Command, limit: &str, role: &str) {
    let script = format!("{limit} && exec \"$0\" {role}");
    let output = command.arg(script).arg(std::env::current_exe().unwrap()).output().unwrap();
    let (told, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told == "done\n", "{}\n{told}{complained}", output.status);
}

fn little() {
    let error = SharedMemory::create("too_large", 2 << 20).unwrap_err().to_string();
    for part in ["too_large", "/dev/shm", "2097152 bytes", "no room", "SharedMemory::new"] {
        assert!(error.contains(part), "{part:?} in {error}");
    }
    assert!(!std::path::Path::new("/dev/shm/too_large").exists());
    let memory = SharedMemory::create("fits", 512 << 10).unwrap();
    memory.write(0, &vec![7; 512 << 10]).unwrap();
    let second = SharedMemory::create("second", 768 << 10).unwrap_err();
    assert!(second.to_string().contains("no room"), "reserved is reserved: {second}");
    memory.unlink().unwrap();
    needs_no_name();
    println!("done");
}

fn absent() {
    let error = SharedMemory::create_named(100).unwrap_err().to_string();
    for part in ["/dev/shm", "no such folder", "SharedMemory::new"] {
        assert!(error.contains(part), "{part:?} in {error}");
    }
    assert!(SharedMemory::attach("nowhere").unwrap_err().is_not_found());
    needs_no_name();
    println!("done");
}

fn no_proc() {
    assert!(!std::path::Path::new("/proc/self").exists());
    let error = SharedMemory::create_named(100).unwrap_err().to_string();
    assert!(error.contains("/proc"), "it says why: {error}");
    // The program's path cannot be found there, but it can be said.
    procession::set_executable(std::env::args().next().unwrap());
    match SharedMemory::create_named(100) {
        Ok(memory) => {
            SharedMemory::attach(memory.name().unwrap()).unwrap().write(0, b"works").unwrap();
            memory.unlink().unwrap();
        }
        // A kernel before 6.10, and no privileges.
        Err(error) => assert!(error.to_string().contains("/proc is not mounted"), "{error}"),
    }
    needs_no_name();
    println!("done");
}

fn few_fds() {
    // The tracker holds none, and what is dropped is closed.
    for _ in 0..200 {
        SharedMemory::create_named(100).unwrap();
    }
    let held: Vec<SharedMemory> = (0..20).map(|_| SharedMemory::create_named(100).unwrap()).collect();
    let sum = |held: Vec<SharedMemory>| held.iter().map(SharedMemory::size).sum::<usize>() as u64;
    assert_eq!(Context::spawn().process(sum, held).start().unwrap().join().unwrap(), 2000);
    println!("done");
}

/// Memory without a name is as ever.
fn needs_no_name() {
    let memory = SharedMemory::new(8 << 20).unwrap();
    memory.write(0, &vec![1; 8 << 20]).unwrap();
    let (array, table) = (SharedArray::<u64>::new(1 << 16).unwrap(), share(vec![3u64; 1 << 16]).unwrap());
    let child = |(memory, array, table): (SharedMemory, SharedArray<u64>, procession::Shared<Vec<u64>>)| {
        let mut last = [0];
        memory.read((8 << 20) - 1, &mut last).unwrap();
        array.write(0, &table);
        last[0]
    };
    let mut process = Context::spawn().process(child, (memory, array.clone(), table)).start().unwrap();
    assert_eq!(process.join().unwrap(), 1);
    assert_eq!(array.get(65_535), 3);
}
