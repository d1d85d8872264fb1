//! The memory of all contenders over time, as one SVG: the whole run, and its first seconds.

use std::fmt::{self, Write};

use crate::{args::Contender, csv::Sample};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 44.0;
const PANEL: f64 = 200.0;
const GAP: f64 = 60.0;
const BOTTOM: f64 = 40.0;
const INK: &str = "#30363d";

type Runs = [(Contender, Vec<Sample>)];

/// Returns `None` if there is nothing to draw.
pub fn draw(runs: &Runs) -> Option<String> {
    let end_of = |samples: &[Sample]| samples.last().map_or(0.0, |sample| sample.time_s);
    let end = runs.iter().map(|(_, samples)| end_of(samples));
    let end = end.fold(0.0, f64::max);
    if end <= 0.0 {
        return None;
    }
    let values = runs.iter().flat_map(|(_, samples)| samples);
    let most = values
        .map(|sample| sample.resident_mb.max(sample.limit_mb))
        .fold(1.0, f64::max);
    // Contenders that stopped early are a line at the edge of the whole run.
    let ends = runs.iter().map(|(_, samples)| end_of(samples));
    let early = ends.filter(|&time| time < 0.5 * end).fold(0.0, f64::max);
    let mut panels = vec![(end, "memory of the process")];
    if early > 0.0 {
        panels.push(((1.25 * early).min(end), "the same, at the beginning"));
    }
    let height = TOP + panels.len() as f64 * (PANEL + GAP) - GAP + BOTTOM;
    let mut svg = String::new();
    line(
        &mut svg,
        format_args!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" fill="{INK}">"#,
        ),
    );
    // A background of its own, since the page behind it may be dark.
    line(
        &mut svg,
        format_args!(r##"<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>"##),
    );
    for (i, (contender, _)) in runs.iter().enumerate() {
        let x = LEFT + 130.0 * i as f64;
        let colour = colour(*contender);
        line(
            &mut svg,
            format_args!(
                r#"<path d="M{x} 18h22" stroke="{colour}" stroke-width="3"/><text x="{}" y="22">{contender}</text>"#,
                x + 28.0
            ),
        );
    }
    for (i, (end, title)) in panels.into_iter().enumerate() {
        let panel = Panel {
            top: TOP + i as f64 * (PANEL + GAP),
            end,
            most: 1.12 * most,
        };
        panel.frame(&mut svg, title);
        let unbounded = |run: &&(Contender, _)| run.0 != Contender::Pool;
        // The others have the same.
        let limits = runs.iter().filter(|run| !unbounded(run));
        for (contender, samples) in limits.chain(runs.iter().find(unbounded)) {
            panel.limit(&mut svg, *contender, samples);
        }
        for (contender, samples) in runs {
            panel.curve(&mut svg, *contender, samples);
        }
    }
    line(&mut svg, format_args!("</svg>"));
    Some(svg)
}

fn colour(contender: Contender) -> &'static str {
    match contender {
        Contender::Naive => "#7a8594",
        Contender::Rayon => "#d9730d",
        Contender::Pool => "#0b62c4",
    }
}

fn line(svg: &mut String, text: fmt::Arguments<'_>) {
    // Writing to memory cannot fail.
    let _ = writeln!(svg, "{text}");
}

/// The smallest of 1, 2, 5, 10, 20, ... thousandths that divides this into at most `parts`.
fn step(most: f64, parts: f64) -> f64 {
    let round = (-3..9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
    round
        .into_iter()
        .find(|&step| most / step <= parts)
        .unwrap_or(most)
}

struct Panel {
    top: f64,
    /// The last second, and the highest MB.
    end: f64,
    most: f64,
}

impl Panel {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (seconds / self.end).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, megabytes: f64) -> f64 {
        self.top + PANEL - (megabytes / self.most).clamp(0.0, 1.0) * PANEL
    }

    fn frame(&self, svg: &mut String, title: &str) {
        let Self { top, .. } = self;
        line(
            svg,
            format_args!(
                r##"<rect x="{LEFT}" y="{top}" width="{}" height="{PANEL}" fill="none" stroke="#a9b2bd"/><text x="{LEFT}" y="{}" font-weight="bold">{title}</text>"##,
                WIDTH - LEFT - RIGHT,
                top - 6.0
            ),
        );
        let height = step(self.most, 5.0);
        for i in 0..=(self.most / height) as u32 {
            let value = f64::from(i) * height;
            let y = self.y(value);
            line(
                svg,
                format_args!(
                    r##"<path d="M{LEFT} {y:.1}h-5" stroke="#a9b2bd"/><text x="{}" y="{:.1}" text-anchor="end">{value} MB</text>"##,
                    LEFT - 8.0,
                    y + 4.0
                ),
            );
        }
        let width = step(self.end, 10.0);
        let digits = if width < 0.01 {
            3
        } else {
            2 * usize::from(width < 1.0)
        };
        for i in 0..=(self.end / width) as u32 {
            let value = f64::from(i) * width;
            line(
                svg,
                format_args!(
                    r#"<text x="{:.1}" y="{}" text-anchor="middle">{value:.digits$} s</text>"#,
                    self.x(value),
                    top + PANEL + 18.0
                ),
            );
        }
    }

    /// The limit at which it is stopped, or the most that its jobs can own.
    fn limit(&self, svg: &mut String, contender: Contender, samples: &[Sample]) {
        let Some(sample) = samples.first() else {
            return;
        };
        let (name, ink) = match contender {
            Contender::Pool => ("limit of the pool's jobs", colour(contender)),
            _ => ("memory limit", INK),
        };
        let y = self.y(sample.limit_mb);
        line(
            svg,
            format_args!(
                r#"<path d="M{LEFT} {y:.1}H{}" stroke="{ink}" stroke-dasharray="5 4"/><text x="{}" y="{:.1}" text-anchor="end" fill="{ink}">{name}</text>"#,
                WIDTH - RIGHT,
                WIDTH - RIGHT - 6.0,
                y - 4.0
            ),
        );
    }

    fn curve(&self, svg: &mut String, contender: Contender, samples: &[Sample]) {
        let mut path = String::new();
        let mut last = (f64::NEG_INFINITY, f64::NEG_INFINITY);
        let shown = samples
            .iter()
            .take_while(|sample| sample.time_s <= self.end);
        for sample in shown {
            let point = (self.x(sample.time_s), self.y(sample.resident_mb));
            // A point within a pixel of the last one would be invisible.
            if (point.0 - last.0).abs() < 1.0 && (point.1 - last.1).abs() < 1.0 {
                continue;
            }
            last = point;
            let letter = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{:.1} {:.1}", point.0, point.1);
        }
        let colour = colour(contender);
        line(
            svg,
            format_args!(
                r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-linejoin="round"/>"#
            ),
        );
    }
}
