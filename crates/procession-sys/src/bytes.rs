//! Copies of a few bytes. Done here they are quicker than a call of `memcpy`, which costs more than
//! it copies. Used where encoded values are put together, in every process.

#![allow(unsafe_code, reason = "copies by pointer, in steps of a known size")]

/// Appends `bytes` to `out`, as `extend_from_slice` does.
#[inline(always)]
pub fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = bytes.len();
    if out.capacity() - out.len() < len {
        grow(out, len);
    }
    // SAFETY: there is room for `len` more bytes behind the vector's. That memory is the vector's
    // own, and so not `bytes`. The bytes are written before `set_len` makes them the vector's.
    unsafe {
        copy_short(bytes.as_ptr(), out.as_mut_ptr().add(out.len()), len);
        out.set_len(out.len() + len);
    }
}

#[cold]
#[inline(never)]
fn grow(out: &mut Vec<u8>, len: usize) {
    out.reserve(len);
}

/// Copies `len` bytes, of which there are mostly few.
///
/// # Safety
///
/// `from` may be read and `to` written for `len` bytes, and the two do not overlap.
#[inline(always)]
pub unsafe fn copy_short(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's contract. Every access is within the `len` bytes: two halves that
    // overlap make up all of them, and neither is longer than they are.
    unsafe {
        match len {
            0 => {}
            1..4 => {
                let (middle, last) = (from.add(len / 2).read(), from.add(len - 1).read());
                to.write(from.read());
                to.add(len / 2).write(middle);
                to.add(len - 1).write(last);
            }
            4..8 => {
                to.copy_from_nonoverlapping(from, 4);
                to.add(len - 4).copy_from_nonoverlapping(from.add(len - 4), 4);
            }
            8..=16 => {
                to.copy_from_nonoverlapping(from, 8);
                to.add(len - 8).copy_from_nonoverlapping(from.add(len - 8), 8);
            }
            _ => to.copy_from_nonoverlapping(from, len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_every_length_are_appended() {
        let source: Vec<u8> = (0..100).collect();
        let (mut out, mut model) = (Vec::new(), Vec::new());
        for len in (0..source.len()).chain([3, 0, 7]) {
            append(&mut out, &source[..len]);
            model.extend_from_slice(&source[..len]);
            assert_eq!(out, model, "{len} bytes");
        }
    }
}
