//! Mutants: what a model must be able to find, marked in the code that it checks.
//!
//! A build with `--cfg mutant="name"` is wrong at the places of this name, and a model has to fail: see
//! `.ci/mutants.sh`. In every other build the macros leave the production code alone.

/// Whether this build is the mutant.
macro_rules! mutant {
    ($name:tt) => {
        cfg!(mutant = $name)
    };
}

/// Does what the mutant leaves out.
macro_rules! unless_mutant {
    ($name:tt, $what:expr) => {
        if !cfg!(mutant = $name) {
            $what;
        }
    };
}

/// The ordering, which is `Relaxed` in the mutant.
macro_rules! mutant_order {
    ($name:tt, $order:expr) => {
        if cfg!(mutant = $name) {
            Ordering::Relaxed
        } else {
            $order
        }
    };
}

/// The first expression, or the second in the mutant.
macro_rules! or_mutant {
    ($name:tt, $right:expr, $wrong:expr) => {
        if cfg!(mutant = $name) { $wrong } else { $right }
    };
}
