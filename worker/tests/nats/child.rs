//! A worker process, and the jobs of these tests.
//!
//! A job is a line of text: its kind, a number of milliseconds, and its name. Each start appends a
//! line to the file `runs`, each end writes the file `out/<name>`, to a temporary name first, then
//! renamed, and appends a line to the file `ends`.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use adaptive_pool::Pool;
use adaptive_pool_worker::{Builder, Failure, Job, Worker, async_nats, connect};

use crate::{
    server::Server,
    support::{dies_with_us, signal},
};

const VARIABLE: &str = "NATS_TEST_CHILD";

/// The settings of a worker process.
#[derive(Clone)]
pub struct Settings {
    pub url: String,
    pub folder: PathBuf,
    pub workers: usize,
    pub capacity: usize,
    pub lease_ms: u64,
    pub max_crashes: u64,
}

impl Settings {
    pub fn new(server: &Server, lease: Duration) -> Self {
        Self {
            url: server.url(),
            folder: server.folder().to_owned(),
            workers: 2,
            capacity: 2,
            lease_ms: u64::try_from(lease.as_millis()).unwrap(),
            max_crashes: 25,
        }
    }

    fn write(&self) -> String {
        format!(
            "{}\n{}\n{}\n{}\n{}\n{}",
            self.url,
            self.folder.display(),
            self.workers,
            self.capacity,
            self.lease_ms,
            self.max_crashes
        )
    }

    fn read(text: &str) -> Self {
        let mut lines = text.lines();
        let mut next = || lines.next().unwrap();
        Self {
            url: next().to_owned(),
            folder: next().into(),
            workers: next().parse().unwrap(),
            capacity: next().parse().unwrap(),
            lease_ms: next().parse().unwrap(),
            max_crashes: next().parse().unwrap(),
        }
    }

    pub fn pool(&self) -> Arc<Pool> {
        let pool = Pool::builder()
            .workers(self.workers)
            .capacity(self.capacity)
            .name("test")
            .build();
        Arc::new(pool.unwrap())
    }

    pub fn worker(&self, pool: Arc<Pool>, client: async_nats::Client) -> Builder {
        let outputs = Outputs::new(&self.folder);
        Worker::builder(pool, client)
            .lease(Duration::from_millis(self.lease_ms))
            .max_crashes(self.max_crashes)
            .backoff(Duration::from_millis(50), Duration::from_millis(200))
            .handler(move |job| outputs.run(job))
    }

    /// Starts a process.
    pub fn start(&self) -> Process {
        Process(self.command().spawn().unwrap())
    }

    /// Starts a process in a network namespace of its own, which has no link yet.
    pub fn start_on_another_machine(&self) -> Process {
        let mut command = self.command();
        // SAFETY: between fork and exec only a system call is made, which is allowed there.
        unsafe {
            command.pre_exec(|| match libc::unshare(libc::CLONE_NEWNET) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        Process(command.spawn().unwrap())
    }

    fn command(&self) -> Command {
        fs::create_dir_all(self.folder.join("out")).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["child::process", "--exact", "--nocapture"])
            .env(VARIABLE, self.write())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if std::env::var_os("NATS_TEST_LOUD").is_none() {
            command.stderr(Stdio::null());
        }
        dies_with_us(&mut command);
        command
    }
}

/// A worker process; killed when dropped.
pub struct Process(Child);

impl Process {
    pub fn signal(&self, number: i32) {
        signal(&self.0, number);
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Its exit code, if it has ended; `None` inside if a signal ended it.
    pub fn ended(&mut self) -> Option<Option<i32>> {
        self.0.try_wait().unwrap().map(|status| status.code())
    }

    /// The peak of its resident memory, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.unwrap().trim().strip_suffix("kB").unwrap().trim();
        kib.parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The files that jobs write.
pub struct Outputs {
    folder: PathBuf,
    runs: File,
    ends: File,
}

impl Outputs {
    pub fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder.join("out")).unwrap();
        let log = |name| {
            let mut options = OpenOptions::new();
            let log = options.create(true).append(true).open(folder.join(name));
            log.unwrap()
        };
        Self {
            folder: folder.to_owned(),
            runs: log("runs"),
            ends: log("ends"),
        }
    }

