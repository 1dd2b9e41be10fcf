//! The first message of an agent, by which the driver knows who it is and whether it can serve.
//! Written by the agent, read in the driver.

use std::sync::Arc;

use procession_core::BuildId;
use procession_core::wire::Reader;

use super::message::{self, HELLO};

/// Raised with every change of the messages.
const VERSION: u32 = 1;
/// The first bytes behind the kind and the worker. They stay what they are in every version.
const MAGIC: u32 = u32::from_le_bytes(*b"prmp");

/// An agent, as its first message says.
pub(crate) struct Agent {
    pub(crate) host: Arc<str>,
    /// The reason for which it cannot serve.
    pub(crate) refusal: Option<String>,
}

/// The first message of an agent.
pub(crate) fn hello(host: &str) -> Vec<u8> {
    let program = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
    let writer = message::begin(HELLO, 0).u32(MAGIC).u32(VERSION).bytes(host.as_bytes());
    writer.bytes(BuildId::current().as_bytes()).rest(program.as_bytes()).0
}

impl Agent {
    /// Reads the first message of an agent.
    pub(crate) fn from_hello(message: &[u8]) -> Agent {
        let mut reader = Reader(message);
        let parsed = (|| {
            let is_hello = reader.u8()? == HELLO && reader.u64()? == 0 && reader.u32()? == MAGIC;
            let (version, host) = (reader.u32()?, reader.bytes()?);
            is_hello.then_some((version, String::from_utf8_lossy(host), reader.bytes()?, reader.0))
        })();
        let Some((version, host, build, program)) = parsed else {
            return Agent { host: "an unknown machine".into(), refusal: Some("it is no agent of procession's".into()) };
        };
        let ours = BuildId::current().as_bytes();
        let refusal = (version != VERSION || build != ours || ours.is_empty()).then(|| {
            format!(
                "it runs another executable ({}, build {}) than this program (build {}). Start one executable on all machines",
                String::from_utf8_lossy(program),
                shown(build),
                shown(ours),
            )
        });
        Agent { host: host.into(), refusal }
    }
}

fn shown(build: &[u8]) -> String {
    match build {
        [] => "without an id".into(),
        build => build.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
