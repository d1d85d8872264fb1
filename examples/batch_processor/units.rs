//! Quantities, written for people.

use std::{fmt, time::Duration};

/// A number of bytes, in decimal units.
pub struct Bytes(pub f64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            bytes if bytes < 1e3 => format!("{bytes:.0} B"),
            bytes if bytes < 1e6 => format!("{:.1} kB", bytes / 1e3),
            bytes if bytes < 1e9 => format!("{:.1} MB", bytes / 1e6),
            bytes => format!("{:.2} GB", bytes / 1e9),
        };
        f.pad(&text)
    }
}

/// A latency, with three or four digits.
pub struct Time(pub Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        let text = match seconds {
            seconds if seconds < 1e-3 => format!("{:.1} us", seconds * 1e6),
            seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
            seconds => format!("{seconds:.2} s"),
        };
        f.pad(&text)
    }
}
