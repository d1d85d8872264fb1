//! Workers against a real `nats-server -js`, on loopback.
//!
//! `NATS_SERVER` names the binary; without one on the path either, each test says SKIPPED and passes.
//! `.ci/worker.sh` installs it. Each test starts a server of its own in a temporary folder, and runs under a
//! watchdog. Worker processes are this very program, started anew for the test `child::process`.
//!
//! Two tests have a long form, for a quiet machine:
//!
//! ```sh
//! STORM_JOBS=20000 cargo test --release -p adaptive-pool-worker --test nats kill_storm -- --nocapture
//! MEMORY_JOBS=1000000 cargo test --release -p adaptive-pool-worker --test nats memory -- --nocapture
//! ```

mod bad_input;
mod child;
mod drain;
mod example;
mod leases;
mod memory;
mod poison;
mod seeing;
mod server;
mod shared_pool;
mod storm;
mod support;
