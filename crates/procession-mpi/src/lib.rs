//! Messages of any length between the ranks of an MPI job, safe to call. Used by the feature `mpi`
//! of the crate `procession`, in the process of each rank.
//!
//! The feature `link` links libmpi. Without it this crate is empty, so that a workspace builds
//! where there is no MPI library.
//!
//! | file | what it is |
//! |---|---|
//! | `job.rs` | how this process finds out that it is a rank, and of which job |
//! | `post.rs` | sends and receives messages |
//! | `error.rs` | what MPI says if it refuses |

#[cfg(feature = "link")]
mod error;
#[cfg(feature = "link")]
mod job;
#[cfg(feature = "link")]
mod post;

#[cfg(feature = "link")]
pub use error::{Error, Result};
#[cfg(feature = "link")]
pub use job::{LAUNCHERS, launcher};
#[cfg(feature = "link")]
pub use post::Post;
