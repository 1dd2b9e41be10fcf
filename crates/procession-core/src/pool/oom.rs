//! The kernel's OOM killer: whether a worker's death was its doing. The kernel counts the processes
//! of a control group that it killed for want of memory; a count that has risen when a worker is
//! found killed, by nobody here, tells. Read in the parent, when a pool starts and when a worker
//! dies so.
//!
//! The count is of the parent's own group, in which its workers are. A program that moves its
//! workers elsewhere, or runs where no group of the memory controller can be seen, is not told of
//! the killer. A process of the group that is none of the pool's counts too: it could be blamed on
//! a worker that somebody else killed at that very time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A watch on the killer's count.
#[derive(Debug)]
pub(super) struct OomWatch {
    source: Option<Source>,
    /// Kills that are accounted for.
    known: Mutex<u64>,
}

/// The file that has the count.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Source(PathBuf);

impl OomWatch {
    /// From now on.
    pub(super) fn begin() -> OomWatch {
        OomWatch::on(Source::of_self())
    }

    fn on(source: Option<Source>) -> OomWatch {
        // A group that cannot be read now is not to be blamed for its whole past later.
        let first = source.as_ref().and_then(Source::read);
        OomWatch { source: source.filter(|_| first.is_some()), known: Mutex::new(first.unwrap_or(0)) }
    }

    /// Returns whether a kill is not yet accounted for, and accounts for it. Returns `None` if that
    /// cannot be known.
    pub(super) fn blames(&self) -> Option<bool> {
        let now = self.source.as_ref()?.read()?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_blamed = now > *known;
        *known += u64::from(is_blamed);
        Some(is_blamed)
    }
}

impl Source {
    fn of_self() -> Option<Source> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        Source::find(&groups, &mounts)
    }

    /// `groups` and `mounts`: as `/proc` has them. Where the first version has the memory
    /// controller, the second has not.
    fn find(groups: &str, mounts: &str) -> Option<Source> {
        let mut second = None;
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':');
            let (_number, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
            if controllers.split(',').any(|controller| controller == "memory") {
                let folder = folder_of(group, mounts, |kind, options| {
                    kind == "cgroup" && options.split(',').any(|option| option == "memory")
                })?;
                return Some(Source(folder.join("memory.oom_control")));
            }
            if controllers.is_empty() {
                second = folder_of(group, mounts, |kind, _| kind == "cgroup2");
            }
        }
        Some(Source(second?.join("memory.events")))
    }

    fn read(&self) -> Option<u64> {
        let text = fs::read_to_string(&self.0).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    }
}

/// Returns the folder of a group's files, in the mount that shows it.
fn folder_of(group: &str, mounts: &str, is_wanted: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        // 35 31 0:32 /root-of-mount /mount/point rw,relatime shared:1 - type source options
        let (head, tail) = line.split_once(" - ")?;
        let mut tail = tail.split(' ');
        let (kind, _source, options) = (tail.next()?, tail.next()?, tail.next()?);
        if !is_wanted(kind, options) {
            return None;
        }
        let mut head = head.split(' ').skip(3);
        let (root, point) = (head.next()?, head.next()?);
        Some(Path::new(point).join(Path::new(group).strip_prefix(root).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
23 1 8:1 / / rw - ext4 /dev/vda rw
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

    fn found(groups: &str, mounts: &str) -> Option<String> {
        Source::find(groups, mounts).map(|Source(path)| path.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_count_is_found_under_either_version() {
        assert_eq!(
            found("8:pids:/\n4:memory:/jobs/7\n0::/\n", MOUNTS).as_deref(),
            Some("/sys/fs/cgroup/memory/jobs/7/memory.oom_control")
        );
        assert_eq!(
            found("0::/user.slice/a:b\n", MOUNTS).as_deref(),
            Some("/sys/fs/cgroup/unified/user.slice/a:b/memory.events")
        );
        // A container that sees its own group as the root of the mount.
        let inside = "41 31 0:38 /docker/1f /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(found("0::/docker/1f\n", inside).as_deref(), Some("/sys/fs/cgroup/memory.events"));
        assert_eq!(found("0::/elsewhere\n", inside), None);
        assert_eq!(found("", MOUNTS), None);
        assert_eq!(found("4:memory:/\n", ""), None);
    }

    #[test]
    fn each_kill_is_blamed_once() {
        let dir = std::env::temp_dir().join(format!("procession-oom-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("memory.events");
        let write =
            |kills: u64| fs::write(&path, format!("low 0\noom 9\noom_kill {kills}\noom_group_kill 5\n")).unwrap();
        write(3);
        let watch = OomWatch::on(Some(Source(path.clone())));
        assert_eq!(watch.blames(), Some(false));
        write(5);
        assert_eq!([(); 3].map(|()| watch.blames()), [Some(true), Some(true), Some(false)]);
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(watch.blames(), None);
        assert_eq!(OomWatch::on(Some(Source(path))).blames(), None);
        assert_eq!(OomWatch::on(None).blames(), None);
    }
}
