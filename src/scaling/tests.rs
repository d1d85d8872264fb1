//! The policy at its limits, one measurement at a time.

use super::{Decision::*, *};

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(super) const POLICY: Policy = Policy {
    min: 1,
    max: 8,
    threshold: 0.7,
    cooldown: Duration::from_millis(50),
    idle_timeout: Duration::from_millis(300),
};

/// One worker, busy, and an empty queue.
const CALM: Measured<'static> = Measured {
    now: Duration::from_millis(1000),
    depth: 0,
    held: 0,
    capacity: 10,
    in_service: 1,
    busy: 1,
    waiting_since: None,
    idle_since: &[],
    past: NEVER,
};

pub(super) const NEVER: Past = Past {
    last_scale_up: None,
    last_park: None,
    parked: 0,
};

fn scaled_up(at: Duration) -> Past {
    Past {
        last_scale_up: Some(at),
        ..NEVER
    }
}

/// [`CALM`] with `depth` jobs that have been queued since now.
fn waiting(depth: u64) -> Measured<'static> {
    Measured {
        depth,
        waiting_since: Some(CALM.now),
        ..CALM
    }
}

fn verdict(decision: Decision, next_at: Option<u64>) -> Verdict {
    Verdict {
        decision,
        next_at: next_at.map(ms),
    }
}

#[test]
fn s2_the_threshold_scales_up_at_once_and_then_once_per_cooldown() {
    assert_eq!(POLICY.decide(&waiting(6)), verdict(Nothing, Some(1050)));
    assert_eq!(POLICY.decide(&waiting(7)), verdict(ScaleUp(1), Some(1050)));
    let cooling = |now| Measured {
        now: ms(now),
        in_service: 2,
        busy: 2,
        past: scaled_up(CALM.now),
        ..waiting(7)
    };
    assert_eq!(POLICY.decide(&cooling(1049)), verdict(Nothing, Some(1050)));
    assert_eq!(
        POLICY.decide(&cooling(1050)),
        verdict(ScaleUp(1), Some(1100))
    );
}

/// A held permit uses the capacity as a job does.
#[test]
fn s2_held_places_count_as_depth_beside_a_job_that_waits() {
    let beside_a_job = Measured {
        held: 6,
        ..waiting(7)
    };
    assert_eq!(
        POLICY.decide(&beside_a_job),
        verdict(ScaleUp(1), Some(1050))
    );
}

/// Otherwise each job of a trickle beside held permits would add a worker, which idles and parks.
#[test]
fn s2_a_job_beside_held_places_is_left_to_an_idle_worker() {
    let seen = Measured {
        held: 7,
        in_service: 2,
        ..waiting(8)
    };
    assert_eq!(POLICY.decide(&seen), verdict(Nothing, Some(1050)));
    let busy = Measured { busy: 2, ..seen };
    assert_eq!(POLICY.decide(&busy), verdict(ScaleUp(1), Some(1050)));
}

#[test]
fn s2_a_step_adds_a_quarter_rounded_up_and_never_past_max() {
    for (in_service, max, more) in [
        (1, 100, 1),
        (4, 100, 1),
        (5, 100, 2),
        (8, 100, 2),
        (9, 100, 3),
        (99, 100, 1),
        (97, 100, 3),
        (usize::MAX - 1, usize::MAX, 1),
        (usize::MAX / 2, usize::MAX, usize::MAX / 8 + 1),
    ] {
        let policy = Policy { max, ..POLICY };
        let seen = Measured {
            in_service,
            busy: in_service,
            ..waiting(10)
        };
        assert_eq!(
            policy.decide(&seen).decision,
            ScaleUp(more),
            "{in_service} of {max}"
        );
    }
}

#[test]
fn s2_jobs_behind_a_long_one_are_pressure_after_a_cooldown() {
    let seen = |now| Measured {
        now: ms(now),
        capacity: 1_000_000,
        ..waiting(1)
    };
    assert_eq!(POLICY.decide(&seen(1049)), verdict(Nothing, Some(1050)));
    assert_eq!(POLICY.decide(&seen(1050)), verdict(ScaleUp(1), Some(1100)));
    // A held permit fills the queue, but is no pressure.
    let kept = Measured {
        waiting_since: None,
        ..seen(2000)
    };
    assert_eq!(POLICY.decide(&kept), verdict(Nothing, None));
}

#[test]
fn s2_jobs_for_idle_workers_are_no_pressure_yet() {
    let seen = |now| Measured {
        now: ms(now),
        capacity: 1,
        busy: 0,
        ..waiting(1)
    };
    assert_eq!(POLICY.decide(&seen(1000)), verdict(Nothing, Some(1050)));
    assert_eq!(POLICY.decide(&seen(1050)), verdict(ScaleUp(1), Some(1100)));
    let two = Measured {
        depth: 2,
        capacity: 2,
        ..seen(1000)
    };
    assert_eq!(POLICY.decide(&two).decision, ScaleUp(1));
}

