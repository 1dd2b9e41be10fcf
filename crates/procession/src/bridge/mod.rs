//! Pools whose workers are on a Ray or Dask cluster. A Python program of ours, the *bridge
//! program*, drives the cluster: `python3 -m procession.remote.bridge`. It places agents, gives
//! each this program's executable, and carries messages, which it does not read. What the driver
//! and the agents have to say to each other is in `remote`.
//!
//! ```text
//! driver ⇄ socket ⇄ bridge program ⇄ the cluster ⇄ actor ⇄ socket ⇄ agent: this executable
//!                   (Python)                      (Python)
//! ```
//!
//! | file | what it is | runs in |
//! |---|---|---|
//! | `cluster.rs` | a cluster, as the driver sees it: which agents there are, and whether they are up | the driver |
//! | `hired.rs` | the state of each agent | the driver |
//! | `program.rs` | how the bridge program is started, and ends | the driver |
//! | `frame.rs` | what goes over the sockets | both |
//! | `agent.rs` | the beginning of this executable as an agent | the agents |

mod agent;
mod cluster;
mod frame;
mod hired;
mod program;

#[cfg(not(feature = "startup"))]
pub(crate) use agent::serve_if_marked as init;
#[cfg(feature = "startup")]
pub(crate) use agent::{before_main, init};
pub(crate) use cluster::Cluster;
