//! An answer as a Markdown table, and as a chart with a bar for each entrant and a dot for each
//! round.

use std::fmt::Write;

use crate::report::{Recorded, RecordedEntrant, apart, median};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 210.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 30.0;
const ROW: f64 = 22.0;
const BAR: f64 = 14.0;
const GAP: f64 = 34.0;

const OURS: &str = "#0b62c4";
const THEIRS: &str = "#a9b4c2";
const INK: &str = "#30363d";

/// The median over the rounds. `None` if a round has no value.
fn middle(samples: &[Option<f64>]) -> Option<f64> {
    let values: Option<Vec<f64>> = samples.iter().copied().collect();
    values.map(median)
}

/// The median of the per-round ratios: within one round the machine was nearly the same for both.
fn ratio(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Option<f64> {
    let pairs = ours.iter().zip(theirs);
    let ratios: Option<Vec<f64>> = pairs
        .map(|(ours, theirs)| Some((*ours)? / (*theirs)?))
        .collect();
    ratios.map(median)
}

/// Three digits.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

fn cell(value: Option<f64>) -> String {
    value
        .filter(|value| value.is_finite())
        .map_or("–".to_owned(), short)
}

/// A section with the table and the chart.
pub fn markdown(answer: &Recorded) -> String {
    let Recorded {
        name,
        title,
        metrics,
        entrants,
        distances,
    } = answer;
    let mut text = format!("### {name}\n\n{title}\n\n|  |");
    // Writing to memory cannot fail.
    for metric in metrics {
        let _ = write!(text, " {metric} | ratio |");
    }
    text += "\n|---|";
    text += &"--:|--:|".repeat(metrics.len());
    text.push('\n');
    for entrant in entrants {
        let _ = write!(text, "| {} |", entrant.name);
        for (ours, theirs) in entrants[0].samples.iter().zip(&entrant.samples) {
            let _ = write!(
                text,
                " {} | {} |",
                cell(middle(theirs)),
                cell(ratio(ours, theirs))
            );
        }
        text.push('\n');
    }
    let apart = apart(distances);
    let _ = write!(text, "\n{apart}\n\n![{title}](benchmarks/{name}.svg)\n\n");
    text
}

/// A panel for each metric, one below the other.
pub fn svg(answer: &Recorded) -> String {
    let panel = answer.entrants.len() as f64 * ROW + GAP;
    let height = TOP + answer.metrics.len() as f64 * panel;
    // A background of its own, since the page behind it may be dark.
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"{INK}\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" rx=\"6\" fill=\"#ffffff\"/>\n"
    );
    for (index, metric) in answer.metrics.iter().enumerate() {
        let top = TOP + index as f64 * panel;
        draw_panel(&mut text, metric, &answer.entrants, index, top);
    }
    text + "</svg>\n"
}

fn draw_panel(
    text: &mut String,
    metric: &str,
    entrants: &[RecordedEntrant],
    index: usize,
    top: f64,
) {
    let values = |entrant: &RecordedEntrant| entrant.samples[index].clone();
    let medians = || {
        entrants
            .iter()
            .filter_map(|entrant| middle(&values(entrant)))
    };
    // A disturbed round does not determine the scale.
    let most = medians().fold(0.0, f64::max).max(f64::MIN_POSITIVE) * 1.15;
    let x = |value: f64| LEFT + (value / most).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT);
    let _ = writeln!(
        text,
        "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{metric}</text>",
        top - 8.0
    );
    for (place, entrant) in entrants.iter().enumerate() {
        let y = top + place as f64 * ROW;
        let middle_y = y + BAR / 2.0;
        let samples = values(entrant);
        let value = middle(&samples);
        let colour = if entrant.name.starts_with("adaptive-pool") {
            OURS
        } else {
            THEIRS
        };
        let end = x(value.unwrap_or(0.0));
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            LEFT - 8.0,
            y + BAR - 3.0,
            escaped(&entrant.name),
            end - LEFT,
            WIDTH - RIGHT + 10.0,
            y + BAR - 3.0,
            cell(value),
        );
        for sample in samples
            .into_iter()
            .flatten()
            .filter(|&sample| sample <= most)
        {
            let _ = writeln!(
                text,
                "<circle cx=\"{:.1}\" cy=\"{middle_y}\" r=\"2\" fill=\"{INK}\" fill-opacity=\"0.55\"/>",
                x(sample)
            );
        }
    }
}

fn escaped(name: &str) -> String {
    name.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Recorded {
        let entrant = |name: &str, values: [Option<f64>; 3]| RecordedEntrant {
            name: name.to_owned(),
            samples: vec![values.to_vec()],
        };
        Recorded {
            name: "speed".to_owned(),
            title: "how fast".to_owned(),
            metrics: vec!["ns".to_owned()],
            entrants: vec![
                entrant("adaptive-pool", [Some(10.0), Some(20.0), Some(1000.0)]),
                entrant("a & b", [Some(20.0), Some(80.0), Some(1000.0)]),
                entrant("none", [None, Some(1.0), Some(1.0)]),
            ],
            distances: vec![125.4, 560.0, 130.0],
        }
    }

    #[test]
    fn a_table_has_medians_and_medians_of_ratios() {
        let text = markdown(&answer());
        assert!(text.contains("| adaptive-pool | 20.0 | 1.00 |"), "{text}");
        assert!(text.contains("| a & b | 80.0 | 0.50 |"), "{text}");
        assert!(text.contains("| none | – | – |"), "{text}");
        assert!(text.contains(" per round: 125, 560, 130 ns."), "{text}");
    }

    #[test]
    fn a_picture_has_a_bar_for_each_and_a_dot_for_each_round_on_the_scale() {
        let picture = svg(&answer());
        assert_eq!(picture.matches(&format!("height=\"{BAR}\"")).count(), 3);
        assert_eq!(picture.matches("<circle").count(), 6);
        assert!(picture.contains("a &amp; b"));
    }
}
