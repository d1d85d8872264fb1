//! The pool under test, when all the jobs are known beforehand.

use adaptive_pool::Pool;

use super::Rival;
use crate::Job;

/// The form of submission.
#[derive(Clone, Copy)]
pub(super) enum Way {
    ForEach,
    MapUnordered,
    Scope,
}

pub(super) struct Batch {
    pub(super) pool: Pool,
    pub(super) way: Way,
}

impl<J: Job> Rival<J> for Batch {
    fn submit(&self, job: J) {
        job.run();
    }

    fn burst(&self, job: J, count: u64)
    where
        J: Copy,
    {
        let jobs = (0..count).map(move |_| job);
        match self.way {
            Way::ForEach => self.pool.for_each(jobs, J::run),
            Way::MapUnordered => self.pool.map_unordered(jobs, J::run).for_each(drop),
            Way::Scope => self.pool.scope(|scope| {
                for job in jobs {
                    scope.spawn(move |_| job.run());
                }
            }),
        }
    }
}
