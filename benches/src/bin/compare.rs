//! Measures every rival on every question, in alternation, and prints a table for each.

use std::{env, fs, process::ExitCode, thread};

use adaptive_pool_benches::{
    efficiency, fib_join, fib_scope, flood, idle, max_threads, million,
    neighbours::{self, Kind, Neighbours},
    once, poisson,
    report::{self, Question},
    round_trip, scale_up, sections, small_jobs, sort, tiny, waits,
};

const USAGE: &str = "\
compare [QUESTION]... [--rounds N] [--jobs N] [--json FILE] [--beside X] [--gate]
compare --once QUESTION RIVAL SIZE WORKERS

  one-producer    tiny jobs from one producer
  four-producers  tiny jobs from four producers
  efficiency      jobs of 20 us from a blocking producer (1/50 of the jobs)
  idle            one job every 2 ms (1/2000)
  poisson-50      jobs of 50 us with Poisson arrivals at 50 % load: queue wait (1/50)
  poisson-80      the same at 80 % load
  round-trip      submit a job and wait for its result (1/50)
  sections        a scope of four tasks from outside, and an installed closure (1/50)
  fib-join        joins with next to no work, beside the serial program
                  (the largest Fibonacci number up to the number of jobs: fib(30))
  fib-scope       the same by two spawns in a scope
  sort            quicksort by joins and scopes, beside the serial program (as many numbers
                  as jobs)
  million         empty tasks from one scope, and the peak memory
  small-jobs      jobs of 200 ns in all forms of submission (twice the jobs)
  flood           jobs of 20 us into an idle adaptive pool, and into fixed ones (1/50)
  scale-up        one more worker
  max-threads     the cost of each operation in pools with a larger maximum of threads
  waits           every wait, alone and beside busy cores (1/20000 and 1/400); only by name

  --rounds N   measure each rival once per round (11)
  --jobs N     tiny jobs per measurement (1000000)
  --json FILE  write every sample to FILE
  --beside X   measure beside one busy thread per core: X is `processes`, or `threads` of this
               process. For `waits` it selects the kind of neighbours (processes)
  --gate       fail if a wait in `waits` takes more than three times as long beside them (rule R9)
  --once       run one rival of fib-join, fib-scope, million, paths, sections or sort once, for a
               profiler; print nanoseconds and the peak memory in KiB";

type Ask = fn(&'static str, u64) -> Question;

const QUESTIONS: [(&str, Ask); 16] = [
    ("one-producer", |name, jobs| tiny::question(name, 1, jobs)),
    ("four-producers", |name, jobs| tiny::question(name, 4, jobs)),
    ("efficiency", efficiency::question),
    ("idle", idle::question),
    ("poisson-50", |name, jobs| poisson::question(name, 50, jobs)),
    ("poisson-80", |name, jobs| poisson::question(name, 80, jobs)),
    ("round-trip", round_trip::question),
    ("sections", sections::question),
    ("fib-join", fib_join::question),
    ("fib-scope", fib_scope::question),
    ("sort", sort::question),
    ("million", million::question),
    ("small-jobs", small_jobs::question),
    ("flood", flood::question),
    ("scale-up", scale_up::question),
    ("max-threads", max_threads::question),
];

/// Measures with and without busy cores by itself.
const WAITS: &str = "waits";

struct Options {
    names: Vec<String>,
    rounds: usize,
    jobs: u64,
    json: Option<String>,
    beside: Option<Kind>,
    gate: bool,
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        names: Vec::new(),
        rounds: 11,
        jobs: 1_000_000,
        json: None,
        beside: None,
        gate: false,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        let number = |value: String| match value.parse::<u64>() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(format!("{value} is not a positive number")),
        };
        match arg.as_str() {
            "--help" => return Err(USAGE.to_owned()),
            "--rounds" => options.rounds = number(value()?)? as usize,
            "--jobs" => options.jobs = number(value()?)?,
            "--json" => options.json = Some(value()?),
            "--gate" => options.gate = true,
            "--beside" => {
                options.beside = Some(match value()?.as_str() {
                    "processes" => Kind::Processes,
                    "threads" => Kind::Threads,
                    other => return Err(format!("unknown kind of neighbours: {other}")),
                });
            }
            WAITS => options.names.push(arg),
            name if QUESTIONS.iter().any(|(known, _)| *known == name) => {
                options.names.push(arg);
            }
            _ => return Err(format!("unknown argument: {arg}\n\n{USAGE}")),
        }
    }
    Ok(options)
}

fn run() -> Result<(), String> {
    let args: Vec<String> = env::args().skip(1).collect();
    if let Some((once::FLAG, rest)) = args.split_first().map(|(flag, rest)| (&**flag, rest)) {
        println!("{}", once::once(rest)?);
        return Ok(());
    }
    if args.first().is_some_and(|arg| arg == neighbours::FLAG) {
        neighbours::spin();
    }
    let options = options(args.into_iter())?;
    if cfg!(debug_assertions) {
        eprintln!("debug build: these numbers are meaningless, use --release");
    }
    let cores = thread::available_parallelism().map_or(0, |cores| cores.get());
    println!("cores: {cores}, rounds: {}\n", options.rounds);
    let mut answers = Vec::new();
    let mut too_slow = Vec::new();
    if options.names.iter().any(|asked| asked == WAITS) {
        let kind = options.beside.unwrap_or(Kind::Processes);
        let answer = waits::question(WAITS, options.jobs, kind).ask(options.rounds);
        println!("{answer}");
        too_slow = waits::too_slow(&answer);
        answers.push(answer);
    }
    let beside = options.beside.map(Neighbours::start).transpose();
    let _neighbours = beside.map_err(|error| error.to_string())?;
    for (name, question) in QUESTIONS {
        if options.names.is_empty() || options.names.iter().any(|asked| asked == name) {
            let answer = question(name, options.jobs).ask(options.rounds);
            println!("{answer}");
            answers.push(answer);
        }
    }
    if let Some(file) = options.json {
        let answers = answers.iter().map(report::Answer::record).collect();
        let record = report::Record { cores, answers };
        let text = serde_json::to_string(&record).map_err(|error| error.to_string())?;
        fs::write(&file, text + "\n").map_err(|error| format!("{file}: {error}"))?;
    }
    if options.gate && !too_slow.is_empty() {
        return Err(too_slow.join("\n"));
    }
    Ok(())
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