/// Thresholds in hundredths: the quotient meets the threshold exactly, at every capacity.
#[test]
#[cfg_attr(miri, ignore = "long, and without unsafe code")]
fn s2_the_threshold_is_met_exactly() {
    for percent in 0..=100 {
        let threshold = format!("{}.{:02}", percent / 100, percent % 100);
        let policy = Policy {
            threshold: threshold.parse().unwrap(),
            ..POLICY
        };
        for capacity in (1..=40).chain([100, 200, 1000]) {
            for depth in 1..=capacity {
                let seen = Measured {
                    capacity,
                    ..waiting(depth)
                };
                let scales_up = policy.decide(&seen).decision != Nothing;
                let at = depth * 100 >= percent * capacity;
                assert_eq!(scales_up, at, "{depth} of {capacity} at {threshold}");
            }
        }
    }
}

#[test]
fn s2_the_threshold_at_its_limits() {
    let at = |threshold, seen: &Measured<'_>| {
        Policy {
            threshold,
            ..POLICY
        }
        .decide(seen)
    };
    assert_eq!(at(0.0, &waiting(1)).decision, ScaleUp(1));
    // An empty queue is no pressure, even at a threshold of 0.
    assert_eq!(at(0.0, &CALM), verdict(Nothing, None));
    assert_eq!(at(1.0, &waiting(9)).decision, Nothing);
    assert_eq!(at(1.0, &waiting(10)).decision, ScaleUp(1));
    // The capacity was lowered meanwhile.
    assert_eq!(at(1.0, &waiting(11)).decision, ScaleUp(1));
}

#[test]
fn s3_workers_idle_for_the_timeout_are_parked_down_to_min() {
    let idle = [ms(100), ms(100), ms(699), ms(701), ms(702)];
    let seen = |busy, idle_since| Measured {
        in_service: 8,
        busy,
        idle_since,
        ..CALM
    };
    assert_eq!(
        POLICY.decide(&seen(3, &idle)),
        verdict(Park(3), Some(1001)),
        "three are due, the fourth in a millisecond"
    );
    let late = Measured {
        now: ms(5000),
        ..seen(3, &idle)
    };
    assert_eq!(POLICY.decide(&late), verdict(Park(5), None));
    let policy = Policy { min: 6, ..POLICY };
    assert_eq!(policy.decide(&late), verdict(Park(2), None));
    let policy = Policy { min: 8, ..POLICY };
    assert_eq!(policy.decide(&late), verdict(Nothing, None));
    // The list is older than the count: one worker has found a job since.
    assert_eq!(POLICY.decide(&seen(6, &idle)), verdict(Park(2), None));
}

#[test]
fn s3_no_worker_is_parked_while_a_job_waits() {
    let idle = [ms(0), ms(0)];
    let calm = Measured {
        in_service: 3,
        idle_since: &idle,
        ..CALM
    };
    assert_eq!(POLICY.decide(&calm), verdict(Park(2), None));
    let place_taken = Measured { depth: 1, ..calm };
    assert_eq!(POLICY.decide(&place_taken), verdict(Nothing, None));
    let permit_kept = Measured {
        held: 1,
        ..place_taken
    };
    assert_eq!(POLICY.decide(&permit_kept), verdict(Park(2), None));
    let queued = Measured {
        waiting_since: Some(CALM.now),
        ..calm
    };
    assert_eq!(POLICY.decide(&queued), verdict(Nothing, Some(1050)));
}

#[test]
fn s3_idleness_before_a_scale_up_does_not_count() {
    let seen = Measured {
        in_service: 3,
        idle_since: &[Duration::ZERO],
        past: scaled_up(ms(990)),
        ..CALM
    };
    assert_eq!(POLICY.decide(&seen), verdict(Nothing, Some(1290)));
}

#[test]
fn s1_a_resize_restores_the_range_first() {
    let idle = [ms(0); 4];
    let excess = Measured {
        in_service: 12,
        busy: 12,
        past: scaled_up(CALM.now),
        ..waiting(10)
    };
    // Even if the workers are busy, jobs are queued, and a cooldown runs.
    assert_eq!(POLICY.decide(&excess), verdict(Park(4), None));
    let idle_too = Measured {
        in_service: 10,
        idle_since: &idle,
        ..CALM
    };
    // Two are above the maximum. The others are parked for idleness at the next decision, which is
    // due at once.
    assert_eq!(POLICY.decide(&idle_too), verdict(Park(2), Some(1000)));
    let policy = Policy {
        min: 6,
        max: 6,
        ..POLICY
    };
    let missing = Measured {
        in_service: 2,
        past: scaled_up(CALM.now),
        ..CALM
    };
    assert_eq!(policy.decide(&missing), verdict(ScaleUp(4), None));
}

