//! Tiny jobs from one producer and from four, through every rival, for criterion.
//!
//! Criterion runs one rival after another; for ratios use the `compare` program.

use std::time::Duration;

use adaptive_pool_benches::tiny;
use criterion::{Criterion, SamplingMode, Throughput};

const JOBS: u64 = 1_000_000;

fn submit(criterion: &mut Criterion) {
    for (name, producers) in [("one_producer", 1), ("four_producers", 4)] {
        let mut group = criterion.benchmark_group(name);
        group
            .throughput(Throughput::Elements(JOBS))
            // An iteration takes 50 to 400 ms: with growing samples, ten would be 55 of them.
            .sampling_mode(SamplingMode::Flat)
            .sample_size(10)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(5));
        for contender in tiny::contenders() {
            group.bench_function(contender.name, |bencher| {
                bencher.iter_custom(|iterations| {
                    let rival = (contender.build)();
                    tiny::warm_up(&*rival, JOBS);
                    (0..iterations)
                        .map(|_| tiny::measure(&*rival, producers, JOBS))
                        .sum()
                });
            });
        }
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    submit(&mut criterion);
    criterion.final_summary();
}
