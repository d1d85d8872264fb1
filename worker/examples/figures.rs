//! The figures of docs/machines.md, with a server and worker processes of its own, on loopback.
//!
//! ```sh
//! cargo run --release -p adaptive-pool-worker --example figures -- share
//! cargo run --release -p adaptive-pool-worker --example figures -- rate
//! cargo run --release -p adaptive-pool-worker --example figures -- recovery
//! ```
//!
//! - `share`: a job uses a given CPU time of its thread. The useful share of the cores is the CPU
//!   time of all jobs over the elapsed time of all cores. The rest is the server's, the client's,
//!   the pool's, other programs', or idle. The share of CPU is the CPU time of all jobs over that
//!   of the worker and the server: neither other programs nor idle cores affect it. The last two
//!   columns are what a job costs the worker and the server beside its own time.
//! - `rate`: empty jobs a second of one, two and three processes, and of the bare client, which
//!   fetches as many at once and acks each in the same way, without a pool.
//! - `recovery`: the time from a kill -9 until each message that the process held starts elsewhere.
//!   It contains the lease, which is one second here.
//!
//! NATS_SERVER names the server's binary.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use adaptive_pool::Pool;
use adaptive_pool_worker::{
    Queue, QueueStatus, Worker,
    async_nats::{
        self, Client, ConnectOptions, Request,
        jetstream::{self, consumer::PullConsumer},
    },
    connect,
};
use futures_util::{StreamExt, stream, stream::FuturesUnordered};

#[path = "../tests/nats/server.rs"]
#[allow(dead_code)]
mod server;
#[path = "../tests/nats/support.rs"]
#[allow(dead_code)]
mod support;

use server::Server;
use support::{dies_with_us, is_empty, publish, until_queue_for};

const LONGEST: Duration = Duration::from_secs(300);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // The runtime of `batch_worker`.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        match words[..] {
            ["share"] => share().await,
            ["rate"] => rate().await,
            ["recovery"] => recovery().await,
            ["child", url, workers, capacity, lease_ms, log] => {
                let number = |text: &str| text.parse::<usize>().unwrap();
                child(
                    url,
                    number(workers),
                    number(capacity),
                    lease_ms.parse().unwrap(),
                    log,
                )
                .await;
            }
            _ => eprintln!("figures share|rate|recovery: see the head of examples/figures.rs"),
        }
    });
}

/// A worker process. A job is a number of microseconds of CPU time, a blank, and a name.
async fn child(url: &str, workers: usize, capacity: usize, lease_ms: u64, log: &str) {
    let pool = Pool::builder().workers(workers).capacity(capacity).build();
    let client = connect(url, ConnectOptions::new()).await.unwrap();
    let log = (log != "-").then(|| {
        let log = OpenOptions::new().create(true).append(true).open(log);
        log.unwrap()
    });
    let worker = Worker::builder(Arc::new(pool.unwrap()), client)
        .lease(Duration::from_millis(lease_ms))
        .handler(move |job| {
            let text = std::str::from_utf8(job.payload())?;
            if let Some(mut log) = log.as_ref() {
                let pid = std::process::id();
                let line = format!("{} {pid} {}\n", micros_since_epoch(), job.sequence());
                log.write_all(line.as_bytes())?;
            }
            let micros: u64 = text.split(' ').next().unwrap_or_default().parse()?;
            use_cpu(Duration::from_micros(micros));
            Ok(())
        })
        .build()
        .await
        .unwrap();
    worker.run(std::future::pending()).await.unwrap();
}

fn micros_since_epoch() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_micros()
}

/// Uses `long` of this thread's own CPU time.
fn use_cpu(long: Duration) {
    if long.is_zero() {
        return;
    }
    let until = thread_time() + long;
    while thread_time() < until {
        for _ in 0..1000 {
            std::hint::spin_loop();
        }
    }
}

fn thread_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a timespec of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

struct Process(Child);

