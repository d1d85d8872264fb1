//! Everything that relies on how rayon-core behaves.

pub(crate) mod mail;
pub(crate) mod threads;
