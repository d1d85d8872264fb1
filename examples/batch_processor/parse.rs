//! Parsers for option values.

use std::ops::RangeInclusive;

/// A number, or a range.
pub fn workers(text: &str) -> Result<RangeInclusive<usize>, String> {
    let number = |text: &str| {
        text.parse::<usize>()
            .map_err(|_| String::from("expected a number (4) or a range (1..4, 1..=4)"))
    };
    match text.split_once("..") {
        None => number(text).map(|n| n..=n),
        Some((min, max)) => Ok(number(min)?..=number(max.strip_prefix('=').unwrap_or(max))?),
    }
}

/// The seconds of a number with one of these units, each given with its length in seconds.
pub fn seconds(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, length) = units.iter().find(|(name, _)| *name == unit)?;
    Some(number.parse::<f64>().ok()? * length)
}
