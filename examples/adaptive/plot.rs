//! Three plots of the same runs over time, as one SVG.

use std::{
    fmt::{self, Write},
    path::Path,
};

use crate::csv::Sample;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 80.0;
const PANEL: f64 = 150.0;
const GAP: f64 = 40.0;
const BOTTOM: f64 = 40.0;

const ADAPTIVE: &str = "#0b62c4";
const FIXED: [&str; 2] = ["#d9730d", "#7a8594"];

/// The contents of a file, in the order of the legend. Fixed pools are identified by their workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Adaptive,
    Fixed(usize),
}

pub fn kind_of(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?.strip_suffix(".csv")?;
    match name.strip_prefix("fixed-") {
        Some(workers) => workers.parse().ok().map(Kind::Fixed),
        None => (name == "adaptive").then_some(Kind::Adaptive),
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adaptive => f.write_str("adaptive"),
            Self::Fixed(workers) => write!(f, "fixed, {workers}"),
        }
    }
}

type Runs = [(Kind, Vec<Sample>)];

/// Returns `None` if there is nothing to draw.
pub fn draw(runs: &Runs) -> Option<String> {
    let samples = || runs.iter().flat_map(|(_, samples)| samples);
    let end = samples().map(|sample| sample.time_s).fold(0.0, f64::max);
    let capacity = samples().map(|sample| sample.capacity).max()? as f64;
    let most = samples().map(|sample| sample.workers_in_service).max()? as f64;
    if end <= 0.0 {
        return None;
    }
    let height = TOP + 3.0 * PANEL + 2.0 * GAP + BOTTOM;
    let mut svg = Svg {
        text: String::new(),
        end,
    };
    svg.line(format_args!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" fill="{INK}">"#,
    ));
    // A background of its own, since the page behind it may be dark.
    svg.line(format_args!(
        r##"<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>"##
    ));
    svg.legend(runs);
    svg.phases(&runs[0].1);

    let depth = Axis::new(0, 0.0, capacity * 1.1);
    svg.panel(&depth, "queued jobs", &ticks(capacity));
    svg.limit(&depth, capacity);
    let in_service = Axis::new(1, 0.0, most + 0.5);
    svg.panel(&in_service, "workers in service", &ticks(most));
    // Logarithmic: a submit takes some microseconds with room in the queue, and a thousand times as
    // long when it is full.
    let wait = Axis::new(2, -1.0, 6.0);
    svg.panel(
        &wait,
        "time of a submit",
        &[(0.0, "1 us"), (2.0, "100 us"), (4.0, "10 ms"), (6.0, "1 s")].map(named),
    );
    svg.seconds(&wait);
    // The adaptive one last, on top.
    for (i, (kind, samples)) in runs.iter().enumerate().rev() {
        let pen = Pen::of(*kind, i);
        svg.curve(&depth, &pen, samples, |sample| Some(sample.depth as f64));
        svg.steps(&in_service, &pen, samples);
        svg.curve(&wait, &pen, samples, |sample| {
            Some(sample.admission_wait_us?.max(0.1).log10())
        });
    }
    svg.line(format_args!("</svg>"));
    Some(svg.text)
}

const INK: &str = "#30363d";

struct Pen {
    colour: &'static str,
    width: f64,
}

impl Pen {
    fn of(kind: Kind, place: usize) -> Self {
        match kind {
            Kind::Adaptive => Self {
                colour: ADAPTIVE,
                width: 1.8,
            },
            Kind::Fixed(_) => Self {
                colour: FIXED[(place + 1) % FIXED.len()],
                width: 1.1,
            },
        }
    }
}

fn named((value, name): (f64, &str)) -> (f64, String) {
    (value, name.into())
}

/// Zero, half and full scale.
fn ticks(most: f64) -> Vec<(f64, String)> {
    [0.0, (most / 2.0).round(), most]
        .map(|value| (value, value.to_string()))
        .into()
}

/// Maps values to heights, in the panel of this number.
struct Axis {
    top: f64,
    low: f64,
    high: f64,
}

impl Axis {
    fn new(panel: usize, low: f64, high: f64) -> Self {
        Self {
            top: TOP + panel as f64 * (PANEL + GAP),
            low,
            high,
        }
    }

    fn bottom(&self) -> f64 {
        self.top + PANEL
    }

    fn y(&self, value: f64) -> f64 {
        let part = (value - self.low) / (self.high - self.low);
        self.bottom() - part.clamp(0.0, 1.0) * PANEL
    }
}

struct Svg {
    text: String,
    /// The last drawn moment, in seconds.
    end: f64,
}

impl Svg {
    fn line(&mut self, text: fmt::Arguments<'_>) {
        // Writing to memory cannot fail.
        let _ = writeln!(self.text, "{text}");
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds / self.end * (WIDTH - LEFT - RIGHT)
    }

