//! The question: what does it cost to submit and take a job, when the job itself does nothing?
//!
//! The producers submit as fast as they can; the time ends when the last job has run. It includes
//! starting the producers' threads: 0.1 ms, the same for all.

use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Job,
    report::{Entrant, Metric, Question},
    rivals::{Contender, Rival},
    share,
    tally::{TALLY, Tally},
};

/// Nearly nothing: two words, no heap, and no word written by two threads.
#[derive(Clone, Copy)]
pub struct Tiny {
    value: u64,
    tally: &'static Tally,
}

impl Job for Tiny {
    #[inline]
    fn run(self) {
        black_box(self.value);
        self.tally.count();
    }
}

/// The entrants.
pub fn contenders() -> Vec<Contender<Tiny>> {
    vec![
        Contender::ours(),
        Contender::ours_untracked(),
        Contender::rayon(),
        Contender::rayon_semaphore(),
        Contender::channel(),
        Contender::channel_unboxed(),
        Contender::tokio(),
        Contender::threadpool(),
        Contender::rusty_pool(),
    ]
}

/// The time from the first submit to the end of the last job. `jobs` are split evenly.
pub fn measure(rival: &dyn Rival<Tiny>, producers: u64, jobs: u64) -> Duration {
    let job = Tiny {
        value: black_box(7),
        tally: &TALLY,
    };
    let each = jobs.div_ceil(producers);
    let goal = TALLY.total() + each * producers;
    let start = Instant::now();
    if producers == 1 {
        rival.burst(job, each);
    } else {
        thread::scope(|scope| {
            for _ in 0..producers {
                scope.spawn(|| rival.burst(job, each));
            }
        });
    }
    TALLY.wait_for(goal);
    start.elapsed()
}

/// Lets a rival grow to its steady state.
pub fn warm_up(rival: &dyn Rival<Tiny>, jobs: u64) {
    measure(rival, 1, share(jobs, 50));
}

/// For [`compare`](crate::report).
pub fn question(name: &'static str, producers: u64, jobs: u64) -> Question {
    let entrants = contenders().into_iter().map(|Contender { name, build }| {
        let measure = move || {
            let rival = build();
            warm_up(&*rival, jobs);
            let time = measure(&*rival, producers, jobs);
            vec![time.as_nanos() as f64 / jobs as f64]
        };
        Entrant::new(name, measure)
    });
    Question {
        name,
        title: format!("{jobs} tiny jobs, producers: {producers}"),
        metrics: &[Metric {
            name: "ns/job",
            decimals: 1,
        }],
        entrants: entrants.collect(),
    }
}
