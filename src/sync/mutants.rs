//! Mutants: errors that a model must find, marked in the code that it checks.
//!
//! A build with `--cfg mutant="name"` is wrong at the places of this name, and a model has to fail:
//! see `.ci/mutants.sh`. In every other build the macros leave the production code unchanged.

/// Whether this build is the mutant of this name.
macro_rules! mutant {
    ($name:tt) => {
        cfg!(mutant = $name)
    };
}

/// Runs what the mutant leaves out.
macro_rules! unless_mutant {
    ($name:tt, $what:expr) => {
        if !cfg!(mutant = $name) {
            $what;
        }
    };
}

/// Returns the ordering; in the mutant, `Relaxed`.
macro_rules! mutant_order {
    ($name:tt, $order:expr) => {
        if cfg!(mutant = $name) {
            Ordering::Relaxed
        } else {
            $order
        }
    };
}

/// Evaluates the first expression; in the mutant, the second.
macro_rules! or_mutant {
    ($name:tt, $right:expr, $wrong:expr) => {
        if cfg!(mutant = $name) { $wrong } else { $right }
    };
}
