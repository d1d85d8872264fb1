//! Loom models of a run. Each names the mutants that it kills.

use std::sync::Arc;

use super::Run;
use crate::{
    protocol::model::explore_to,
    sync::{AtomicU64, Ordering, thread::spawn},
};

/// What was written down, by value; and the run.
#[derive(Default)]
struct Book {
    run: Run,
    accounts: [AtomicU64; 2],
}

impl Book {
    fn record(&self, value: u64) {
        self.run.record(value, |value, times| {
            let account = &self.accounts[value as usize];
            let sum = account.load(Ordering::Relaxed) + times;
            account.store(sum, Ordering::Release);
        });
    }

    fn read(&self) -> [u64; 2] {
        let account = |value: u64| self.accounts[value as usize].load(Ordering::Acquire);
        let seen = self.run.read(account);
        [0, 1].map(|value| {
            if value == seen.value {
                seen.account + seen.times
            } else {
                account(value)
            }
        })
    }
}

/// M1: who reads twice while another records finds nothing that is not there, and nothing less the second time. Kills
/// `alike_read_once`, `alike_keep_value`, `alike_no_fence_change`, `alike_no_fence_read` and `alike_relaxed`.
#[test]
fn m1_a_run_that_is_written_down_is_read_once() {
    explore_to(2, || {
        let book = Arc::new(Book::default());
        let seen = Arc::clone(&book);
        // The reader is the one that is spawned: of a thread that loads a word before it stores to it, loom takes the
        // load for all that it does, and tries no other order with who has read the word before.
        let reader = spawn(move || {
            let (first, second) = (seen.read(), seen.read());
            for (value, most) in [1, 2].into_iter().enumerate() {
                let (first, second) = (first[value], second[value]);
                assert!(first <= second && second <= most, "{first}, {second}");
            }
        });
        book.record(1);
        book.run.again();
        book.record(0);
        reader.join().unwrap();
        assert_eq!(book.read(), [1, 2]);
    });
}
