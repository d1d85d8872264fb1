//! The whole pool under chosen schedules: built only with `--cfg shuttle`, and run by
//! `.ci/shuttle.sh`.
#![cfg(shuttle)]

#[path = "shuttle/ends.rs"]
mod ends;
#[path = "shuttle/explore.rs"]
mod explore;
#[path = "shuttle/jobs.rs"]
mod jobs;
#[path = "shuttle/programs.rs"]
mod programs;
#[path = "shuttle/sizes.rs"]
mod sizes;
#[path = "shuttle/waits.rs"]
mod waits;
