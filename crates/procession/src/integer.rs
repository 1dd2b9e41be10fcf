//! Integers that are all of a message: the argument of a task, its result, an item of a queue. The
//! length of a message is known wherever one is, so an integer travels as a [`Word`]: as short as
//! in the codec, and without a loop over its bytes. Those within anything larger are the codec's.
//! The type tells which of the two it is: nothing is looked at when the program runs.

use std::any::{Any, TypeId};

use procession_core::Word;

macro_rules! integers {
    ($($integer:ty)*) => {
        #[inline]
        pub(crate) fn is_integer<T: 'static>() -> bool {
            let of = TypeId::of::<T>();
            $(of == TypeId::of::<$integer>())||*
        }

        /// Returns the word as which `value` travels if it is an integer.
        #[inline]
        pub(crate) fn encode<T: 'static>(value: &T) -> Option<Word> {
            let value: &dyn Any = value;
            $(if let Some(integer) = value.downcast_ref::<$integer>() {
                return Some(Word(integer.fold()));
            })*
            None
        }

        /// The integer that `bytes` are, `Some(None)` if they are none of its type; `None` if the
        /// type is no integer's.
        #[inline]
        pub(crate) fn decode<T: 'static>(bytes: &[u8]) -> Option<Option<T>> {
            let mut decoded: Option<T> = None;
            let place: &mut dyn Any = &mut decoded;
            $(if let Some(place) = place.downcast_mut::<Option<$integer>>() {
                *place = Word::parse(bytes).and_then(|Word(folded)| Integer::unfold(folded));
                return Some(decoded);
            })*
            None
        }

        /// The integer of type `T` that `bytes` are, as text; `None` if they are none, or the type
        /// is no integer's.
        pub(crate) fn text_of<T: 'static>(bytes: &[u8]) -> Option<String> {
            let of = TypeId::of::<T>();
            $(if of == TypeId::of::<$integer>() {
                return Some(<$integer>::unfold(Word::parse(bytes)?.0)?.to_string());
            })*
            None
        }
    };
}

integers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);

/// One whose small values have few bits when it is folded.
trait Integer: Copy {
    fn fold(self) -> u64;
    /// `None`: too large for the type.
    fn unfold(folded: u64) -> Option<Self>;
}

macro_rules! unsigned {
    ($($integer:ty)*) => {$(
        impl Integer for $integer {
            #[inline]
            fn fold(self) -> u64 {
                self as u64
            }

            #[inline]
            fn unfold(folded: u64) -> Option<$integer> {
                folded.try_into().ok()
            }
        }
    )*};
}

macro_rules! signed {
    ($($integer:ty)*) => {$(
        impl Integer for $integer {
            /// The sign becomes the lowest bit, and turns the others over.
            #[inline]
            fn fold(self) -> u64 {
                let wide = self as i64;
                (wide << 1 ^ wide >> 63) as u64
            }

            #[inline]
            fn unfold(folded: u64) -> Option<$integer> {
                ((folded >> 1) as i64 ^ -((folded & 1) as i64)).try_into().ok()
            }
        }
    )*};
}

unsigned!(u8 u16 u32 u64 usize);
signed!(i8 i16 i32 i64 isize);
