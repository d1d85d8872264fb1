//! The question: how long do a few tasks in the pool delay an outside thread, one such section
//! after another?
//!
//! Four tasks in a scope whose body runs on a worker or on the calling thread (in place), or one
//! closure that a worker runs (install). Empty tasks show the cost of the round trip; tasks of 10
//! us show how much of it the work hides.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use crate::{
    once::Way,
    report::{Entrant, Metric, Question},
    rivals::{WORKERS, our_pool, rayon_pool},
    share, work,
};

const TASKS: u64 = 4;

const LONG: Duration = Duration::from_micros(10);

const METRICS: [Metric; 2] = [
    Metric {
        name: "empty, ns",
        decimals: 0,
    },
    Metric {
        name: "10 us, ns",
        decimals: 0,
    },
];

/// Runs one, with tasks of this many steps.
type Section = Box<dyn Fn(u64)>;

/// A name, and the constructor of the pool of so many workers.
type Form = (&'static str, fn(usize) -> Section);

/// Runs sections one after another, after some that are not timed.
fn time(section: &Section, sections: u64, steps: u64) -> Duration {
    let go = |sections| (0..sections).for_each(|_| section(steps));
    go(share(sections, 20));
    let start = Instant::now();
    go(sections);
    start.elapsed()
}

fn measure(sections: u64, section: &Section) -> Vec<f64> {
    let measured =
        |sections, steps| time(section, sections, steps).as_nanos() as f64 / sections as f64;
    let long = work::calibrate(LONG);
    vec![measured(sections, 0), measured(share(sections, 5), long)]
}

fn task(steps: u64) {
    if steps > 0 {
        work::compute(steps);
    }
    black_box(());
}

const FORMS: [Form; 6] = [
    ("adaptive-pool, scope", |workers| {
        let pool = our_pool(workers);
        Box::new(move |steps| {
            pool.scope(|scope| (0..TASKS).for_each(|_| scope.spawn(move |_| task(steps))));
        })
    }),
    ("adaptive-pool, in place", |workers| {
        let pool = our_pool(workers);
        Box::new(move |steps| {
            pool.in_place_scope(|scope| {
                (0..TASKS).for_each(|_| scope.spawn(move |_| task(steps)));
            });
        })
    }),
    ("adaptive-pool, install", |workers| {
        let pool = our_pool(workers);
        Box::new(move |steps| pool.install(|| task(steps)))
    }),
    ("rayon, scope", |workers| {
        let pool = rayon_pool(workers);
        Box::new(move |steps| {
            pool.scope(|scope| (0..TASKS).for_each(|_| scope.spawn(move |_| task(steps))));
        })
    }),
    ("rayon, in place", |workers| {
        let pool = rayon_pool(workers);
        Box::new(move |steps| {
            pool.in_place_scope(|scope| {
                (0..TASKS).for_each(|_| scope.spawn(move |_| task(steps)));
            });
        })
    }),
    ("rayon, install", |workers| {
        let pool = rayon_pool(workers);
        Box::new(move |steps| pool.install(|| task(steps)))
    }),
];

const fn way<const FORM: usize>() -> Way {
    Way {
        name: FORMS[FORM].0,
        run: |workers, sections| time(&FORMS[FORM].1(workers), sections, 0),
    }
}

/// With empty tasks.
pub(crate) const WAYS: &[Way] = &[
    way::<0>(),
    way::<1>(),
    way::<2>(),
    way::<3>(),
    way::<4>(),
    way::<5>(),
];

/// For [`compare`](crate::report).
pub fn question(name: &'static str, jobs: u64) -> Question {
    let sections = share(jobs, 50);
    let entrants = FORMS
        .into_iter()
        .map(|(name, build)| Entrant::new(name, move || measure(sections, &build(WORKERS))));
    Question {
        name,
        title: format!("{sections} sequential sections of four tasks (or one installed closure)"),
        metrics: &METRICS,
        entrants: entrants.collect(),
    }
}
