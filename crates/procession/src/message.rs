//! Messages of the Rust face: what stands in an argument, a result, an item of a queue. Used in the
//! caller, which encodes arguments and decodes results, and in the process that runs the function,
//! which does the reverse.

use std::any::Any;
use std::cell::Cell;
use std::os::fd::OwnedFd;

use procession_core::handle::{self, MOST_HANDLES};
use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

use crate::{codec, integer};

/// A value that can travel between processes: what serde serializes and deserializes, and what
/// borrows nothing. Nothing else needs to be.
///
/// ```
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Point {
///     x: f64,
///     y: f64,
/// }
/// fn travels<T: procession::Message>() {}
/// travels::<Point>();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel between processes",
    label = "not a message",
    note = "a message implements serde's `Serialize` and `Deserialize` (derive them for a type of your own) and borrows nothing",
    note = "write `String` for `&str`, `Vec<T>` for `&[T]`, `PathBuf` for `&Path`",
    note = "for an `Err` of `io::Error`, `anyhow::Error` or `Box<dyn Error>` call the function by `try_map` or `try_apply`",
    note = "write `Handle<File>` for a file or a socket, `procession::Queue` or `queue::Sender` for `mpsc::Sender`, \
            `procession::sync::Mutex` for `Arc<Mutex<_>>`, `share()` or `SharedSlice` for an `Arc` of data",
    note = "a `fn` pointer or a closure is given as the function itself, and what it captures as the state of `map_with`"
)]
pub trait Message: Serialize + DeserializeOwned + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + 'static> Message for T {}

/// Appends `value` to `out`; the error says why it does not encode. After an error the caller must
/// cut off the bytes that are left there.
#[inline]
pub(crate) fn encode<T: Serialize + 'static>(value: &T, out: &mut Vec<u8>) -> Result<(), String> {
    if let Some(word) = integer::encode(value) {
        word.append(out);
        return Ok(());
    }
    codec::to_bytes(value, out).map_err(|error| reason::<T>(&error))
}

/// As [`encode`], where no handle can travel, even if this happens within something that is encoded
/// with handles.
pub(crate) fn encode_alone<T: Serialize + 'static>(value: &T, out: &mut Vec<u8>) -> Result<(), String> {
    handle::outside(|| encode(value, out))
}

/// As [`encode`], where handles may travel too; gives their fds.
pub(crate) fn encode_with_handles<T: Serialize + 'static>(value: &T) -> Result<(Vec<u8>, Vec<OwnedFd>), String> {
    let mut bytes = Vec::with_capacity(128);
    let (encoded, handles) = handle::sending(MOST_HANDLES, || encode(value, &mut bytes));
    encoded.map(|()| (bytes, handles))
}

/// Runs `encode`, in which any number of handles may be given; gives the bytes and the handles'
/// fds.
pub(crate) fn encode_beside(
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), String>,
) -> (Result<Vec<u8>, String>, Vec<OwnedFd>) {
    let mut bytes = Vec::new();
    let (encoded, handles) = handle::sending(u32::MAX as usize, || encode(&mut bytes));
    (encoded.map(|()| bytes), handles)
}

/// Reads a value that takes up all of `bytes`; the error says why it does not decode.
#[inline]
pub(crate) fn decode<T: DeserializeOwned + 'static>(bytes: &[u8]) -> Result<T, String> {
    if let Some(integer) = integer::decode(bytes) {
        return integer.ok_or_else(|| format!("these {} bytes are no {}", bytes.len(), std::any::type_name::<T>()));
    }
    codec::from_bytes(bytes).map_err(|error| reason::<T>(&error))
}

/// Calls `send` with the bytes of a queue's item. A `Vec<u8>` is its own bytes; anything else is
/// encoded.
pub(crate) fn with_item_bytes<T: Serialize + 'static, R>(item: &T, send: impl FnOnce(&[u8]) -> R) -> Result<R, String> {
    if let Some(bytes) = (item as &dyn Any).downcast_ref::<Vec<u8>>() {
        return Ok(send(bytes));
    }
    let mut bytes = SCRATCH.take();
    let sent = encode_alone(item, &mut bytes).map(|()| send(&bytes));
    keep_scratch(bytes);
    sent
}

