//! Loom models of the deque. Each names the mutants that it kills. The fences are plain ones here,
//! on both sides. That the system's fences behave as plain ones is its promise, and is not
//! modelled.

use std::sync::Arc;

use super::{Owner, Theft, Thief, new};
use crate::{
    protocol::model::explore,
    sync::{asymmetric::Fences, thread::spawn},
    tuning::FENCED_POPS,
};

/// A value that races in loom if two threads have it.
struct Token(usize, loom::cell::UnsafeCell<bool>);

impl Token {
    fn new(number: usize) -> Self {
        Self(number, loom::cell::UnsafeCell::new(false))
    }

    fn spend(self) -> usize {
        self.1.with_mut(|spent| {
            // SAFETY: the caller owns the token; otherwise loom fails.
            let spent = unsafe { &mut *spent };
            assert!(!*spent);
            *spent = true;
        });
        self.0
    }
}

/// R1: the last value is the owner's or the thief's. Kills `deque_no_fence_pop`,
/// `deque_no_fence_steal` and `deque_keep_claim`.
#[test]
fn r1_a_pop_and_a_theft_share_the_pushed_jobs() {
    explore(|| {
        let (owner, thief) = new(Fences::PLAIN);
        owner.push(Token::new(1));
        owner.push(Token::new(2));
        let stealing = spawn(move || match thief.steal() {
            Theft::Success(token) => token.spend(),
            Theft::Empty | Theft::Unwanted | Theft::Busy => 0,
        });
        let mut sum = 0;
        while let Some(token) = owner.pop(0) {
            sum += token.spend();
        }
        assert_eq!(sum + stealing.join().unwrap(), 3);
    });
}

/// R1: the same while the owner's pops have fences. Kills `deque_no_fence_fenced` and
/// `deque_no_fence_steal_fenced`.
#[test]
fn r1_a_fenced_pop_and_a_theft_share_the_pushed_jobs() {
    explore(|| share_out_fenced(FENCED_POPS - 1, 1));
}

/// R1: the same while the owner gives its fences up. Kills `deque_keep_claim`.
#[test]
fn r1_an_owner_stops_fencing_between_two_thefts() {
    explore(|| share_out_fenced(1, 2));
}

/// Races an owner that has `left` more pops with fences against `thefts` thefts.
fn share_out_fenced(left: u32, thefts: usize) {
    let (owner, thief) = fenced();
    for _ in left..FENCED_POPS {
        owner.push(Token::new(0));
        assert!(owner.pop(0).is_some());
    }
    owner.push(Token::new(1));
    owner.push(Token::new(2));
    let stealing = spawn(move || {
        let steal = |_| thief.steal().success().map_or(0, Token::spend);
        (0..thefts).map(steal).sum::<usize>()
    });
    let mut sum = 0;
    while let Some(token) = owner.pop(0) {
        sum += token.spend();
    }
    assert_eq!(sum + stealing.join().unwrap(), 3);
}

/// Returns an empty deque whose owner was asked for fences, and has them.
fn fenced() -> (Owner<Token>, Thief<Token>) {
    let (owner, thief) = new(Fences::PLAIN);
    owner.push(Token::new(0));
    assert!(thief.steal().success().is_some());
    assert!(owner.pop(0).is_none());
    (owner, thief)
}

/// R1: a thief asks for fences while the owner pops, and the next one steals while the owner
/// answers. Kills `deque_keep_claim`.
#[test]
fn r1_an_owner_is_asked_for_fences_between_two_thefts() {
    explore(|| {
        let (owner, thief) = new(Fences::PLAIN);
        (1..=3).for_each(|number| owner.push(Token::new(number)));
        let stealing = spawn(move || {
            let steal = || thief.steal().success().map_or(0, Token::spend);
            steal() + steal()
        });
        let mut sum = 0;
        while let Some(token) = owner.pop(0) {
            sum += token.spend();
        }
        assert_eq!(sum + stealing.join().unwrap(), 6);
    });
}

