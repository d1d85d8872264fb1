//! The memory and the threads of a process, from the kernel.

use std::{fs, io};

#[derive(Debug, Clone, Copy)]
pub struct Status {
    /// The current resident memory.
    pub resident: u64,
    /// Its peak.
    pub peak: u64,
    pub threads: u64,
}

impl Status {
    pub fn own() -> io::Result<Self> {
        Self::read("/proc/self/status")
    }

    pub fn of(process: u32) -> io::Result<Self> {
        Self::read(&format!("/proc/{process}/status"))
    }

    fn read(path: &str) -> io::Result<Self> {
        let text = fs::read_to_string(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
        let number = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
                .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
                .ok_or_else(|| io::Error::other(format!("{path}: no {key} in it")))
        };
        Ok(Self {
            resident: number("VmRSS")? * 1024,
            peak: number("VmHWM")? * 1024,
            threads: number("Threads")?,
        })
    }
}