    fn legend(&mut self, runs: &Runs) {
        for (i, (kind, _)) in runs.iter().enumerate() {
            let x = LEFT + 130.0 * i as f64;
            let Pen { colour, .. } = Pen::of(*kind, i);
            self.line(format_args!(
                r#"<path d="M{x} 18h22" stroke="{colour}" stroke-width="3"/><text x="{}" y="22">{kind}</text>"#,
                x + 28.0
            ));
        }
    }

    /// A band for each phase, behind all panels.
    fn phases(&mut self, samples: &[Sample]) {
        for (i, phase) in samples.chunk_by(|a, b| a.phase == b.phase).enumerate() {
            let [first, .., last] = phase else {
                continue;
            };
            let (from, to) = (self.x(first.time_s), self.x(last.time_s));
            let fill = if i % 2 == 0 { "#f3f5f8" } else { "#e4e9f0" };
            self.line(format_args!(
                r#"<rect x="{from:.1}" y="{}" width="{:.1}" height="{}" fill="{fill}"/><text x="{:.1}" y="50" text-anchor="middle">{}</text>"#,
                TOP - 44.0,
                to - from,
                44.0 + 3.0 * PANEL + 2.0 * GAP,
                (from + to) / 2.0,
                first.phase,
            ));
        }
    }

    fn panel(&mut self, axis: &Axis, title: &str, ticks: &[(f64, String)]) {
        self.line(format_args!(
            r##"<rect x="{LEFT}" y="{}" width="{}" height="{PANEL}" fill="none" stroke="#a9b2bd"/>"##,
            axis.top,
            WIDTH - LEFT - RIGHT
        ));
        self.line(format_args!(
            r#"<text x="{}" y="{}" font-weight="bold">{title}</text>"#,
            LEFT,
            axis.top - 7.0
        ));
        for (value, name) in ticks {
            let y = axis.y(*value);
            self.line(format_args!(
                r##"<path d="M{LEFT} {y:.1}h-5" stroke="#a9b2bd"/><text x="{}" y="{:.1}" text-anchor="end">{name}</text>"##,
                LEFT - 8.0,
                y + 4.0
            ));
        }
    }

    fn limit(&mut self, axis: &Axis, capacity: f64) {
        let y = axis.y(capacity);
        self.line(format_args!(
            r#"<path d="M{LEFT} {y:.1}H{}" stroke="{INK}" stroke-dasharray="5 4"/><text x="{}" y="{:.1}" text-anchor="end">capacity</text>"#,
            WIDTH - RIGHT,
            WIDTH - RIGHT - 6.0,
            y - 3.0
        ));
    }

    fn seconds(&mut self, axis: &Axis) {
        let y = axis.bottom();
        // About ten, whatever the length.
        let step = (self.end / 10.0).max(0.1);
        let step = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 600.0]
            .into_iter()
            .find(|&round| round >= step)
            .unwrap_or(3600.0);
        for i in 0..=(self.end / step) as u32 {
            let seconds = f64::from(i) * step;
            let digits = usize::from(step < 1.0);
            self.line(format_args!(
                r#"<text x="{:.1}" y="{}" text-anchor="middle">{seconds:.digits$} s</text>"#,
                self.x(seconds),
                y + 18.0
            ));
        }
    }

    fn curve(
        &mut self,
        axis: &Axis,
        pen: &Pen,
        samples: &[Sample],
        value: impl Fn(&Sample) -> Option<f64>,
    ) {
        let points = samples
            .iter()
            .filter_map(|sample| Some((sample.time_s, value(sample)?)));
        self.path(axis, pen, points.collect());
    }

    /// A step line: the number of workers changes at once.
    fn steps(&mut self, axis: &Axis, pen: &Pen, samples: &[Sample]) {
        let mut points: Vec<(f64, f64)> = Vec::new();
        for sample in samples {
            let (time, value) = (sample.time_s, sample.workers_in_service as f64);
            if let Some(&(_, before)) = points.last() {
                if before != value {
                    points.push((time, before));
                }
            }
            points.push((time, value));
        }
        // A level stretch needs only its two ends.
        let is_corner = |i: usize| {
            i == 0 || i + 1 == points.len() || {
                let (before, here, after) = (points[i - 1].1, points[i].1, points[i + 1].1);
                before != here || here != after
            }
        };
        let corners = (0..points.len()).filter(|&i| is_corner(i));
        let corners = corners.map(|i| points[i]).collect();
        self.path(axis, pen, corners);
    }

    fn path(&mut self, axis: &Axis, pen: &Pen, points: Vec<(f64, f64)>) {
        let mut path = String::new();
        for (i, (time, value)) in points.into_iter().enumerate() {
            let step = if i == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{step}{:.1} {:.1}", self.x(time), axis.y(value));
        }
        let Pen { colour, width } = pen;
        self.line(format_args!(
            r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"/>"#
        ));
    }
}
