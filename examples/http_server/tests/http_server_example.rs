//! The example `http_server`, run as a user runs it: its responses, also under overload, and its
//! end.
#![cfg(unix)]

#[path = "../../../tests/support/server.rs"]
mod server;
#[path = "../../../tests/support/mod.rs"]
mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Output, Stdio},
};

use server::{Response, Server, exchange, head, receive};
use support::{Random, wait_until, watched};

/// Bytes that compress to about a half.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed + 1);
    (0..length).map(|_| b'a' + random.below(16) as u8).collect()
}

/// A body that takes a worker so long that other requests arrive meanwhile.
const LONG: usize = 256 << 10;
const SLOWLY: &str = "/jobs?level=19";

fn assert_done(response: &Response, sent: &[u8]) {
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/zstd"));
    let back = zstd::bulk::decompress(&response.body, sent.len()).unwrap();
    assert!(back == sent, "other bytes came back");
    let hash = blake3::hash(sent).to_string();
    assert_eq!(response.header("x-blake3"), Some(hash.as_str()));
    let length = sent.len().to_string();
    assert_eq!(response.header("x-input-bytes"), Some(length.as_str()));
}

fn assert_unavailable(response: &Response, because: &str) {
    assert_eq!(response.status, 503, "{response:?}");
    assert_eq!(response.header("retry-after"), Some("1"));
    assert!(response.text().contains(because), "{}", response.text());
}

#[test]
fn jobs_make_the_round_trip() {
    watched(|| {
        let server = Server::start(&["--workers", "2"]);
        for (n, length) in [1, 100, 10_000, 200_000].into_iter().enumerate() {
            let sent = bytes(n as u64, length);
            assert_done(&server.post("/jobs", &sent), &sent);
            assert_done(&server.post("/jobs?level=1", &sent), &sent);
        }
        assert_eq!(server.metric("adaptive_pool_jobs_completed_total"), 8.0);
        assert_eq!(server.get("/healthz").status, 200);
        assert_eq!(server.get("/jobs").status, 405);
        assert_eq!(server.get("/nothing").status, 404);
    });
}

#[test]
fn invalid_requests_are_refused_with_the_reason() {
    watched(|| {
        let server = Server::start(&["--workers", "1", "--max-bytes", "1K"]);
        for (target, reason) in [
            ("/jobs?level=20", "from 1 to 19"),
            ("/jobs?level=0", "from 1 to 19"),
            ("/jobs?level=x", "level"),
            ("/jobs?lvl=3", "lvl"),
        ] {
            let response = server.post(target, b"text");
            assert_eq!(response.status, 400, "{target}");
            let text = response.text();
            assert!(text.contains(reason), "{target}: {text}");
        }
        let empty = server.post("/jobs", b"");
        assert_eq!(empty.status, 400);
        assert!(empty.text().contains("empty"));

        let most = bytes(1, 1024);
        assert_done(&server.post("/jobs", &most), &most);
        let announced = server.post("/jobs", &bytes(1, 1025));
        let head = head("POST", "/jobs", "transfer-encoding: chunked\r\n");
        let mut chunks = b"800\r\n".to_vec();
        chunks.extend(bytes(1, 2048));
        chunks.extend(b"\r\n0\r\n\r\n");
        let unannounced = exchange(server.addr, &head, &chunks).unwrap();
        for response in [announced, unannounced] {
            assert_eq!(response.status, 413);
            assert!(response.text().contains("1024 bytes"));
        }
        // None of these reached the pool.
        assert_eq!(server.metric("adaptive_pool_jobs_submitted_total"), 1.0);
        assert_eq!(server.metric("http_server_answers_total"), 8.0);
    });
}

