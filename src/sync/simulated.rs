//! Replacements of rayon, crossbeam's deques, parking and time, for shuttle's exploration of the
//! whole pool. Built with `--cfg shuttle` alone, and no part of the interface.
//!
//! shuttle runs all threads as coroutines, one at a time, and chooses the next one at each
//! operation of its own primitives. So a wait by other means than these would block all threads,
//! and what happens between two operations is one step. Each file states what it promises of the
//! original, and which rare behaviour of the original it includes.

pub(crate) mod deques;
pub(crate) mod locals;
pub mod rayon;
pub mod time;
