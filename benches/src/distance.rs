//! The distance of two cores: the round trip of a cache line between them.
//!
//! A host moves the cores of a virtual machine between rounds. Handing jobs to another thread takes
//! four times as long if the cores share no cache. So each round of a question includes this
//! figure.

use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

/// Round trips per measurement. The shortest of several counts: one may have hit a time slice.
const TRIPS: u64 = 2_000;
const MEASUREMENTS: u64 = 5;

#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Line {
    fn await_value(&self, value: u64) {
        let mut spins = 0u32;
        while self.0.load(Ordering::Acquire) != value {
            spins += 1;
            // With one core, the other thread needs it.
            if spins % 1024 == 0 {
                thread::yield_now();
            } else {
                spin_loop();
            }
        }
    }

    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }
}

/// The round trip between the cores on which two threads currently run, in ns.
pub(crate) fn round_trip() -> f64 {
    let (there, back) = (Line::default(), Line::default());
    thread::scope(|threads| {
        threads.spawn(|| {
            for trip in 1..=TRIPS * MEASUREMENTS {
                there.await_value(trip);
                back.set(trip);
            }
        });
        let measured = (0..MEASUREMENTS).map(|measurement| {
            let start = Instant::now();
            for trip in 1..=TRIPS {
                let trip = measurement * TRIPS + trip;
                there.set(trip);
                back.await_value(trip);
            }
            start.elapsed().as_nanos() as f64 / TRIPS as f64
        });
        measured.fold(f64::INFINITY, f64::min)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_comes_back() {
        let trip = round_trip();
        assert!(trip.is_finite() && trip > 0.0, "{trip}");
    }
}
