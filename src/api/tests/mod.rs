//! Rules of a whole pool, tested through its internals.

mod waits;
mod wake_ups;
