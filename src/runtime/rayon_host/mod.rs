//! Everything that relies on how rayon-core behaves.

pub(crate) mod inbox;
pub(crate) mod threads;
