//! Measures a question in rounds, and formats the results.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::distance;

/// One column.
pub struct Metric {
    /// The name, with its unit.
    pub name: &'static str,
    /// The number of significant decimals.
    pub decimals: usize,
}

/// A contender and its measurement: each call returns one value per metric.
pub struct Entrant {
    name: &'static str,
    measure: Box<dyn Fn() -> Vec<f64>>,
}

impl Entrant {
    /// Building the rival is part of `measure`, timing it is not.
    pub fn new(name: &'static str, measure: impl Fn() -> Vec<f64> + 'static) -> Self {
        Self {
            name,
            measure: Box::new(measure),
        }
    }
}

/// A question and its entrants. The others are compared with the first.
pub struct Question {
    /// The name on the command line.
    pub name: &'static str,
    /// The text above the table.
    pub title: String,
    /// The values of each measurement.
    pub metrics: &'static [Metric],
    /// The entrants, in the order of the table.
    pub entrants: Vec<Entrant>,
}

/// The samples: for each entrant, for each metric, one value per round.
pub struct Answer {
    question: Question,
    samples: Vec<Vec<Vec<f64>>>,
    /// The round trip between the cores before each round, in ns.
    distances: Vec<f64>,
}

impl Question {
    /// Measures every entrant once per round. Each round starts with a different one, so that the
    /// predecessor varies.
    pub fn ask(self, rounds: usize) -> Answer {
        let entrants = self.entrants.len();
        let mut samples = vec![vec![Vec::with_capacity(rounds); self.metrics.len()]; entrants];
        let mut distances = Vec::with_capacity(rounds);
        for round in 0..rounds {
            distances.push(distance::round_trip());
            for turn in 0..entrants {
                let entrant_index = (round + turn) % entrants;
                let values = (self.entrants[entrant_index].measure)();
                for (metric, value) in values.into_iter().enumerate() {
                    samples[entrant_index][metric].push(value);
                }
            }
        }
        Answer {
            question: self,
            samples,
            distances,
        }
    }
}

/// The value below which this fraction of the values lies. Sorts them; NaN if there are none.
pub fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let index = (last as f64 * part).round() as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(&mut values.into_iter().collect::<Vec<_>>(), 0.5)
}

impl Answer {
    /// The name of each entrant, and its median of one of the metrics.
    pub fn medians(&self, metric: usize) -> impl Iterator<Item = (&'static str, f64)> {
        let entrants = self.question.entrants.iter().zip(&self.samples);
        entrants
            .map(move |(entrant, samples)| (entrant.name, median(samples[metric].iter().copied())))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            question,
            samples,
            distances,
        } = self;
        writeln!(f, "{}: {}", question.name, question.title)?;
        write!(f, "{:28}", "")?;
        for metric in question.metrics {
            write!(f, "{:>12}{:>10}", metric.name, "ratio")?;
        }
        writeln!(f)?;
        for (entrant, theirs) in question.entrants.iter().zip(samples) {
            write!(f, "{:28}", entrant.name)?;
            for (index, metric) in question.metrics.iter().enumerate() {
                let theirs = &theirs[index];
                // Within one round the machine was nearly the same for both.
                let ratio = median(samples[0][index].iter().zip(theirs).map(|(a, b)| a / b));
                let value = median(theirs.iter().copied());
                write!(f, "{value:12.*}{ratio:10.2}", metric.decimals)?;
            }
            writeln!(f)?;
        }
        writeln!(f, "{}", apart(distances))
    }
}

/// Formats the round trips between the cores.
pub(crate) fn apart(distances: &[f64]) -> String {
    let rounded: Vec<String> = distances.iter().map(|ns| format!("{ns:.0}")).collect();
    format!(
        "Cache-line round trip between the cores, per round: {} ns.",
        rounded.join(", ")
    )
}

/// The answers in a file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    /// Of the machine.
    pub cores: usize,
    /// One for each question.
    pub answers: Vec<Recorded>,
}

/// An answer, with every value of every round.
#[derive(Debug, Serialize, Deserialize)]
pub struct Recorded {
    /// The name on the command line.
    pub name: String,
    /// The text above the table.
    pub title: String,
    /// With their units.
    pub metrics: Vec<String>,
    /// The entrants, in the order of the table.
    pub entrants: Vec<RecordedEntrant>,
    /// The round trip between the cores before each round, in ns.
    #[serde(default)]
    pub distances: Vec<f64>,
}

/// An entrant.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordedEntrant {
    /// The name in the table.
    pub name: String,
    /// For each metric, one value per round. JSON has no NaN: it is `None`.
    pub samples: Vec<Vec<Option<f64>>>,
}

impl Answer {
    /// Converts the answer for a file.
    pub fn record(&self) -> Recorded {
        let question = &self.question;
        let some = |values: &Vec<f64>| {
            let values = values.iter();
            values
                .map(|&value| (!value.is_nan()).then_some(value))
                .collect()
        };
        let entrants = question.entrants.iter().zip(&self.samples);
        Recorded {
            name: question.name.to_owned(),
            title: question.title.clone(),
            metrics: question
                .metrics
                .iter()
                .map(|metric| metric.name.to_owned())
                .collect(),
            entrants: entrants
                .map(|(entrant, samples)| RecordedEntrant {
                    name: entrant.name.to_owned(),
                    samples: samples.iter().map(some).collect(),
                })
                .collect(),
            distances: self.distances.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        let question = Question {
            name: "speed",
            title: "how fast".to_owned(),
            metrics: &[Metric {
                name: "ns",
                decimals: 1,
            }],
            entrants: vec![
                Entrant::new("ours", || vec![1.0]),
                Entrant::new("theirs", || vec![4.0]),
            ],
        };
        question.ask(3)
    }

    #[test]
    fn a_table_compares_the_first_with_each() {
        let table = answer().to_string();
        let row = table.lines().find(|line| line.starts_with("theirs"));
        let row: Vec<&str> = row.into_iter().flat_map(str::split_whitespace).collect();
        assert_eq!(row, ["theirs", "4.0", "0.25"]);
        assert!(table.contains("round trip between the cores"), "{table}");
    }

    #[test]
    fn a_record_holds_every_round() {
        let record = answer().record();
        assert_eq!(record.metrics, ["ns"]);
        assert_eq!(record.distances.len(), 3);
        let theirs = &record.entrants[1];
        assert_eq!(theirs.name, "theirs");
        assert_eq!(theirs.samples, [[Some(4.0); 3]]);
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&mut values, 0.0), 1.0);
        assert_eq!(quantile(&mut values, 0.99), 99.0);
        assert_eq!(quantile(&mut values, 1.0), 100.0);
        assert!(quantile(&mut [], 0.5).is_nan());
    }
}
