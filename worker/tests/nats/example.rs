//! The example `batch_worker`, as a user runs it.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use adaptive_pool_worker::Queue;

use crate::{
    server::Server,
    support::{dies_with_us, is_empty, signal, until, until_queue, watched},
};

/// `None`, and a line that says so, if it was not built: `cargo test --test nats` builds no examples.
fn program() -> Option<PathBuf> {
    let tests = std::env::current_exe().unwrap();
    let program = tests
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples/batch_worker");
    if program.is_file() {
        return Some(program);
    }
    eprintln!("SKIPPED: {} was not built", program.display());
    None
}

fn command(program: &Path, server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--server", &server.url()])
        .args(arguments)
        .stdin(Stdio::null());
    dies_with_us(&mut command);
    command
}

fn run(program: &Path, server: &Server, arguments: &[&str]) -> Output {
    command(program, server, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running `work`; killed when dropped.
struct Working(Child);

impl Working {
    /// Starts it, and returns its HTTP address too.
    fn start(program: &Path, server: &Server, out: &Path) -> (Self, String) {
        let mut command = command(program, server, &["work", "--lease", "2", "--out"]);
        let mut child = command.arg(out).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        let line = lines.find(|line| line.contains("http://")).unwrap();
        let address = line.split("http://").nth(1).unwrap();
        let address = address.split('/').next().unwrap().to_owned();
        (Self(child), address)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Some files, two of which are equal.
fn files(folder: &Path) -> u64 {
    fs::create_dir_all(folder.join("below")).unwrap();
    for number in 0..40u32 {
        let lines = number % 39;
        let content = format!("line of {lines}\n").repeat(10 * lines as usize);
        let name = folder.join(if number % 2 == 0 { "" } else { "below" });
        fs::write(name.join(format!("file-{number}")), content).unwrap();
    }
    40
}

fn outputs(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files
        .map(|file| {
            let name = file.file_name().into_string().unwrap();
            (name, fs::read(file.path()).unwrap())
        })
        .collect()
}

#[test]
fn a_folder_goes_through_two_workers_one_of_which_is_killed() {
    watched(Duration::from_secs(120), || async {
        let (Some(server), Some(program)) = (Server::jetstream(), program()) else {
            return;
        };
        let input = server.folder().join("in");
        let count = files(&input);
        let enqueue = ["enqueue", input.to_str().unwrap()];
        let done = run(&program, &server, &enqueue);
        assert!(done.status.success(), "{}", text(&done.stderr));
        assert!(text(&done.stdout).contains(&format!("{count} files put into `batch`")));
        // The same again is nothing new.
        let again = text(&run(&program, &server, &enqueue).stdout);
        assert!(
            again.contains(&format!("{count} were there already")),
            "{again}"
        );

        let client = server.client().await;
        let queue = Queue::open(&client, "batch").await.unwrap();
        let out = server.folder().join("shared");
        let (killed, _) = Working::start(&program, &server, &out);
        let (mut working, address) = Working::start(&program, &server, &out);
        drop(killed);
        until_queue(&queue, "all are done", |seen| {
            is_empty(seen) && seen.done == count
        })
        .await;
        let status = text(&run(&program, &server, &["status", "--once"]).stdout);
        let line = status.lines().nth(1).unwrap_or_default().to_owned();
        let columns: Vec<_> = line.split_whitespace().collect();
        assert_eq!(
            columns,
            ["batch", "0", "0", "40", "0", "1", "-"],
            "{status}"
        );
        assert!(get(&address, "/healthz").ends_with("ok\n"));
        let metrics = get(&address, "/metrics");
        assert!(metrics.contains("adaptive_pool_nats_engine_up{pool=\"batch\"} 1"));
        assert!(metrics.contains("adaptive_pool_queue_capacity{pool=\"batch\"}"));

        signal(&working.0, libc::SIGTERM);
        until("it ends", || working.0.try_wait().unwrap().is_some());
        assert_eq!(working.0.wait().unwrap().code(), Some(0));

        // The same through one process that nobody kills.
        let alone = server.folder().join("alone");
        let mut command = command(&program, &server, &["--stream", "alone"]);
        let done = command.args(enqueue).output().unwrap();
        assert!(done.status.success(), "{}", text(&done.stderr));
        let queue = Queue::open(&client, "alone").await.unwrap();
        let mut one = Command::new(&program);
        one.args([
            "--server",
            &server.url(),
            "--stream",
            "alone",
            "work",
            "--out",
        ]);
        dies_with_us(&mut one);
        let one = one.arg(&alone).stdout(Stdio::null()).spawn().unwrap();
        let _one = Working(one);
        until_queue(&queue, "all are done", |seen| {
            is_empty(seen) && seen.done == count
        })
        .await;
        let (shared, alone) = (outputs(&out), outputs(&alone));
        assert_eq!(shared.len(), 39, "two inputs are equal");
        assert!(shared == alone, "the outputs differ");
    });
}

#[test]
fn what_cannot_work_is_said_and_no_message_is_lost() {
    watched(Duration::from_secs(120), || async {
        let (Some(server), Some(program)) = (Server::jetstream(), program()) else {
            return;
        };
        let refused = |arguments: &[&str], what_to_do: &str| {
            let ended = run(&program, &server, arguments);
            let said = text(&ended.stderr);
            assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {said}");
            assert!(said.contains(what_to_do), "{arguments:?}: {said}");
        };
        let out = server.folder().join("out");
        let out = out.to_str().unwrap();
        refused(&["work", "--out", out], "batch_worker enqueue");
        refused(&["status"], "batch_worker enqueue");
        refused(&["enqueue", "/does/not/exist"], "/does/not/exist");
        // Nothing can be made there, by root neither.
        refused(&["work", "--out", "/proc/nothing"], "--out");
        let ended = Command::new(&program)
            .args(["--server", "nats://127.0.0.1:1", "status"])
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(2));
        assert!(text(&ended.stderr).contains("nats-server -js"));

        // A message that is no task, beside a file that is.
        let input = server.folder().join("in");
        fs::create_dir_all(&input).unwrap();
        fs::write(input.join("file"), "content").unwrap();
        let done = run(&program, &server, &["enqueue", input.to_str().unwrap()]);
        assert!(done.status.success(), "{}", text(&done.stderr));
        let queue = Queue::open(&server.client().await, "batch").await.unwrap();
        queue.publish("odd", "no task").await.unwrap();
        let (_working, _) = Working::start(&program, &server, Path::new(out));
        until_queue(&queue, "one is done, one dead", |seen| {
            is_empty(seen) && seen.done == 1 && seen.dead == 1
        })
        .await;
        let dead = text(&run(&program, &server, &["dead"]).stdout);
        assert!(dead.contains("the message is no task"), "{dead}");
        assert!(dead.contains("1 dead"), "{dead}");
        let revived = text(&run(&program, &server, &["dead", "--revive", "1"]).stdout);
        assert!(revived.contains("1 is back"), "{revived}");
        until_queue(&queue, "it is dead again", |seen| {
            is_empty(seen) && seen.dead == 1
        })
        .await;
    });
}

/// A disk of 256 kB, where the system lets us have one.
#[test]
fn a_disk_that_is_full_ends_the_worker_and_loses_nothing() {
    watched(Duration::from_secs(120), || async {
        let (Some(server), Some(program)) = (Server::jetstream(), program()) else {
            return;
        };
        let out = server.folder().join("small");
        fs::create_dir_all(&out).unwrap();
        let script = "mount -t tmpfs -o size=256k tmpfs \"$0\" && exec \"$@\"";
        let small = |program: &str| {
            let mut command = Command::new("unshare");
            command
                .args(["-rm", "sh", "-c", script])
                .arg(&out)
                .arg(program);
            dies_with_us(&mut command);
            command
        };
        if !small("true")
            .output()
            .is_ok_and(|ended| ended.status.success())
        {
            eprintln!("SKIPPED: no file system can be mounted here");
            return;
        }
        // A file that nobody can compress into that.
        let input = server.folder().join("large");
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 56) as u8
        })
        .take(1 << 20)
        .collect();
        fs::write(&input, noise).unwrap();
        let done = run(&program, &server, &["enqueue", input.to_str().unwrap()]);
        assert!(done.status.success(), "{}", text(&done.stderr));
        let mut worker = small(program.to_str().unwrap());
        worker
            .args(["--server", &server.url(), "work", "--out"])
            .arg(&out);
        let ended = worker.output().unwrap();
        let said = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(said.contains("make room there"), "{said}");

        let queue = Queue::open(&server.client().await, "batch").await.unwrap();
        let large = server.folder().join("out");
        let (_working, _) = Working::start(&program, &server, &large);
        until_queue(&queue, "it is done", |seen| {
            is_empty(seen) && seen.done == 1
        })
        .await;
        assert_eq!(outputs(&large).len(), 1);
    });
}
