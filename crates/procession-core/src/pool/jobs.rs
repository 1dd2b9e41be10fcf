//! The table of a pool's jobs. Lives in the parent: who submits enters one, who finishes it takes it off, whoever finds a job's
//! id in a frame or in a result looks it up.

use std::sync::Arc;

use super::job::{Job, Terms};

/// The jobs that are not finished, by id. An id is used once: its upper half is the use of its lower half.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    places: Vec<(u32, Option<Arc<Job>>)>,
    free: Vec<u32>,
    live: usize,
}

impl Jobs {
    pub(super) fn add(&mut self, sizes: &[u32], terms: Terms) -> Arc<Job> {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 jobs at once")
        });
        let (uses, job) = &mut self.places[place as usize];
        // No job has the id 0.
        *uses = uses.wrapping_add(1).max(1);
        let new = Arc::new(Job::new(u64::from(*uses) << 32 | u64::from(place), sizes, terms));
        *job = Some(new.clone());
        self.live += 1;
        new
    }

    pub(super) fn get(&self, id: u64) -> Option<Arc<Job>> {
        let (_, job) = self.places.get(id as u32 as usize)?;
        job.as_ref().filter(|job| job.id == id).cloned()
    }

    pub(super) fn remove(&mut self, id: u64) {
        let place = id as u32;
        let Some((_, job)) = self.places.get_mut(place as usize) else { return };
        if job.as_ref().is_some_and(|job| job.id == id) {
            *job = None;
            self.free.push(place);
            self.live -= 1;
        }
    }

    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.places.iter().filter_map(|(_, job)| job.as_ref())
    }

    pub(super) fn drain(&mut self) -> Vec<Arc<Job>> {
        let jobs: Vec<_> = self.places.iter().filter_map(|(_, job)| job.clone()).collect();
        jobs.iter().for_each(|job| self.remove(job.id));
        jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_never_used_twice() {
        let mut jobs = Jobs::default();
        let first = jobs.add(&[1], Terms::default()).id;
        jobs.remove(first);
        let second = jobs.add(&[1], Terms::default()).id;
        assert_ne!(first, second);
        assert!(jobs.get(first).is_none() && jobs.get(second).is_some());
        jobs.remove(first);
        assert_eq!(jobs.live(), 1);
    }
}