impl Process {
    fn start(url: &str, workers: usize, capacity: usize, lease_ms: u64, log: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["child", url])
            .args([workers, capacity].map(|number| number.to_string()))
            .args([&lease_ms.to_string(), log])
            .stdin(Stdio::null());
        dies_with_us(&mut command);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_server() -> Server {
    Server::jetstream().expect("needs nats-server: install Debian's, or set NATS_SERVER")
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

/// Polls the queue, and returns the time from `from` done to `to` done.
async fn time_between(queue: &Queue, from: u64, to: u64) -> Duration {
    let mut began = None;
    let mut took = None;
    until_queue_for(LONGEST, queue, "all are done", |seen: &QueueStatus| {
        let now = Instant::now();
        if began.is_none() && seen.done >= from {
            began = Some((now, seen.done));
        }
        if took.is_none()
            && seen.done >= to
            && let Some((began, done)) = began
        {
            // Scaled to all of them.
            let part = (to - from) as f64 / (seen.done - done).max(1) as f64;
            took = Some((now - began).mul_f64(part));
        }
        is_empty(seen)
    })
    .await;
    took.expect("it ended between two polls")
}

async fn share() {
    let cores = cores();
    println!("useful share of {cores} cores, one process with {cores} workers");
    println!(
        "{:>9} {:>7} {:>7} {:>9} {:>9} {:>11} {:>11}",
        "job", "places", "jobs", "of cores", "of CPU", "worker us", "server us"
    );
    let cases = [
        (100_000, 2),
        (20_000, 2),
        (10_000, 2),
        (5_000, 2),
        (5_000, 16),
        (1_000, 2),
        (1_000, 64),
    ];
    for (micros, capacity) in cases {
        let server = start_server();
        let queue = server.queue().await;
        // Five seconds of work.
        let jobs = 5_000_000 * cores as u64 / micros;
        publish(&queue, (0..jobs).map(|number| format!("{micros} {number}"))).await;
        let (_, before) = children_time();
        let _process = Process::start(&server.url(), cores, capacity, 30_000, "-");
        let (from, to) = (jobs / 10, jobs - jobs / 10);
        let took = time_between(&queue, from, to).await;
        let (worker, server) = children_time();
        let each = |time: Duration| time.as_secs_f64() * 1e6 / jobs as f64;
        let (worker, server) = (each(worker) - micros as f64, each(server - before));
        let used = (to - from) as f64 * micros as f64 / 1e6;
        let of_cores = used / (took.as_secs_f64() * cores as f64);
        let of_cpu = micros as f64 / (micros as f64 + worker + server);
        println!(
            "{micros:>6} us {capacity:>7} {jobs:>7} {of_cores:>9.3} {of_cpu:>9.3} {worker:>11.0} {server:>11.0}"
        );
    }
}

/// The CPU time of the running processes that this one has started: of the workers, and of the
/// server.
fn children_time() -> (Duration, Duration) {
    // SAFETY: a call without pointers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    let own = std::process::id().to_string();
    let (mut workers, mut server) = (0.0, 0.0);
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // After the name: state, parent; the 12th and 13th fields are the two times.
        let Some((name, fields)) = stat.rsplit_once(')') else {
            continue;
        };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        if fields.get(1) == Some(&own.as_str()) {
            let time = |index: usize| fields[index].parse::<f64>().unwrap();
            let seconds = (time(11) + time(12)) / ticks;
            *if name.ends_with("nats-server") {
                &mut server
            } else {
                &mut workers
            } += seconds;
        }
    }
    let [workers, server] = [workers, server].map(Duration::from_secs_f64);
    (workers, server)
}

/// Fetches and acks like the worker, `places` at a time, and runs nothing.
async fn bare(client: Client, places: usize) {
    let jetstream = jetstream::new(client.clone());
    let stream = jetstream.get_stream("jobs").await.unwrap();
    let consumer: PullConsumer = stream
        .get_or_create_consumer(
            "workers",
            jetstream::consumer::pull::Config {
                durable_name: Some(String::from("workers")),
                max_ack_pending: -1,
                ..Default::default()
            },
        )
        .await
        .unwrap();
    let mut acks = FuturesUnordered::new();
    loop {
        let mut batch = consumer
            .fetch()
            .max_messages(places)
            .messages()
            .await
            .unwrap();
        let mut any = false;
        while let Some(message) = batch.next().await {
            any = true;
            let reply = message.unwrap().reply.clone().unwrap();
            let client = client.clone();
            acks.push(async move {
                let word = Request::new().payload("+ACK".into());
                client.send_request(reply, word).await.unwrap();
            });
        }
        while acks.len() > if any { places } else { 0 } {
            acks.next().await;
        }
        if !any {
            return;
        }
    }
}

async fn rate() {
    const JOBS: u64 = 60_000;
    println!("empty jobs a second; the bare client is one process, without a pool");
    println!(
        "{:>8} {:>10} {:>10} {:>10} {:>10}",
        "places", "bare", "1 process", "2", "3"
    );
    for places in [2, 16, 64] {
        let mut row = Vec::new();
        for processes in 0..4usize {
            let server = start_server();
            let queue = server.queue().await;
            publish(&queue, (0..JOBS).map(|number| format!("0 {number}"))).await;
            let url = server.url();
            let _processes: Vec<_> = (0..processes)
                .map(|_| Process::start(&url, 2, places, 30_000, "-"))
                .collect();
            if processes == 0 {
                let client = async_nats::connect(&url).await.unwrap();
                // It ends with the last message.
                drop(tokio::spawn(bare(client, places)));
            }
            let took = time_between(&queue, JOBS / 10, JOBS - JOBS / 10).await;
            row.push(JOBS as f64 * 0.8 / took.as_secs_f64());
        }
        print!("{places:>8}");
        for rate in row {
            print!(" {rate:>10.0}");
        }
        println!();
    }
}

async fn recovery() {
    const KILLS: usize = 40;
    let server = start_server();
    let queue = server.queue().await;
    let log = server.folder().join("log");
    let log_name = log.to_str().unwrap().to_owned();
    let url = server.url();
    let start = || Process::start(&url, 2, 2, 1_000, &log_name);
    let mut processes: Vec<_> = (0..3).map(|_| start()).collect();
    let feeder = {
        let queue = queue.clone();
        tokio::spawn(async move {
            // More than the processes can do.
            let jobs = (0..1_000_000u64).map(|number| format!("20000 {number}"));
            let queue = &queue;
            let all = stream::iter(jobs)
                .map(|job| async move { queue.publish(&job, &job).await.unwrap() });
            let mut all = all.buffer_unordered(64);
            let mut count = 0u64;
            while all.next().await.is_some() {
                count += 1;
                if count > 20_000 {
                    return;
                }
            }
        })
    };
    let mut kills = Vec::new();
    for turn in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let victim = processes.remove(turn % 3);
        kills.push((victim.0.id(), micros_since_epoch()));
        drop(victim);
        processes.push(start());
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    feeder.abort();
    drop(processes);
    // Each message that a killed process had started, and its next start.
    let lines = fs::read_to_string(&log).unwrap();
    let starts: Vec<(u128, u32, u64)> = lines
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((
                words.next()?.parse().ok()?,
                words.next()?.parse().ok()?,
                words.next()?.parse().ok()?,
            ))
        })
        .collect();
    let mut waits = Vec::new();
    for (pid, killed) in kills {
        for &(at, by, job) in &starts {
            if by != pid || at > killed {
                continue;
            }
            let next = starts.iter().find(|next| next.2 == job && next.0 > killed);
            if let Some(next) = next {
                waits.push(Duration::from_micros((next.0 - killed) as u64));
            }
        }
    }
    waits.sort();
    let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize];
    println!(
        "recovery after kill -9, lease 1 s: {} messages of {KILLS} kills, p50 {:?}, p99 {:?}, max {:?}",
        waits.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
