//! The trait of start methods, [`Start`]. Called in the parent, in the thread that starts.

use std::fmt;
use std::sync::Arc;

use super::method::StartMethod;
use crate::Result;
use crate::child::{Child, Popen};
use crate::preparation::Preparation;

/// A way to make a process.
pub trait Start: Sync + fmt::Debug {
    /// The start method, of the three.
    fn method(&self) -> StartMethod;

    /// Makes a child that will take the role.
    fn popen(&self, preparation: Preparation<'_>) -> Result<Popen>;

    /// Makes it, and the parent's hold on it. A face whose processes are more than the engine's
    /// does both its own way.
    fn child(&self, preparation: Preparation<'_>) -> Result<Arc<Child>> {
        let (name, daemon) = (preparation.name.clone(), preparation.daemon);
        let leads_group = preparation.setting.leads_group;
        Ok(Arc::new(Child::new(name, daemon, self.popen(preparation)?).leading_group(leads_group)))
    }
}

impl<S: Start + ?Sized> Start for &S {
    fn method(&self) -> StartMethod {
        (**self).method()
    }

    fn popen(&self, preparation: Preparation<'_>) -> Result<Popen> {
        (**self).popen(preparation)
    }

    fn child(&self, preparation: Preparation<'_>) -> Result<Arc<Child>> {
        (**self).child(preparation)
    }
}
