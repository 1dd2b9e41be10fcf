//! The form of the engine's own few messages, and of a face's: little-endian numbers and
//! length-prefixed bytes.
//! Users' values never pass here; they travel as opaque payloads in the codec of their face.

/// Appends fields to a message.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// Appends a number.
    pub fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    /// Appends a number.
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends a number.
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends bytes, and their length before them.
    ///
    /// # Panics
    ///
    /// If the bytes are longer than a `u32` can say; callers bound them.
    pub fn bytes(self, value: &[u8]) -> Self {
        let len = u32::try_from(value.len()).expect("fields of engine messages are bounded");
        self.u32(len).rest(value)
    }

    /// Appends bytes without their length: the last field.
    pub fn rest(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self
    }
}

/// Takes fields off a message; `None` as soon as the message is too short.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// Takes a number.
    #[inline]
    pub fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// Takes a number.
    #[inline]
    pub fn u32(&mut self) -> Option<u32> {
        let bytes = self.take(4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Takes a number.
    #[inline]
    pub fn u64(&mut self) -> Option<u64> {
        let bytes = self.take(8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Takes bytes, by the length before them.
    #[inline]
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[inline]
    fn fields_come_back_in_order() {
        let message = Writer::default().u8(7).u32(1 << 30).bytes(b"name").u64(u64::MAX).0;
        let mut reader = Reader(&message);
        assert_eq!(reader.u8(), Some(7));
        assert_eq!(reader.u32(), Some(1 << 30));
        assert_eq!(reader.bytes(), Some(&b"name"[..]));
        assert_eq!(reader.u64(), Some(u64::MAX));
        assert_eq!(reader.u8(), None);
    }

    #[test]
    #[inline]
    fn a_short_message_is_none_at_every_cut() {
        let message = Writer::default().u32(5).bytes(b"abc").u64(9).0;
        for cut in 0..message.len() {
            let mut reader = Reader(&message[..cut]);
            let whole = reader.u32().and_then(|_| reader.bytes()).and_then(|_| reader.u64());
            assert_eq!(whole, None, "cut at {cut}");
        }
    }
}
