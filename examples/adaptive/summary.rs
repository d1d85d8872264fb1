//! A run in one line.

use std::fmt;

use crate::csv::Sample;

pub struct Summary<'a> {
    name: &'a str,
    samples: &'a [Sample],
}

impl<'a> Summary<'a> {
    pub const HEAD: &'static str = "\
pool       all done   workers in service   jobs that wait (mean)   submit (mean, us)      longest
              after       mean   most        burst       flood       burst     flood   (one sample)";

    pub fn new(name: &'a str, samples: &'a [Sample]) -> Self {
        Self { name, samples }
    }

    fn mean(&self, phase: &str, value: impl Fn(&Sample) -> Option<f64>) -> f64 {
        let is_in = |sample: &&Sample| phase.is_empty() || sample.phase == phase;
        let (sum, count) = self
            .samples
            .iter()
            .filter(is_in)
            .filter_map(value)
            .fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
        if count > 0.0 { sum / count } else { 0.0 }
    }

    /// When all jobs were done.
    fn end(&self) -> f64 {
        let all = self.samples.last().map_or(0, |last| last.completed);
        let done = self.samples.iter().find(|sample| sample.completed == all);
        done.map_or(0.0, |sample| sample.time_s)
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_service = |sample: &Sample| Some(sample.workers_in_service as f64);
        let depth = |sample: &Sample| Some(sample.depth as f64);
        let wait = |sample: &Sample| sample.admission_wait_us;
        write!(
            f,
            "{:9} {:7.2} s    {:7.2} {:6} {:12.1} {:11.1} {:11.0} {:9.0} {:11.0} us",
            self.name,
            self.end(),
            self.mean("", in_service),
            self.samples
                .iter()
                .map(|sample| sample.workers_in_service)
                .max()
                .unwrap_or(0),
            self.mean("burst", depth),
            self.mean("flood", depth),
            self.mean("burst", wait),
            self.mean("flood", wait),
            self.samples.iter().filter_map(wait).fold(0.0, f64::max),
        )
    }
}
