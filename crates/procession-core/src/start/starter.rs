//! What a start method is: a [`Start`]. Called in the parent, in the thread that starts.

use std::fmt;
use std::sync::Arc;

use super::method::Method;
use crate::Result;
use crate::child::{Child, Popen};
use crate::preparation::Preparation;

/// A way to make a process.
pub trait Start: Sync + fmt::Debug {
    /// Which of the three it is.
    fn method(&self) -> Method;

    /// Makes a child that will take the role.
    fn popen(&self, preparation: Preparation<'_>) -> Result<Popen>;

    /// Makes it, and the parent's hold on it. A face whose processes are more than the engine's
    /// does both its own way.
    fn child(&self, preparation: Preparation<'_>) -> Result<Arc<Child>> {
        let (name, daemon) = (preparation.name.clone(), preparation.daemon);
        Ok(Arc::new(Child::new(name, daemon, self.popen(preparation)?)))
    }
}

impl<S: Start + ?Sized> Start for &S {
    fn method(&self) -> Method {
        (**self).method()
    }

    fn popen(&self, preparation: Preparation<'_>) -> Result<Popen> {
        (**self).popen(preparation)
    }

    fn child(&self, preparation: Preparation<'_>) -> Result<Arc<Child>> {
        (**self).child(preparation)
    }
}