#[test]
fn an_overload_is_answered_with_503_and_ends() {
    watched(|| {
        let arguments = [
            "--workers",
            "1",
            "--capacity",
            "1",
            "--admission-timeout",
            "1ms",
        ];
        let server = Server::start(&arguments);
        let (mut done, mut refused) = (0, 0);
        while done == 0 || refused == 0 {
            let posts: Vec<_> = (0..6)
                .map(|n| (bytes(n, LONG), server.posting(SLOWLY, bytes(n, LONG))))
                .collect();
            for (sent, post) in posts {
                let response = post.join().unwrap().unwrap();
                if response.status == 200 {
                    assert_done(&response, &sent);
                    done += 1;
                } else {
                    assert_unavailable(&response, "overloaded: no place");
                    refused += 1;
                }
            }
        }
        println!("{done} done, {refused} refused");
        let sent = bytes(9, 100);
        assert_done(&server.post("/jobs", &sent), &sent);
        let admitted = server.metric("adaptive_pool_jobs_admitted_total");
        assert_eq!(admitted, f64::from(done + 1));
        assert_eq!(server.metric("adaptive_pool_queue_depth"), 0.0);
    });
}

#[test]
fn the_number_of_bodies_read_at_a_time_is_bounded() {
    watched(|| {
        let server = Server::start(&["--workers", "1", "--max-requests", "1"]);
        let slow = half_sent(&server);
        assert_unavailable(&server.post("/jobs", b"text"), "too many");
        drop(slow);
        wait_until(|| server.post("/jobs", b"text").status == 200);
    });
}

#[test]
fn an_unread_response_counts_as_held() {
    watched(|| {
        let arguments = [
            "--workers",
            "1",
            "--max-requests",
            "1",
            "--max-bytes",
            "64M",
        ];
        let server = Server::start(&arguments);
        // More than the kernel's buffers take; hardly compressible.
        let mut random = Random(1);
        let body: Vec<u8> = (0..16 << 20).map(|_| random.below(256) as u8).collect();
        let mut deaf = TcpStream::connect(server.addr).unwrap();
        let length = format!("content-length: {}\r\n", body.len());
        let head = head("POST", "/jobs?level=1", &length);
        deaf.write_all(head.as_bytes()).unwrap();
        deaf.write_all(&body).unwrap();
        wait_until(|| server.metric("adaptive_pool_jobs_completed_total") == 1.0);
        wait_until(|| server.metric("http_server_answers_total") == 1.0);
        assert_unavailable(&server.post("/jobs", b"text"), "too many");
        drop(deaf);
        wait_until(|| server.post("/jobs", b"text").status == 200);
    });
}

/// A client whose body is being read, and does not arrive.
fn half_sent(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.addr).unwrap();
    let more = "content-length: 100\r\nexpect: 100-continue\r\n";
    let head = head("POST", "/jobs", more);
    stream.write_all(head.as_bytes()).unwrap();
    // The server requests the body when it reads it.
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ten bytes.").unwrap();
    stream
}

#[test]
fn a_client_that_disconnects_releases_its_place() {
    watched(|| {
        let server = Server::start(&["--workers", "1"]);
        let sent = bytes(1, 4 * LONG);
        let long = server.posting(SLOWLY, sent.clone());
        wait_until(|| server.metric("adaptive_pool_workers_busy") == 1.0);
        let mut queued = TcpStream::connect(server.addr).unwrap();
        let head = head("POST", "/jobs", "content-length: 4\r\n");
        queued.write_all(format!("{head}text").as_bytes()).unwrap();
        wait_until(|| server.metric("adaptive_pool_jobs_admitted_total") == 2.0);
        drop(queued);
        wait_until(|| server.metric("adaptive_pool_jobs_cancelled_total") == 1.0);
        assert_done(&long.join().unwrap().unwrap(), &sent);
    });
}

