//! Rules of a whole pool that need a look inside it.

mod waits;
mod wake_ups;
