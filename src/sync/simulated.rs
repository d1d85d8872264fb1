//! What takes the place of rayon, of crossbeam's deques, of parking and of time when shuttle explores
//! the whole pool: built with `--cfg shuttle` alone, and no part of the interface.
//!
//! shuttle runs all threads as coroutines, one at a time, and chooses at each operation of its own
//! primitives who goes on. So what blocks by other means than these would block everybody, and what
//! happens between two of them is one step. Each file says what it promises of the original, and
//! what it does that the original may do, though seldom.

pub(crate) mod deques;
pub(crate) mod locals;
pub mod rayon;
pub mod time;
