//! Connections with real CPythons at the other end, in both roles: what is on PATH of `python3`,
//! `python3.12` (where the authentication changed) and `python3.13`. Where there is none, each test
//! is skipped.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::LazyLock;

use procession::{Address, Client, Connection, Listener};
use procession_testing::{Trial, run, skip, tests, trial};

const KEY: &[u8] = b"\x00 a key, \xff not text";
const SIZES: [usize; 9] = [0, 1, 16, 16_383, 16_384, 16_385, 65_536, 300_000, 1 << 20];

/// The beginning of every script; the alarm ends one that nobody talks to any more.
const PRELUDE: &str = r#"
import pickle, signal, sys
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener, wait
signal.alarm(50)
KEY = b"\x00 a key, \xff not text"

def pattern(size):
    return bytes((x * 7 + size) % 256 for x in range(size))

def talk(connection):
    for size in SIZES:
        connection.send_bytes(pattern(size))
        assert connection.recv_bytes() == pattern(size)[::-1], size
    connection.send(42)
    connection.send({"pickled": [1, 2.5, None]})
    assert wait([connection], 30) == [connection]
    assert connection.recv() == 42
    assert connection.recv() == {"pickled": [1, 2.5, None]}
    try:
        connection.recv()
    except EOFError:
        print("talked", flush=True)
"#;

fn main() {
    procession::init();
    run(tests! {
        for_each_python: [
            python_connects_by_unix_socket,
            python_connects_by_abstract_socket,
            python_connects_by_tcp,
            python_listens_at_unix_socket,
            python_listens_at_abstract_socket,
            python_listens_at_tcp,
            python_with_another_key_is_refused,
            python_that_listens_with_another_key_is_refused,
        ],
    })
}

/// A test for each interpreter; without any, one that is skipped.
fn for_each_python(name: &str, body: fn(&str)) -> Vec<Trial> {
    static PYTHONS: LazyLock<Vec<(String, String)>> = LazyLock::new(pythons);
    if PYTHONS.is_empty() {
        return vec![trial(name, || skip("there is no python3 on PATH"))];
    }
    let test = |(python, version): &'static (String, String)| {
        trial(&format!("{name}::cpython_{version}"), move || body(python))
    };
    PYTHONS.iter().map(test).collect()
}

fn python_connects_by_unix_socket(python: &str) {
    python_connects(python, &unix);
}

fn python_connects_by_abstract_socket(python: &str) {
    python_connects(python, &abstract_name);
}

fn python_connects_by_tcp(python: &str) {
    python_connects(python, &tcp);
}

fn python_listens_at_unix_socket(python: &str) {
    python_listens(python, &unix);
}

fn python_listens_at_abstract_socket(python: &str) {
    python_listens(python, &abstract_name);
}

fn python_listens_at_tcp(python: &str) {
    python_listens(python, &tcp);
}

fn python_with_another_key_is_refused(python: &str) {
    let listener = Listener::private().unwrap().authkey(KEY).unwrap();
    let script = format!(
        "try:\n    Client({}, authkey=b'another')\nexcept AuthenticationError as error:\n    print(error, flush=True)",
        literal(&listener.address())
    );
    let mut client = Script::start(python, &script);
    let error = listener.accept::<(), ()>().unwrap_err();
    assert!(error.is_authentication() && error.to_string().contains("does not know the key"), "{error}");
    assert_eq!(client.line(), "digest sent was rejected");
    client.end();
}

fn python_that_listens_with_another_key_is_refused(python: &str) {
    let folder = tempfile::tempdir().unwrap();
    let address = unix(folder.path());
    let script = format!(
        "with Listener({}, authkey=b'another') as listener:\n    \
         print('listens', flush=True)\n    \
         try:\n        \
         listener.accept()\n    \
         except AuthenticationError as error:\n        \
         print(error, flush=True)",
        literal(&address)
    );
    let mut server = Script::start(python, &script);
    assert_eq!(server.line(), "listens");
    let error = Client::connect_with::<(), ()>(&address, KEY).unwrap_err();
    assert!(error.is_authentication() && error.to_string().contains("has another key"), "{error}");
    assert_eq!(server.line(), "digest received was wrong");
    server.end();
}

