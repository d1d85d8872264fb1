//! Busy cores: as many spinning threads as cores, in processes of their own or in this one.

use std::{
    env,
    hint::spin_loop,
    io,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// The argument that makes a program of this crate spin until it is killed.
pub const FLAG: &str = "--spin";

/// Where the neighbours run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Each is a process.
    Processes,
    /// All are threads of this process.
    Threads,
}

/// Neighbours that spin until this is dropped.
pub struct Neighbours {
    processes: Vec<Child>,
    is_over: Arc<AtomicBool>,
}

impl Neighbours {
    /// Starts one neighbour per core.
    ///
    /// # Errors
    /// If a process or a thread cannot be started.
    pub fn start(kind: Kind) -> io::Result<Self> {
        let cores = thread::available_parallelism()?.get();
        let mut started = Self {
            processes: Vec::new(),
            is_over: Arc::new(AtomicBool::new(false)),
        };
        for _ in 0..cores {
            match kind {
                Kind::Processes => {
                    let child = Command::new(env::current_exe()?).arg(FLAG).spawn()?;
                    started.processes.push(child);
                }
                Kind::Threads => {
                    let is_over = Arc::clone(&started.is_over);
                    thread::Builder::new().spawn(move || {
                        while !is_over.load(Ordering::Relaxed) {
                            spin_loop();
                        }
                    })?;
                }
            }
        }
        Ok(started)
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for process in &mut self.processes {
            // It may have ended already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The body of a neighbour.
pub fn spin() -> ! {
    loop {
        spin_loop();
    }
}