/// R1: a thief steals several values as long as they are alike, and gives the others back, while
/// the owner takes from the other end. Kills `deque_relaxed`.
#[test]
fn r1_a_job_that_a_thief_returns_is_there_again() {
    explore(|| {
        // So that the thief does not ask for fences, which would have the owner take the lock.
        let (owner, thief) = fenced();
        for number in 1..=4 {
            owner.push(Token::new(number));
        }
        let stealing = spawn(move || {
            let (own, _) = new(Fences::PLAIN);
            let alike = |first: &Token, other: &Token| first.0 == 1 && other.0 < 2;
            match thief.steal_batch(&own, alike) {
                Theft::Success(token) => {
                    assert!(own.pop(0).is_none());
                    token.spend()
                }
                Theft::Empty | Theft::Unwanted | Theft::Busy => 0,
            }
        });
        let mut sum = 0;
        while let Some(token) = owner.pop(0) {
            sum += token.spend();
        }
        assert_eq!(sum + stealing.join().unwrap(), 10);
    });
}

/// R1: a value that a thief has claimed and does not want is the owner's again, and is taken once.
/// Kills `deque_relaxed`.
#[test]
fn r1_a_job_that_a_thief_rejects_is_there_again() {
    explore(|| {
        let (owner, thief) = new(Fences::PLAIN);
        owner.push(Token::new(1));
        owner.push(Token::new(2));
        let stealing = spawn(move || {
            let theft = thief.steal_above(0, |token: &Token| token.0 > 1);
            theft.success().map_or(0, Token::spend)
        });
        let mut sum = 0;
        while let Some(token) = owner.pop(0) {
            sum += token.spend();
        }
        // The second value would be wanted, but is never the oldest: the first is popped last.
        assert_eq!((sum, stealing.join().unwrap()), (3, 0));
    });
}

/// R1: the slot of a stolen value is written again only after the thief has read it; a full ring is
/// replaced during a theft. Kills `deque_no_lock_for_room`.
#[test]
fn r1_the_owner_wraps_round_the_ring_beside_a_thief() {
    explore(|| {
        let (owner, thief) = new(Fences::PLAIN);
        owner.push(Token::new(1));
        owner.push(Token::new(2));
        let stealing = spawn(move || {
            let mut sum = 0;
            for _ in 0..2 {
                if let Theft::Success(token) = thief.steal() {
                    sum += token.spend();
                }
            }
            sum
        });
        owner.push(Token::new(4));
        let mut sum = 0;
        while let Some(token) = owner.pop(0) {
            sum += token.spend();
        }
        assert_eq!(sum + stealing.join().unwrap(), 7);
    });
}

/// R3: no value below the mark is taken, and after a theft of all values the numbers begin anew.
/// Kills `deque_forget_watermark`.
#[test]
fn r3_a_pop_stops_at_its_watermark() {
    explore(|| {
        let (owner, thief) = new(Fences::PLAIN);
        owner.push(Token::new(1));
        let mark = owner.mark();
        owner.push(Token::new(2));
        let thief = Arc::new(thief);
        let stealing = {
            let thief = Arc::clone(&thief);
            spawn(move || match thief.steal() {
                Theft::Success(token) => token.spend(),
                Theft::Empty | Theft::Unwanted | Theft::Busy => 0,
            })
        };
        assert_eq!(owner.pop(mark).map(Token::spend), Some(2));
        assert!(owner.pop(mark).is_none());
        let stolen = stealing.join().unwrap();
        assert_eq!(owner.pop(0).map_or(0, Token::spend) + stolen, 1);
        assert!(owner.pop(0).is_none());
        assert!(thief.is_empty());
        owner.push(Token::new(3));
        assert_eq!(owner.pop(0).map(Token::spend), Some(3));
    });
}

/// R3: the owner reads the value that it pushed last while that is stolen, and clears its number
/// after that. Kills `deque_keep_stolen`.
#[test]
fn r3_the_newest_job_is_seen_while_it_is_stolen() {
    explore(|| {
        let (owner, thief) = new(Fences::PLAIN);
        owner.push(Token::new(1));
        let mark = owner.mark();
        owner.push(Token::new(2));
        let stealing = spawn(move || {
            let steal = || thief.steal().success().map_or(0, Token::spend);
            steal() + steal()
        });
        // SAFETY: it was pushed, and no other thread writes its slot.
        assert_eq!(owner.peek_last(|token| unsafe { (*token).0 }), 2);
        let stolen = stealing.join().unwrap();
        assert_eq!(stolen, 3);
        owner.clear_stolen(mark);
        assert_eq!(owner.mark(), mark);
        // SAFETY: as above.
        assert_eq!(owner.peek_last(|token| unsafe { (*token).0 }), 1);
        assert!(owner.pop(0).is_none());
    });
}
