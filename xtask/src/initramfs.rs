//! Writes an initramfs: the files that a kernel begins with, as one archive in cpio's `newc` form,
//! which kernels unpack. Used by `vm`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use crate::Outcome;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

/// The archive, as it grows.
#[derive(Default)]
pub(crate) struct Initramfs {
    bytes: Vec<u8>,
    entries: u32,
}

impl Initramfs {
    pub(crate) fn add_folder(&mut self, path: &str) {
        self.add(path, FOLDER, b"");
    }

    pub(crate) fn add_program(&mut self, path: &str, contents: &[u8]) {
        self.add(path, PROGRAM, contents);
    }

    pub(crate) fn add_link(&mut self, path: &str, to: &str) {
        self.add(path, LINK, to.as_bytes());
    }

    /// Adds a copy of a file of this machine.
    pub(crate) fn add_copy(&mut self, path: &str, of: &Path) -> Outcome {
        let contents = fs::read(of).map_err(|error| format!("cannot read {}: {error}", of.display()))?;
        self.add_program(path, &contents);
        Ok(())
    }

    /// Writes the archive.
    pub(crate) fn save(mut self, path: &Path) -> Outcome {
        self.add("TRAILER!!!", 0, b"");
        let written =
            fs::File::create(path).and_then(|mut file: fs::File| -> io::Result<()> { file.write_all(&self.bytes) });
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    fn add(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.entries += 1;
        let (name_len, len) = (path.len() as u32 + 1, u32::try_from(contents.len()).expect("below 4 GiB"));
        // inode, mode, uid, gid, links, time, length, two devices of two numbers each, length of
        // the name, checksum
        let fields = [self.entries, mode, 0, 0, 1, 0, len, 0, 0, 0, 0, name_len, 0];
        self.bytes.extend(b"070701");
        fields.iter().for_each(|field| self.bytes.extend(format!("{field:08X}").bytes()));
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(contents);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_say_their_lengths() {
        let mut archive = Initramfs::default();
        archive.add_program("init", b"hello");
        let text = String::from_utf8(archive.bytes.clone()).unwrap();
        assert!(text.starts_with("07070100000001000081ED"), "{text}");
        assert_eq!(&text[54..62], "00000005", "the length");
        assert_eq!(&text[94..102], "00000005", "the name's length, with its zero");
        assert_eq!(&text[110..], "init\0\0hello\0\0\0");
    }
}
