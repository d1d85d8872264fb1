//! The example `http_server` as a child process, and a minimal HTTP client.
#![allow(dead_code)]

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

/// The example, beside this test in target/<profile>. `cargo test` builds it; a build of single
/// targets does not, and leaves an older one there.
pub fn path() -> PathBuf {
    let mut path = env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(format!("http_server{}", env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --example http_server` first",
        path.display()
    );
    path
}

/// A server on a port of its own, killed at the end if it still runs.
pub struct Server {
    child: Child,
    pub addr: SocketAddr,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Server {
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(path())
            .args(["--addr", "127.0.0.1:0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let addr = line.trim().strip_prefix("listening on http://");
        let addr = addr.unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self {
            child,
            addr,
            stderr,
        }
    }

    /// The next line of its output.
    pub fn said(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).unwrap();
        line
    }

    pub fn terminate(&self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(sent.success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub fn get(&self, target: &str) -> Response {
        send(self.addr, "GET", target, &[]).unwrap()
    }

    pub fn post(&self, target: &str, body: &[u8]) -> Response {
        send(self.addr, "POST", target, body).unwrap()
    }

    /// POSTs from a thread.
    pub fn posting(&self, target: &str, body: Vec<u8>) -> thread::JoinHandle<io::Result<Response>> {
        let (addr, target) = (self.addr, target.to_owned());
        thread::spawn(move || send(addr, "POST", &target, &body))
    }

    /// The sum of all values of a metric.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = rest.strip_prefix(['{', ' '])?.rsplit(' ').next()?;
            Some(value.parse::<f64>().unwrap())
        });
        values.sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(key, _)| key == name);
        header.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

pub fn send(addr: SocketAddr, method: &str, target: &str, body: &[u8]) -> io::Result<Response> {
    let length = format!("content-length: {}\r\n", body.len());
    exchange(addr, &head(method, target, &length), body)
}

pub fn head(method: &str, target: &str, more: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{more}\r\n")
}

pub fn exchange(addr: SocketAddr, head: &str, body: &[u8]) -> io::Result<Response> {
    let mut stream = TcpStream::connect(addr)?;
    let mut request = head.as_bytes().to_vec();
    request.extend(body);
    stream.write_all(&request)?;
    receive(stream)
}

/// Reads a response after which the connection is closed.
pub fn receive(mut stream: TcpStream) -> io::Result<Response> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(end) = end else {
        return Err(io::Error::other(format!("no answer: {answer:?}")));
    };
    let body = answer.split_off(end + 4);
    let head = String::from_utf8(answer).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let response = Response {
        status: status.parse().unwrap(),
        headers,
        body,
    };
    if let Some(length) = response.header("content-length") {
        assert_eq!(length.parse(), Ok(response.body.len()), "cut off");
    }
    Ok(response)
}
