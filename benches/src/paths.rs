//! The question: how many instructions does an empty job cost, on each path into the pool?
//!
//! For a profiler, with [`once`](crate::once::once): `benches/instructions.sh` makes the table.
//! Their times would show little. Other questions measure times, beside rivals.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use adaptive_pool::Pool;

use crate::{
    once::Way,
    rivals::{our_pool, rayon_pool},
};

fn time(workers: usize, jobs: u64, run: impl Fn(&Pool, u64)) -> Duration {
    let pool = our_pool(workers);
    let start = Instant::now();
    run(&pool, jobs);
    drop(pool);
    start.elapsed()
}

const OPEN: &str = "the pool is open";

/// The paths.
pub(crate) const WAYS: &[Way] = &[
    Way {
        name: "spawn",
        run: |workers, jobs| {
            time(workers, jobs, |pool, jobs| {
                (0..jobs).for_each(|i| {
                    pool.spawn(move || {
                        black_box(i);
                    })
                    .expect(OPEN)
                });
            })
        },
    },
    Way {
        name: "reserve, spawn",
        run: |workers, jobs| {
            time(workers, jobs, |pool, jobs| {
                (0..jobs).for_each(|i| {
                    pool.reserve().expect(OPEN).spawn(move || {
                        black_box(i);
                    })
                });
            })
        },
    },
    Way {
        name: "submit",
        run: |workers, jobs| {
            time(workers, jobs, |pool, jobs| {
                (0..jobs).for_each(|i| drop(pool.submit(move || black_box(i)).expect(OPEN)));
            })
        },
    },
    Way {
        name: "for_each",
        run: |workers, jobs| {
            time(workers, jobs, |pool, jobs| {
                pool.for_each(0..jobs, |i| {
                    black_box(i);
                })
            })
        },
    },
    Way {
        name: "map",
        run: |workers, jobs| {
            time(workers, jobs, |pool, jobs| {
                pool.map(0..jobs, black_box).for_each(drop)
            })
        },
    },
    Way {
        name: "map_unordered",
        run: |workers, jobs| {
            time(workers, jobs, |pool, jobs| {
                pool.map_unordered(0..jobs, black_box).for_each(drop);
            })
        },
    },
    Way {
        name: "scope, from a worker",
        run: |workers, jobs| {
            time(workers, jobs, |pool, jobs| {
                pool.scope(|scope| {
                    (0..jobs).for_each(|i| {
                        scope.spawn(move |_| {
                            black_box(i);
                        })
                    });
                });
            })
        },
    },
    Way {
        name: "scope, from outside",
        run: |workers, jobs| {
            time(workers, jobs, |pool, jobs| {
                pool.in_place_scope(|scope| {
                    (0..jobs).for_each(|i| {
                        scope.spawn(move |_| {
                            black_box(i);
                        })
                    });
                });
            })
        },
    },
    Way {
        name: "rayon::spawn",
        run: |workers, jobs| {
            let pool = rayon_pool(workers);
            let start = Instant::now();
            pool.in_place_scope(|_| {
                (0..jobs).for_each(|i| {
                    pool.spawn(move || {
                        black_box(i);
                    })
                });
            });
            pool.install(|| ());
            start.elapsed()
        },
    },
];
