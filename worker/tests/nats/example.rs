//! The example `batch_worker`, as a user runs it.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    time::Duration,
};

use adaptive_pool_worker::Queue;

use crate::{
    program::{Working, enqueue, outputs, program, run, text},
    server::Server,
    support::{is_empty, until_queue, watched},
};

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Writes some files, two of which are equal.
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

#[test]
fn a_folder_goes_through_two_workers_one_of_which_is_killed() {
    watched(Duration::from_secs(120), || async {
        let (Some(server), Some(program)) = (Server::jetstream(), program()) else {
            return;
        };
        let input = server.folder().join("in");
        let count = files(&input);
        let printed = enqueue(&program, &server, &input);
        assert!(printed.contains(&format!("{count} files put into `batch`")));
        // A repetition adds nothing.
        let again = enqueue(&program, &server, &input);
        assert!(again.contains(&format!("{count} already there")), "{again}");

        let client = server.client().await;
        let queue = Queue::open(&client, "batch").await.unwrap();
        let out = server.folder().join("shared");
        let killed = Working::start(&program, &server, &out);
        let working = Working::start(&program, &server, &out);
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
        assert!(get(&working.address, "/healthz").ends_with("ok\n"));
        let metrics = get(&working.address, "/metrics");
        assert!(metrics.contains("adaptive_pool_nats_engine_up{pool=\"batch\"} 1"));
        assert!(metrics.contains("adaptive_pool_queue_capacity{pool=\"batch\"}"));

        working.terminate();
        let (code, said) = working.ended();
        assert_eq!(code, Some(0), "{said}");

        // The same through one process, without a kill.
        let alone = server.folder().join("alone");
        let input = input.to_str().unwrap();
        let enqueue = ["--stream", "alone", "enqueue", input];
        let done = run(&program, &server, &enqueue);
        assert!(done.status.success(), "{}", text(&done.stderr));
        let queue = Queue::open(&client, "alone").await.unwrap();
        let _one = Working::start_on("alone", &program, &server, &alone);
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
fn bad_input_is_named_and_no_message_is_lost() {
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
        // Not even root can create files there.
        refused(&["work", "--out", "/proc/nothing"], "--out");
        let ended = Command::new(&program)
            .args(["--server", "nats://127.0.0.1:1", "status"])
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(2));
        assert!(text(&ended.stderr).contains("nats-server -js"));

        // A message that is not a task, beside one that is.
        let input = server.folder().join("in");
        fs::create_dir_all(&input).unwrap();
        fs::write(input.join("file"), "content").unwrap();
        enqueue(&program, &server, &input);
        let queue = Queue::open(&server.client().await, "batch").await.unwrap();
        queue.publish("odd", "no task").await.unwrap();
        let _working = Working::start(&program, &server, Path::new(out));
        until_queue(&queue, "one is done, one dead", |seen| {
            is_empty(seen) && seen.done == 1 && seen.dead == 1
        })
        .await;
        let dead = text(&run(&program, &server, &["dead"]).stdout);
        assert!(dead.contains("the message is not a task"), "{dead}");
        assert!(dead.contains("1 dead"), "{dead}");
        let revived = text(&run(&program, &server, &["dead", "--revive", "1"]).stdout);
        assert!(revived.contains("1 is back"), "{revived}");
        until_queue(&queue, "it is dead again", |seen| {
            is_empty(seen) && seen.dead == 1
        })
        .await;
    });
}
