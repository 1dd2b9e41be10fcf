//! The Python face, begun: the extension module `procession._engine`, on the same engine as the Rust face. Called by Python
//! code in any process, with the interpreter attached.
//!
//! It offers what the engine can say without a codec; processes and pools for Python come with the package.

mod fork;
mod process;
mod wait;

use procession_core::start::Method;
use pyo3::prelude::*;

/// procession's engine.
#[pymodule(gil_used = false)]
mod _engine {
    use super::*;

    #[pymodule_export]
    use fork::fork_as_sibling;
    #[pymodule_export]
    use process::Child;
    #[pymodule_export]
    use process::Link;
    #[pymodule_export]
    use process::disown_children;
    #[pymodule_export]
    use process::pidfd_of_self;

    /// How many processes can usefully run at once: by the affinity mask and the control group's quota.
    #[pyfunction]
    fn available_parallelism() -> usize {
        procession_core::available_parallelism().get()
    }

    /// The names of the start methods that this platform has.
    #[pyfunction]
    fn get_all_start_methods() -> Vec<&'static str> {
        Method::ALL.map(Method::as_str).to_vec()
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