fn python_connects(python: &str, at: &dyn Fn(&Path) -> Address) {
    let folder = tempfile::tempdir().unwrap();
    for key in [Some(KEY), None] {
        let mut listener = Listener::bind(&at(folder.path())).unwrap();
        if let Some(key) = key {
            listener = listener.authkey(key).unwrap();
        }
        let authkey = if key.is_some() { "KEY" } else { "None" };
        let script = format!("talk(Client({}, authkey={authkey}))", literal(&listener.address()));
        let mut client = Script::start(python, &script);
        talk(listener.accept().unwrap());
        assert_eq!(client.line(), "talked");
        client.end();
    }
}

fn python_listens(python: &str, at: &dyn Fn(&Path) -> Address) {
    let folder = tempfile::tempdir().unwrap();
    for key in [Some(KEY), None] {
        let authkey = if key.is_some() { "KEY" } else { "None" };
        let script = format!(
            "with Listener({}, authkey={authkey}) as listener:\n    \
             a = listener.address\n    \
             print(a[1] if isinstance(a, tuple) else 0, flush=True)\n    \
             talk(listener.accept())",
            literal(&at(folder.path()))
        );
        let mut server = Script::start(python, &script);
        let port: u16 = server.line().parse().unwrap();
        let address = match at(folder.path()) {
            Address::Tcp(address) => Address::Tcp(SocketAddr::new(address.ip(), port)),
            named => named,
        };
        talk(match key {
            Some(key) => Client::connect_with(&address, key).unwrap(),
            None => Client::connect(&address).unwrap(),
        });
        assert_eq!(server.line(), "talked");
        server.end();
    }
}

/// The counterpart of the scripts' `talk`.
fn talk(connection: Connection<(), ()>) {
    for size in SIZES {
        let mut bytes = connection.recv_bytes().unwrap();
        assert!(bytes == pattern(size), "{size} bytes");
        bytes.reverse();
        connection.send_bytes(&bytes).unwrap();
    }
    let (number, map) = (connection.recv_bytes().unwrap(), connection.recv_bytes().unwrap());
    // Protocol 4's frame and no more: 42 as BININT1, and STOP.
    assert_eq!((number[0], &number[number.len() - 3..]), (0x80, &b"K*."[..]));
    connection.send_bytes(&number).unwrap();
    connection.send_bytes(&map).unwrap();
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|x| (x * 7 + size) as u8).collect()
}

fn unix(folder: &Path) -> Address {
    Address::Unix(folder.join("socket"))
}

fn abstract_name(folder: &Path) -> Address {
    Address::Abstract(folder.to_str().unwrap().as_bytes().to_vec())
}

fn tcp(_: &Path) -> Address {
    Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

/// An address as Python writes it.
fn literal(address: &Address) -> String {
    match address {
        Address::Unix(path) => format!("{:?}", path.to_str().unwrap()),
        Address::Abstract(name) => {
            format!("{:?}", format!("\0{}", std::str::from_utf8(name).unwrap())).replace("\\0", "\\x00")
        }
        Address::Tcp(address) => format!("({:?}, {})", address.ip().to_string(), address.port()),
    }
}

/// A running script, whose lines are its word.
struct Script {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Script {
    fn start(python: &str, body: &str) -> Script {
        let text = format!("SIZES = {SIZES:?}\n{PRELUDE}\n{body}\n");
        let mut process = Command::new(python).args(["-c", &text]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Script { process, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn end(mut self) {
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Script {
    /// Ends the script if a check failed before its end.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Each interpreter that runs, by its version.
fn pythons() -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for python in ["python3", "python3.12", "python3.13"] {
        let version = "import platform, multiprocessing.connection; print(platform.python_version())";
        let Ok(said) = Command::new(python).args(["-c", version]).stderr(Stdio::null()).output() else { continue };
        let version = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        if said.status.success() && found.iter().all(|(_, known)| *known != version) {
            found.push((python.to_owned(), version));
        }
    }
    found
}
