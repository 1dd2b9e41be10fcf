//! The values of handles to constant bytes in this process. Each value is made once, however many
//! handles arrive. Used where such a handle is decoded, in any process and thread.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use procession_core::shared_memory::Constant;
use procession_core::{Identity, PerProcess, handle};

/// The key of a value: the bytes, and the type that they are read as.
type Key = (Identity, TypeId);

type Known = HashMap<Key, Weak<dyn Any + Send + Sync>>;

/// The values that this process has. They keep their handle, so that no other has the same
/// identity.
static KNOWN: PerProcess<Mutex<Known>> = PerProcess::new(Mutex::default);

static MAKING: PerProcess<Mutex<()>> = PerProcess::new(Mutex::default);

/// The value of these bytes that this process has, or else a new one, which keeps the bytes'
/// handle. A worker of a pool keeps the value for its next tasks.
pub(crate) fn get_or_make<V: Send + Sync + 'static>(
    constant: Constant,
    make: impl FnOnce(Constant) -> Result<V, String>,
) -> Result<Arc<V>, String> {
    let identity = constant.identity();
    let value = {
        // One at a time, so that two that arrive together are made once.
        let _making = MAKING.get().lock().unwrap_or_else(PoisonError::into_inner);
        let there = known().get(&(identity, TypeId::of::<V>())).and_then(Weak::upgrade);
        match there.and_then(|any| any.downcast().ok()) {
            Some(value) => value,
            None => {
                let value = Arc::new(make(constant)?);
                remember(identity, &value);
                value
            }
        }
    };
    handle::keep_value::<V>(identity, || Rc::new(value.clone()));
    Ok(value)
}

/// Has the process find this value where a handle to its bytes arrives.
pub(crate) fn remember<V: Send + Sync + 'static>(identity: Identity, value: &Arc<V>) {
    let any: Arc<dyn Any + Send + Sync> = value.clone();
    let mut known = known();
    known.retain(|_, value| value.strong_count() > 0);
    known.insert((identity, TypeId::of::<V>()), Arc::downgrade(&any));
}

fn known() -> MutexGuard<'static, Known> {
    KNOWN.get().lock().unwrap_or_else(PoisonError::into_inner)
}
