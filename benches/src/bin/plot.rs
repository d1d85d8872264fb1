//! Renders the tables and charts of `docs/benchmarks.md` from the output of `compare`.

use std::{env, fs, path::Path, process::ExitCode};

use adaptive_pool_benches::{chart, report::Record};

const USAGE: &str = "\
plot FILE.json DOCS

  Writes a table for each question of FILE.json into DOCS/benchmarks.md, between the
  lines <!-- tables --> and <!-- end of tables -->, and a chart for each to
  DOCS/benchmarks/QUESTION.svg.";

const BEGIN: &str = "<!-- tables -->\n";
const END: &str = "<!-- end of tables -->\n";

fn run() -> Result<(), String> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [file, docs] = &args[..] else {
        return Err(USAGE.to_owned());
    };
    let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let record: Record = serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?;

    let pictures = Path::new(docs).join("benchmarks");
    let cannot = |path: &Path, error| format!("{}: {error}", path.display());
    fs::create_dir_all(&pictures).map_err(|error| cannot(&pictures, error))?;
    let mut tables = String::new();
    for answer in &record.answers {
        let picture = pictures.join(format!("{}.svg", answer.name));
        fs::write(&picture, chart::svg(answer)).map_err(|error| cannot(&picture, error))?;
        tables += &chart::markdown(answer);
    }
    let page = Path::new(docs).join("benchmarks.md");
    let text = fs::read_to_string(&page).map_err(|error| cannot(&page, error))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.ok_or(format!("{}: no {BEGIN}", page.display()))?;
    let text = format!("{before}{BEGIN}\n{tables}{END}{after}");
    fs::write(&page, text).map_err(|error| cannot(&page, error))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
