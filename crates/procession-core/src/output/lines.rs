//! Cuts the bytes of a stream into lines. Used by the collector's thread.

use super::MAX_LINE;

/// The bytes behind the last whole line.
#[derive(Default, Debug)]
pub(super) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Adds what has come. Calls `take` with each line, and whether it has ended.
    pub(super) fn add(&mut self, mut bytes: &[u8], mut take: impl FnMut(&[u8], bool)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = (&bytes[..end], &bytes[end + 1..]);
            if self.rest.is_empty() {
                take(line, true);
            } else {
                self.rest.extend_from_slice(line);
                take(&self.rest, true);
                self.rest.clear();
            }
            bytes = behind;
        }
        self.rest.extend_from_slice(bytes);
        if self.rest.len() >= MAX_LINE {
            self.finish(take);
        }
    }

    /// Calls `take` with the bytes that no newline has ended, if there are any.
    pub(super) fn finish(&mut self, mut take: impl FnMut(&[u8], bool)) {
        if !self.rest.is_empty() {
            take(&self.rest, false);
            self.rest = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(parts: &[&str]) -> Vec<(String, bool)> {
        let (mut lines, mut got) = (Lines::default(), Vec::new());
        let mut take = |line: &[u8], is_whole| got.push((String::from_utf8(line.to_vec()).unwrap(), is_whole));
        parts.iter().for_each(|part| lines.add(part.as_bytes(), &mut take));
        lines.finish(take);
        got
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        let whole = |lines: &[&str]| lines.iter().map(|line| ((*line).to_owned(), true)).collect::<Vec<_>>();
        assert_eq!(cut(&["one\ntwo\n"]), whole(&["one", "two"]));
        assert_eq!(cut(&["o", "ne\nt", "wo", "\n\n"]), whole(&["one", "two", ""]));
        assert_eq!(cut(&["one\ntw"]), [("one".to_owned(), true), ("tw".to_owned(), false)]);
        assert_eq!(cut(&[""]), []);
    }

    #[test]
    fn line_without_end_comes_in_pieces() {
        let mut lines = Lines::default();
        let (mut pieces, mut len) = (0, 0);
        for _ in 0..5 {
            lines.add(&vec![b'x'; MAX_LINE / 2], |piece, is_whole| {
                assert!(!is_whole);
                pieces += 1;
                len += piece.len();
            });
        }
        assert_eq!((pieces, len), (2, 2 * MAX_LINE));
    }
}
