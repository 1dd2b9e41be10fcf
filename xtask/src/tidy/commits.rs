//! Subjects of the commits that the branch adds: at most 72 characters, without a full stop.

use std::path::Path;
use std::process::Command;

use super::source::Finding;

const MAX_CHARACTERS: usize = 72;

/// The number of commits that are looked at if the remote has no main branch.
const MAX_COMMITS: &str = "20";

/// The findings; or why there is nothing to look at.
pub(super) fn check(root: &Path) -> Result<Vec<Finding>, String> {
    let git = |arguments: &[&str]| git(root, arguments);
    if git(&["rev-parse", "--is-shallow-repository"]).ok_or("this is no clone of git")? == "true" {
        return Err("the clone is shallow".into());
    }
    let merge_base = |branch| git(&["merge-base", "HEAD", branch]);
    let head = git(&["rev-parse", "HEAD"]).ok_or("there is no commit")?;
    let has_remote = git(&["remote"]).is_some_and(|remotes| !remotes.is_empty());
    let base = merge_base("origin/main").or_else(|| merge_base("main").filter(|base| has_remote || *base != head));
    let range: Vec<String> = match base {
        Some(base) => vec![format!("{base}..HEAD")],
        None if has_remote => vec!["HEAD".into(), "--not".into(), "--remotes".into()],
        None => return Err("there is no remote and no other branch to compare with".into()),
    };
    let mut arguments = vec!["log", "--no-merges", "--format=%h %s"];
    if range.len() > 1 {
        arguments.extend(["--max-count", MAX_COMMITS]);
    }
    arguments.extend(range.iter().map(String::as_str));
    let log = git(&arguments).ok_or("git log has failed")?;
    Ok(log.lines().filter_map(check_commit).collect())
}

/// Looks at a line of a commit's short name and its subject.
fn check_commit(line: &str) -> Option<Finding> {
    let (commit, subject) = line.split_once(' ')?;
    let characters = subject.chars().count();
    let text = if characters > MAX_CHARACTERS {
        format!("the subject has {characters} characters; say it in {MAX_CHARACTERS}, and the rest in the body")
    } else if subject.ends_with('.') {
        "the subject ends with a full stop; leave it out".to_owned()
    } else {
        return None;
    };
    Some(Finding { place: format!("commit {commit}"), line: 1, text: format!("{text}: {subject}") })
}

/// Returns what a git command prints; nothing if it fails.
fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(root).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_short_and_have_no_full_stop() {
        assert_eq!(check_commit("abc Reap children of a killed fork server"), None);
        assert_eq!(check_commit(&format!("abc {}", "x".repeat(72))), None);
        assert!(check_commit(&format!("abc {}", "x".repeat(73))).expect("it is long").text.contains("73 characters"));
        assert_eq!(check_commit("abc Mend it.").expect("it has a full stop").place, "commit abc");
    }

    struct Repository(tempfile::TempDir);

    impl Repository {
        fn new() -> Self {
            let repository = Self(tempfile::tempdir().expect("a folder"));
            repository.git(&["init", "--quiet", "--initial-branch", "main"]);
            repository
        }

        fn git(&self, arguments: &[&str]) {
            let identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
            super::git(self.0.path(), &[&identity[..], arguments].concat()).expect("git runs");
        }

        fn commit(&self, subject: &str) {
            self.git(&["commit", "--quiet", "--allow-empty", "--message", subject]);
        }

        fn check(&self) -> Result<usize, String> {
            check(self.0.path()).map(|findings| findings.len())
        }
    }

    #[test]
    fn only_the_branch_is_looked_at() {
        let repository = Repository::new();
        repository.commit("Old.");
        repository.git(&["switch", "--quiet", "--create", "branch"]);
        repository.commit("New.");
        repository.commit("Good");
        assert_eq!(repository.check(), Ok(1));
    }

    #[test]
    fn without_anything_to_compare_with_it_says_so() {
        assert_eq!(check(tempfile::tempdir().expect("a folder").path()).unwrap_err(), "this is no clone of git");
        let repository = Repository::new();
        assert_eq!(repository.check().unwrap_err(), "there is no commit");
        repository.commit("Old.");
        assert!(repository.check().unwrap_err().starts_with("there is no remote"));
    }

    #[test]
    fn commits_that_no_remote_has_are_looked_at() {
        let repository = Repository::new();
        repository.git(&["switch", "--quiet", "--create", "branch"]);
        repository.commit("New.");
        repository.git(&["remote", "add", "origin", "nowhere"]);
        assert_eq!(repository.check(), Ok(1));
    }

    #[test]
    fn a_shallow_clone_is_not_looked_at() {
        let origin = Repository::new();
        origin.commit("One.");
        origin.commit("Two.");
        let clone = Repository(tempfile::tempdir().expect("a folder"));
        let url = format!("file://{}", origin.0.path().display());
        clone.git(&["clone", "--quiet", "--depth", "1", &url, "."]);
        assert_eq!(clone.check().unwrap_err(), "the clone is shallow");
    }
}