    pub fn run(&self, job: &Job<'_>) -> Result<(), Failure> {
        let text = std::str::from_utf8(job.payload()).map_err(Failure::poison)?;
        let mut words = text.split(' ');
        let (Some(kind), Some(millis), Some(name)) = (words.next(), words.next(), words.next())
        else {
            return Err(Failure::poison(format!("not a job: {text:?}")));
        };
        let millis = millis.parse().map_err(Failure::poison)?;
        let line = format!("{name} {}\n", std::process::id());
        (&self.runs).write_all(line.as_bytes())?;
        match kind {
            "sleep" => thread::sleep(Duration::from_millis(millis)),
            "spin" => {
                let began = Instant::now();
                while began.elapsed() < Duration::from_millis(millis) {
                    std::hint::spin_loop();
                }
            }
            "fail" => return Err(Failure::again("on purpose")),
            "panic" => panic!("on purpose"),
            "abort" => std::process::abort(),
            "allocate" => {
                let made = vec![millis as u8 + 1; 500_000];
                assert!(std::hint::black_box(&made).iter().all(|&byte| byte > 0));
            }
            "unfit" => return Err(Failure::unfit("no room")),
            _ => return Err(Failure::poison(format!("unknown kind {kind:?}"))),
        }
        let temporary = self.folder.join(format!(
            "out/.{name}.{}.{:?}",
            std::process::id(),
            thread::current().id()
        ));
        fs::write(&temporary, output(name))?;
        fs::rename(&temporary, self.folder.join("out").join(name))?;
        (&self.ends).write_all(line.as_bytes())?;
        Ok(())
    }
}

/// The output of the job `name`, in whichever process.
pub fn output(name: &str) -> Vec<u8> {
    blake3::hash(name.as_bytes()).to_hex().as_bytes().repeat(16)
}

/// The number of starts of each job.
pub fn runs(folder: &Path) -> HashMap<String, u64> {
    count(&folder.join("runs"))
}

fn count(log: &Path) -> HashMap<String, u64> {
    let mut times = HashMap::new();
    for line in fs::read_to_string(log).unwrap_or_default().lines() {
        let name = line.split(' ').next().unwrap();
        *times.entry(name.to_owned()).or_default() += 1;
    }
    times
}

/// The number of starts beyond the first of each job.
pub fn duplicates(folder: &Path) -> u64 {
    runs(folder).values().map(|times| times - 1).sum()
}

/// The number of ends beyond the first of each job.
pub fn ended_twice(folder: &Path) -> u64 {
    let ends = count(&folder.join("ends"));
    ends.values().map(|times| times - 1).sum()
}

/// Checks that the outputs are those of `names`, byte for byte, and no others.
pub fn check_outputs(folder: &Path, names: impl IntoIterator<Item = String>) {
    let mut wanted = 0;
    for name in names {
        wanted += 1;
        let written = fs::read(folder.join("out").join(&name));
        let written = written.unwrap_or_else(|error| panic!("{name} was lost: {error}"));
        assert!(written == output(&name), "{name} has another output");
    }
    let found = fs::read_dir(folder.join("out")).unwrap();
    let found = found.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        !name.to_string_lossy().starts_with('.')
    });
    assert_eq!(found.count(), wanted, "outputs of no job");
}

/// Not a test: the worker process, if this program is started as one.
#[test]
fn process() {
    let Ok(settings) = std::env::var(VARIABLE) else {
        return;
    };
    let settings = Settings::read(&settings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let code = runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        // The server may be away when a process starts.
        let worker = loop {
            let built = async {
                let client = connect(&settings.url, async_nats::ConnectOptions::new()).await?;
                settings.worker(settings.pool(), client).build().await
            };
            match built.await {
                Ok(worker) => break worker,
                Err(error) => eprintln!("{error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let stop = async {
            terminate.recv().await;
        };
        match worker.run(stop).await {
            Ok(_) => 0,
            Err(error) => {
                eprintln!("{error}");
                1
            }
        }
    });
    std::process::exit(code);
}