#[test]
fn d2_a_sigterm_answers_admitted_requests_and_refuses_the_rest() {
    watched(|| {
        let arguments = [
            "--workers",
            "1",
            "--capacity",
            "2",
            "--admission-timeout",
            "1m",
        ];
        let mut server = Server::start(&arguments);
        let posts: Vec<_> = (0..5)
            .map(|n| (bytes(n, LONG), server.posting(SLOWLY, bytes(n, LONG))))
            .collect();
        // A connection without a request blocks no other.
        let idle = TcpStream::connect(server.addr).unwrap();
        wait_until(|| server.metric("adaptive_pool_waiting_submitters") == 2.0);
        server.terminate();
        let (mut done, mut refused) = (0, 0);
        for (sent, post) in posts {
            let response = post.join().unwrap().unwrap();
            if response.status == 200 {
                assert_done(&response, &sent);
                done += 1;
            } else {
                assert_unavailable(&response, "shutting down");
                refused += 1;
            }
        }
        assert!(server.said().contains("draining"));
        let report = format!("{done} jobs done, 0 panicked, 0 cancelled, 0 dropped\n");
        assert_eq!(server.said(), report);
        assert_eq!(server.wait().code(), Some(0));
        assert!(done >= 3 && refused >= 1, "{done} done, {refused} refused");
        assert!(TcpStream::connect(server.addr).is_err());
        drop(idle);
    });
}

#[test]
fn a_stalled_client_delays_the_end_only_until_the_timeout() {
    watched(|| {
        let mut server = Server::start(&["--workers", "1", "--drain-timeout", "50ms"]);
        let slow = half_sent(&server);
        server.terminate();
        assert_eq!(server.wait().code(), Some(1));
        assert!(receive(slow).is_err(), "there was nothing to answer");
    });
}

#[test]
fn a_second_signal_ends_it_at_once() {
    watched(|| {
        let mut server = Server::start(&["--workers", "1"]);
        let slow = half_sent(&server);
        server.terminate();
        assert!(server.said().contains("draining"));
        server.terminate();
        assert_eq!(server.wait().code(), Some(130));
        drop(slow);
    });
}

#[test]
fn the_page_and_its_numbers_are_served() {
    watched(|| {
        let server = Server::start(&["--workers", "1"]);
        let page = server.get("/");
        assert_eq!(page.status, 200);
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"));
        // No external resources: only the name of SVG looks like an address.
        let text = page.text().replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("://"));

        server.post("/jobs", b"text");
        let stats = |target: &str| -> serde_json::Value {
            serde_json::from_slice(&server.get(target).body).unwrap()
        };
        let mut seen = stats("/stats");
        wait_until(|| {
            seen = stats("/stats");
            let samples = seen["samples"].as_array().unwrap();
            samples.last().is_some_and(|last| last["completed"] == 1)
        });
        let last = seen["samples"].as_array().unwrap().last().unwrap();
        assert_eq!(last["answers"]["done"], 1);
        let name = "adaptive_pool_job_run_seconds";
        let bounds = seen["bounds"][name].as_array().unwrap();
        let buckets = last["buckets"][name].as_array().unwrap();
        assert_eq!(buckets.len(), bounds.len() + 1);
        assert_eq!(buckets.last().unwrap(), 1);
        assert_eq!(seen["latencies"][2]["count"], 1);
        let number = last["number"].as_u64().unwrap();
        let later = stats(&format!("/stats?after={number}"));
        let later = later["samples"].as_array().unwrap();
        assert!(
            later
                .iter()
                .all(|sample| sample["number"].as_u64() > Some(number))
        );
    });
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(server::path());
    command.args(arguments).stdin(Stdio::null());
    command.output().unwrap()
}

#[test]
fn wrong_options_are_named() {
    watched(|| {
        for (arguments, named) in [
            (["--addr", "nowhere"], "--addr"),
            (["--workers", "4..2"], "workers"),
            (["--workers", "many"], "a range"),
            (["--capacity", "0"], "capacity"),
            (["--admission-timeout", "5"], "a unit"),
            (["--max-bytes", "0"], "from 1"),
            (["--max-requests", "0"], "--max-requests"),
            (["--drain-timeout", "soon"], "--drain-timeout"),
        ] {
            let output = run(&arguments);
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
            assert!(text.contains(named), "{arguments:?}: {text}");
        }
        let server = Server::start(&[]);
        let output = run(&["--addr", &server.addr.to_string()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("cannot listen at 127.0.0.1:"));
    });
}
