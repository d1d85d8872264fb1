//! A NATS server for one test.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use adaptive_pool_worker::{Queue, async_nats, connect};
use tempfile::TempDir;

use crate::support::{dies_with_us, signal, until};

pub struct Server {
    process: Child,
    port: u16,
    folder: TempDir,
    arguments: Vec<String>,
}

/// Finds the binary, if there is one.
fn binary() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("NATS_SERVER") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|folder| folder.join("nats-server"))
        .find(|file| file.is_file())
}

impl Server {
    /// Starts a server. `None`, and a line with the reason, if none is installed.
    pub fn start(arguments: &[&str]) -> Option<Self> {
        if binary().is_none() {
            eprintln!("SKIPPED: no nats-server on the path, and NATS_SERVER is not set");
            return None;
        }
        // The port is free now; another program may take it before the server does.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
            let port = port.unwrap().port();
            let folder = tempfile::tempdir().unwrap();
            let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
            let process = spawn(port, folder.path(), &arguments);
            let mut server = Self {
                process,
                port,
                folder,
                arguments,
            };
            if server.answers() {
                return Some(server);
            }
        }
        panic!("the server does not start");
    }

    /// Starts a server with JetStream.
    pub fn jetstream() -> Option<Self> {
        Self::start(&["-js"])
    }

    fn answers(&mut self) -> bool {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let mut ended = false;
        until("the server answers or ends", || {
            ended = self.process.try_wait().unwrap().is_some();
            ended || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
        });
        !ended
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again, on the same port, with the same store.
    pub fn restart(&mut self) {
        self.process = spawn(self.port, self.folder.path(), &self.arguments);
        assert!(self.answers(), "the server does not start again");
    }

    pub fn stop(&self) {
        signal(&self.process, libc::SIGSTOP);
    }

    pub fn go_on(&self) {
        signal(&self.process, libc::SIGCONT);
    }

    pub async fn client(&self) -> async_nats::Client {
        connect(&self.url(), async_nats::ConnectOptions::new())
            .await
            .unwrap()
    }

    /// Creates the queue `jobs`.
    pub async fn queue(&self) -> Queue {
        Queue::create(&self.client().await, "jobs", 1)
            .await
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(port: u16, folder: &Path, arguments: &[String]) -> Child {
    let mut command = Command::new(binary().expect("looked for before"));
    command
        .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-sd"])
        .arg(folder.join("store"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    dies_with_us(&mut command);
    command.spawn().unwrap()
}
