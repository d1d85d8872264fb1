//! Workers against a real `nats-server -js`, on loopback.
//!
//! `NATS_SERVER` names the binary. Without it, and without one on the path, each test prints
//! SKIPPED and passes. `.ci/worker.sh` installs it. Each test starts a server of its own in a
//! temporary folder, and runs under a watchdog. Worker processes are this program itself, started
//! for the test `child::process`.
//!
//! Two tests have a long form, for a quiet machine:
//!
//! ```sh
//! STORM_JOBS=20000 cargo test --release -p adaptive-pool-worker --test nats kill_storm -- --nocapture
//! MEMORY_JOBS=1000000 cargo test --release -p adaptive-pool-worker --test nats memory -- --nocapture
//! ```

mod bad_input;
mod child;
mod disk;
mod drain;
mod example;
mod isolated;
mod leases;
mod memory;
mod network;
mod poison;
mod program;
mod seeing;
mod server;
mod shared_pool;
mod storm;
mod support;