#[test]
fn s2_a_clock_that_steps_back_only_delays() {
    let seen = Measured {
        in_service: 2,
        busy: 2,
        past: scaled_up(ms(1010)),
        ..waiting(10)
    };
    assert_eq!(POLICY.decide(&seen), verdict(Nothing, Some(1060)));
    let idle = Measured {
        in_service: 2,
        idle_since: &[ms(1010)],
        ..CALM
    };
    assert_eq!(POLICY.decide(&idle), verdict(Nothing, Some(1310)));
    // A timeout of zero has expired all the same.
    let policy = Policy {
        cooldown: Duration::ZERO,
        idle_timeout: Duration::ZERO,
        ..POLICY
    };
    assert_eq!(policy.decide(&seen), verdict(ScaleUp(1), Some(1000)));
    assert_eq!(policy.decide(&idle), verdict(Park(1), None));
}

/// The clock jumps by years, or to its maximum: every timeout has expired, but only once.
#[test]
fn s2_s3_a_clock_that_jumps_ahead_takes_one_step() {
    const YEARS: Duration = Duration::from_secs(300_000_000);
    for now in [CALM.now + YEARS, Duration::MAX] {
        let next = now.checked_add(POLICY.cooldown);
        let pressed = Measured {
            now,
            in_service: 4,
            busy: 4,
            past: scaled_up(CALM.now),
            ..waiting(10)
        };
        let one_step = Verdict {
            decision: ScaleUp(1),
            next_at: next,
        };
        assert_eq!(POLICY.decide(&pressed), one_step);
        // Asked again at once, the policy respects the cooldown.
        let pressed = Measured {
            in_service: 5,
            busy: 5,
            past: scaled_up(now),
            ..pressed
        };
        let later = Verdict {
            decision: Nothing,
            next_at: next,
        };
        assert_eq!(POLICY.decide(&pressed), later);
        let idle = Measured {
            now,
            in_service: 6,
            busy: 2,
            idle_since: &[ms(990); 4],
            ..CALM
        };
        assert_eq!(
            POLICY.decide(&idle),
            verdict(Park(4), None),
            "busy workers stay"
        );
        let policy = Policy { min: 3, ..POLICY };
        assert_eq!(policy.decide(&idle), verdict(Park(3), None));
    }
}

#[test]
fn s5_infinite_timeouts_need_no_timer() {
    let policy = Policy {
        cooldown: Duration::MAX,
        idle_timeout: Duration::MAX,
        ..POLICY
    };
    assert_eq!(policy.decide(&waiting(1)), verdict(Nothing, None));
    assert_eq!(policy.decide(&waiting(10)), verdict(ScaleUp(1), None));
    let idle = Measured {
        in_service: 2,
        idle_since: &[ms(1)],
        ..CALM
    };
    assert_eq!(policy.decide(&idle), verdict(Nothing, None));
}

#[test]
fn s5_an_idle_pool_at_min_needs_no_timer() {
    for min in [1, 8] {
        let policy = Policy { min, ..POLICY };
        let seen = Measured {
            in_service: min,
            busy: 0,
            idle_since: &[ms(10); 8],
            past: scaled_up(ms(5)),
            ..CALM
        };
        assert_eq!(policy.decide(&seen), verdict(Nothing, None));
    }
}

#[test]
fn s2_for_a_cooldown_parked_workers_count_as_idle() {
    let mut past = NEVER;
    past.note(Park(2), ms(900), POLICY.cooldown);
    past.note(Park(1), ms(949), POLICY.cooldown);
    past.note(Park(2), ms(990), POLICY.cooldown);
    let seen = |depth| Measured {
        capacity: 5,
        past,
        ..waiting(depth)
    };
    assert_eq!(POLICY.decide(&seen(5)), verdict(Nothing, Some(1040)));
    assert_eq!(POLICY.decide(&seen(6)), verdict(ScaleUp(1), Some(1050)));
    // An earlier run of parks is forgotten.
    past.note(Park(1), ms(2000), POLICY.cooldown);
    let seen = Measured {
        now: ms(2001),
        capacity: 5,
        waiting_since: Some(ms(2001)),
        past,
        ..waiting(4)
    };
    assert_eq!(POLICY.decide(&seen).decision, ScaleUp(1));
}
