//! The surroundings of a child, put in place before any code of a user runs there: streams that its
//! parent reads, a pipe for its log records, a process group. Python code asks for
//! [`Surroundings`], and each child gets a [`Setting`]; both are used in the parent, by the thread
//! that starts, with the interpreter attached. [`enter_setting`] is called in an executed child.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use procession_core::descriptor;
use procession_core::output::{Capture, Collector, Entering, Output, Recording, Records, Streams};
use procession_core::pool::Service;
use procession_core::setting;
use pyo3::prelude::*;

use crate::error::{OrOsError, OrRaise};
use crate::output;
use crate::process::{Child, Link};
use crate::records::{self, Receiver};
use crate::wait::deadline;

/// The time between two looks for signals while lines are waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A setting in words, for a child that gets its fds too: whether it leads a process group, whether
/// its streams are among the fds, and what it is told of log records.
type Words = (bool, bool, Option<Vec<u8>>);

/// The surroundings of the children of a pool, or of one process.
#[pyclass(frozen, module = "procession._engine")]
pub(crate) struct Surroundings {
    output: Output,
    records: Option<Records>,
    entering: Entering,
    leads_group: bool,
}

#[pymethods]
impl Surroundings {
    /// `output` is `'null'`, `'prefix'`, nothing, or a function that returns what gets each line.
    /// `logs` are what a child is told of log records, and their [`Receiver`].
    #[new]
    fn new(
        output: Option<&Bound<'_, PyAny>>,
        logs: Option<(Vec<u8>, Py<PyAny>)>,
        leads_group: bool,
    ) -> PyResult<Surroundings> {
        let output = output.map_or(Ok(Output::Inherit), output::read)?;
        let (told, receiver) = logs.map(|(told, receiver)| (told, Receiver::new(receiver))).unzip();
        let records = told.and_then(|told| Some(receiver.as_ref()?.records(told)));
        Ok(Surroundings { output, records, entering: output::entering(receiver), leads_group })
    }

    /// Makes the setting of a process that is about to start.
    fn make_setting(&self, py: Python<'_>) -> PyResult<Setting> {
        let collector = Collector::new(self.output.clone(), self.records.clone(), Some(self.entering.clone()));
        let (streams, recording, capture) = collector.capture().or_raise(py)?;
        let setting =
            setting::Setting { streams, recording, leads_group: self.leads_group, ..setting::Setting::default() };
        let follower = Follower { collector, capture: Mutex::new(Some(capture)) };
        Ok(Setting { follower: Some(follower), ..Setting::of(setting) })
    }
}

impl Surroundings {
    /// Has the workers of a pool have them.
    pub(crate) fn fill(&self, service: &mut Service) {
        service.output = self.output.clone();
        service.records = self.records.clone();
        service.entering = Some(self.entering.clone());
        service.leads_group = self.leads_group;
    }
}

/// The surroundings of one child, and the reader of its pipes if it is no pool's worker.
#[pyclass(frozen, module = "procession._engine")]
pub(crate) struct Setting {
    /// `None` once the child has it.
    setting: Mutex<Option<setting::Setting>>,
    leads_group: bool,
    follower: Option<Follower>,
}

struct Follower {
    collector: Collector,
    capture: Mutex<Option<Capture>>,
}

#[pymethods]
impl Setting {
    /// Returns whether the child leads a process group.
    #[getter]
    fn leads_group(&self) -> bool {
        self.leads_group
    }

    /// Returns whether the child has streams of its own.
    #[getter]
    fn has_streams(&self) -> bool {
        self.using(|setting| setting.streams.is_some()).unwrap_or(false)
    }

    /// Returns the words that an executed child is sent for `enter_setting`.
    fn words(&self) -> Words {
        let words = self.using(|setting| {
            let argument = setting.recording.as_ref().map(|recording| recording.argument().to_vec());
            (setting.leads_group, setting.streams.is_some(), argument)
        });
        words.unwrap_or_default()
    }

    /// The numbers of the fds that go with these words, which stay this object's.
    fn fds(&self) -> Vec<RawFd> {
        let fds = self.using(|setting| {
            let streams = setting.streams.iter().flat_map(Streams::fds);
            streams.chain(setting.recording.as_ref().map(Recording::fd)).map(|fd| fd.as_raw_fd()).collect()
        });
        fds.unwrap_or_default()
    }

    /// In a forked child: puts it in place. `link` is the child's end, by which it is tied already.
    fn enter(&self, link: &Link) -> PyResult<()> {
        // The reading ends are its parent's.
        drop(self.follower.as_ref().and_then(Follower::take_capture));
        locked(&self.setting).take().map_or(Ok(()), |setting| install(setting, link))
    }

    /// In the parent: the child has it, and from now on what it prints and logs is read.
    fn follow(&self, py: Python<'_>, child: &Child) -> PyResult<()> {
        drop(locked(&self.setting).take());
        let Some(follower) = &self.follower else { return Ok(()) };
        let capture = follower.take_capture().unwrap_or_default();
        follower.collector.follow(capture, None, &child.shared()).or_raise(py)
    }

    /// Waits, after the end of the child, until all that it has printed and logged is delivered.
    /// Returns whether that is so.
    fn finish(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let Some(follower) = &self.follower else { return Ok(true) };
        let until = deadline(timeout)?;
        loop {
            let look = Instant::now() + LOOK_INTERVAL;
            let end = until.map_or(look, |until| until.min(look));
            if py.detach(|| follower.collector.finish(Some(end))) {
                return Ok(true);
            }
            py.check_signals()?;
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(false);
            }
        }
    }
}

impl Setting {
    /// Of a pool's worker, whose pipes the pool reads. `None` if that is nothing.
    pub(crate) fn of_worker(setting: setting::Setting) -> Option<Setting> {
        let is_plain = setting.streams.is_none() && setting.recording.is_none() && !setting.leads_group;
        (!is_plain).then(|| Setting::of(setting))
    }

    fn of(setting: setting::Setting) -> Setting {
        Setting { leads_group: setting.leads_group, setting: Mutex::new(Some(setting)), follower: None }
    }

    fn using<R>(&self, look: impl FnOnce(&setting::Setting) -> R) -> Option<R> {
        locked(&self.setting).as_ref().map(look)
    }
}

impl Follower {
    fn take_capture(&self) -> Option<Capture> {
        locked(&self.capture).take()
    }
}

/// In an executed child: puts a setting in place, by its words and fds, which stay the caller's.
/// `link` is the child's end, by which it is tied already.
#[pyfunction]
pub(crate) fn enter_setting(link: &Link, words: Words, fds: Vec<RawFd>) -> PyResult<()> {
    let (leads_group, has_streams, argument) = words;
    let mut fds = fds.into_iter().map(descriptor::duplicate);
    let mut next = || fds.next().unwrap_or_else(|| Err(std::io::ErrorKind::InvalidData.into()));
    let streams = if has_streams { Some(Streams::new(next().or_os_error()?, next().or_os_error()?)) } else { None };
    let recording = match argument {
        Some(argument) => Some(records::recording(next().or_os_error()?, argument)),
        None => None,
    };
    install(setting::Setting { streams, recording, leads_group, ..setting::Setting::default() }, link)
}

fn install(setting: setting::Setting, link: &Link) -> PyResult<()> {
    let leads_group = setting.leads_group;
    setting.install().or_os_error()?;
    // From now on the group is killed where the process was.
    if leads_group { link.tie_group() } else { Ok(()) }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
