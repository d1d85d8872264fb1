//! Demonstrates scaling: the same load on an adaptive pool and on two fixed ones, with a live
//! status line, a CSV file of each run, and a plot. See `--help`.
//!
//! ```text
//!  producers (2 threads)              pool                     main thread
//!  wait for the schedule ──spawn──► BLAKE3, some 2 ms     every 20 ms: metrics ──► line, CSV
//!  ▲ a full queue delays them
//! ```
//!
//! The load is *open*: a schedule sets the due time of each job, regardless of the pool's speed.
//! But a submit that blocks delays those after it, which then follow as fast as they are admitted.
//! So the excess of one phase reaches into the next.

mod args;
mod csv;
mod lines;
mod live;
mod load;
mod plot;
mod run;
mod summary;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use adaptive_pool::{BuildError, Pool};
use clap::Parser;

use crate::{
    args::{Args, Command},
    load::{Load, Work},
    summary::Summary,
};

/// A pool under the load.
struct Contender {
    name: String,
    min: usize,
    max: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.command {
        Some(Command::Plot { dir, svg }) => plot(dir, svg),
        None => compare(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            live::note(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<(), String> {
    let (min, max) = (*args.workers.start(), *args.workers.end());
    let work = Work::calibrate();
    let load = Load::new(args.scale, min, max);
    live::note(&format!(
        "{} jobs of {:.1} ms in {:.1} s, {min} to {max} workers, {} places",
        load.jobs(),
        load::JOB.as_secs_f64() * 1e3,
        load.length().as_secs_f64(),
        args.capacity,
    ));
    fs::create_dir_all(&args.out).map_err(|error| failed(&args.out, &error))?;
    let fixed = |workers| Contender {
        name: format!("fixed-{workers}"),
        min: workers,
        max: workers,
    };
    let adaptive = Contender {
        name: String::from("adaptive"),
        min,
        max,
    };
    println!("{}", Summary::HEAD);
    for contender in [adaptive, fixed(min), fixed(max)] {
        let pool = build(&contender, args, &load).map_err(|error| error.to_string())?;
        let samples = run::run(&pool, &contender.name, contender.min, &load, &work);
        let report = pool.shutdown();
        assert_eq!(report.completed, load.jobs() as u64);
        let path = args.out.join(format!("{}.csv", contender.name));
        csv::write(&path, &samples).map_err(|error| failed(&path, &error))?;
        println!("{}", Summary::new(&contender.name, &samples));
    }
    Ok(())
}

fn build(contender: &Contender, args: &Args, load: &Load) -> Result<Pool, BuildError> {
    Pool::builder()
        .workers(contender.min..=contender.max)
        .capacity(args.capacity)
        .scale_cooldown(load.cooldown())
        .idle_timeout(load.idle_timeout())
        .name(&*contender.name)
        .build()
}

fn plot(dir: &Path, svg: &PathBuf) -> Result<(), String> {
    let mut runs = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| failed(dir, &error))? {
        let path = entry.map_err(|error| failed(dir, &error))?.path();
        let Some(kind) = plot::kind_of(&path) else {
            continue;
        };
        let samples = csv::read(&path).map_err(|error| failed(&path, &error))?;
        runs.push((kind, samples));
    }
    runs.sort_by_key(|(kind, _)| *kind);
    let text = plot::draw(&runs).ok_or_else(|| format!("{}: no runs in it", dir.display()))?;
    fs::write(svg, text).map_err(|error| failed(svg, &error))
}

fn failed(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