/// The item whose bytes `receive` appends, if it says that it did.
pub(crate) fn item_of<T: DeserializeOwned + 'static, E>(
    receive: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Result<T, String>, E> {
    let mut item: Option<T> = None;
    let Some(bytes) = (&mut item as &mut dyn Any).downcast_mut::<Option<Vec<u8>>>() else {
        let mut bytes = SCRATCH.take();
        let received = receive(&mut bytes).map(|()| decode(&bytes));
        keep_scratch(bytes);
        return received;
    };
    receive(bytes.insert(Vec::new()))?;
    Ok(Ok(item.expect("it is the vector just received")))
}

/// Has a struct of the crate's own travel as the tuple of these fields. The crate does without
/// serde's derive, because it is most of what there would be to compile.
macro_rules! serialize_as_tuple {
    ($name:ident { $($field:ident),+ }) => {
        impl serde_core::Serialize for $name {
            fn serialize<S: serde_core::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serde_core::Serialize::serialize(&($(&self.$field,)+), serializer)
            }
        }

        impl<'de> serde_core::Deserialize<'de> for $name {
            fn deserialize<D: serde_core::Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let ($($field,)+) = serde_core::Deserialize::deserialize(deserializer)?;
                Ok($name { $($field),+ })
            }
        }
    };
}
pub(crate) use serialize_as_tuple;

thread_local! {
    /// Room to encode and decode in, kept from item to item.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

fn keep_scratch(mut bytes: Vec<u8>) {
    const MOST_KEPT: usize = 64 * 1024;
    if bytes.capacity() <= MOST_KEPT {
        bytes.clear();
        SCRATCH.set(bytes);
    }
}

/// Names the type. A handle that could not travel says why itself: a type that tries several ways
/// to decode hides it.
#[cold]
pub(crate) fn reason<T>(error: &codec::Error) -> String {
    let (of, text) = (std::any::type_name::<T>(), error.to_string());
    match handle::last_refusal() {
        Some(refusal) if !text.contains(&refusal) => format!("`{of}`: {refusal} ({text})"),
        _ => format!("`{of}`: {text}"),
    }
}

/// A panic as it travels to the process that asked.
#[derive(Debug)]
pub(crate) struct Panic {
    pub(crate) message: String,
    pub(crate) location: String,
    pub(crate) backtrace: String,
    /// The place of the item at which it happened, within a batch.
    pub(crate) offset: usize,
}

serialize_as_tuple!(Panic { message, location, backtrace, offset });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_append_and_come_back() {
        let mut out = vec![9];
        encode(&(7u64, "seven", Some([1.5f64])), &mut out).unwrap();
        assert_eq!(out[0], 9);
        let back: (u64, String, Option<[f64; 1]>) = decode(&out[1..]).unwrap();
        assert_eq!(back, (7, "seven".into(), Some([1.5])));
    }

    #[test]
    fn an_integer_alone_is_short_and_bytes_that_are_none_of_its_type_are_an_error() {
        let encoded = |value: i64| {
            let mut out = vec![9];
            encode(&value, &mut out).unwrap();
            out.split_off(1)
        };
        assert_eq!([0, -1, 64, i64::MIN].map(|value| encoded(value).len()), [0, 1, 1, 8]);
        assert_eq!(decode::<i64>(&encoded(i64::MIN)), Ok(i64::MIN));
        assert!(decode::<i16>(&encoded(40_000)).unwrap_err().contains("i16"));
        assert!(decode::<u64>(&[0; 9]).is_err());
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        let mut out = Vec::new();
        encode(&(1u8, 2u8), &mut out).unwrap();
        assert!(decode::<u8>(&out).is_err());
    }
}
