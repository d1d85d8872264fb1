//! A CSV file, line by line.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

/// Parses each line after the first, which has to be `columns`.
pub fn read<T>(
    path: &Path,
    columns: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> io::Result<Vec<T>> {
    let text = fs::read_to_string(path)?;
    let mut lines = text.lines();
    if lines.next() != Some(columns) {
        let what = format!("the first line is not {columns}");
        return Err(io::Error::new(ErrorKind::InvalidData, what));
    }
    lines
        .zip(2..)
        .map(|(line, number)| {
            parse(line).ok_or_else(|| {
                let what = format!("line {number} is not a sample: {line}");
                io::Error::new(ErrorKind::InvalidData, what)
            })
        })
        .collect()
}
