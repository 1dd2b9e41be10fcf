//! The things that a process may leave behind: file descriptors, mappings, children, names.

use std::fs;
use std::time::{Duration, Instant};

use procession_testing::children_of;

use crate::names;

/// The figures of one moment.
#[derive(Debug)]
pub(crate) struct Belongings {
    fds: usize,
    segments: usize,
    children: Vec<String>,
    files: Vec<String>,
}

impl Belongings {
    pub(crate) fn now() -> Belongings {
        // This call lets go of children that have ended.
        drop(procession::active_children());
        let maps = fs::read_to_string("/proc/self/maps").expect("/proc is there");
        let mut children: Vec<String> = children_of(std::process::id()).into_iter().map(|(_, name)| name).collect();
        children.sort();
        Belongings {
            fds: fs::read_dir("/proc/self/fd").expect("/proc is there").count(),
            segments: maps.lines().filter(|line| line.contains("memfd:procession")).count(),
            children,
            files: names::left(),
        }
    }

    fn are_within(&self, before: &Belongings) -> bool {
        self.fds <= before.fds
            && self.segments <= before.segments
            && self.children == before.children
            && self.files.is_empty()
    }

    /// Fails if there is more than before, and stays so.
    pub(crate) fn expect_again(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !Belongings::now().are_within(self) {
            if Instant::now() > deadline {
                let fds: Vec<_> = fs::read_dir("/proc/self/fd")
                    .expect("/proc is there")
                    .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
                    .collect();
                panic!("something is left behind: {:?}, where there was {self:?}; open: {fds:?}", Belongings::now());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
