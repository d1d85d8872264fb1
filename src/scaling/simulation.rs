//! The policy over random measurements, and in a simulated pool with a clock of milliseconds.

use std::{collections::VecDeque, iter::repeat_n};

use proptest::prelude::*;

use super::{Decision::*, tests::*, *};

/// A simulated pool. An idle worker takes a job one millisecond after its arrival; the worker that
/// became idle last takes it first.
#[derive(Debug)]
struct Pool {
    policy: Policy,
    now: u64,
    capacity: usize,
    queue: VecDeque<u64>,
    /// When the job of each busy worker ends.
    running: Vec<u64>,
    idle: Vec<u64>,
    waiting_since: Option<u64>,
    past: Past,
    /// The decisions and their times.
    log: Vec<(u64, Decision)>,
}

impl Pool {
    fn new(policy: Policy, capacity: usize) -> Self {
        Self {
            idle: vec![0; policy.min],
            policy,
            now: 0,
            capacity,
            queue: VecDeque::new(),
            running: Vec::new(),
            waiting_since: None,
            past: NEVER,
            log: Vec::new(),
        }
    }

    fn in_service(&self) -> usize {
        self.running.len() + self.idle.len()
    }

    /// Advances by one millisecond, in which `jobs` arrive. Jobs beyond the capacity are refused.
    fn tick(&mut self, jobs: impl IntoIterator<Item = u64>) {
        self.now += 1;
        let now = self.now;
        let before = self.running.len();
        self.running.retain(|&end| end > now);
        let ended = before - self.running.len();
        self.idle.extend(repeat_n(now, ended));
        while let Some(job) = self.queue.front().filter(|_| !self.idle.is_empty()) {
            self.running.push(now + job);
            self.queue.pop_front();
            self.idle.pop();
        }
        self.queue.extend(jobs);
        self.queue.truncate(self.capacity);
        self.waiting_since = match self.waiting_since {
            _ if self.queue.is_empty() => None,
            since => since.or(Some(now)),
        };
        self.apply();
    }

    /// Asks the policy, checks the rules and carries the decision out, until there is nothing to
    /// do.
    fn apply(&mut self) {
        // At most one step into the range, the steps of the growth, and one park.
        for _ in 0..100 {
            let now = ms(self.now);
            let idle_since: Vec<Duration> = self.idle.iter().map(|&since| ms(since)).collect();
            let verdict = self.policy.decide(&Measured {
                now,
                depth: self.queue.len() as u64,
                held: 0,
                capacity: self.capacity as u64,
                in_service: self.in_service(),
                busy: self.running.len(),
                waiting_since: self.waiting_since.map(ms),
                idle_since: &idle_since,
                past: self.past,
            });
            self.carry_out(verdict.decision);
            if verdict.decision == Nothing {
                assert!(verdict.next_at.is_none_or(|at| at > now), "{self:?}");
                return;
            }
            self.log.push((self.now, verdict.decision));
            let Policy { min, max, .. } = self.policy;
            assert!((min..=max).contains(&self.in_service()), "S1: {self:?}");
        }
        panic!("the decisions do not converge: {self:?}");
    }

    fn carry_out(&mut self, decision: Decision) {
        let Policy { min, max, .. } = self.policy;
        let (now, in_service) = (ms(self.now), self.in_service());
        match decision {
            ScaleUp(more) => {
                let cooled = self
                    .past
                    .last_scale_up
                    .is_none_or(|last| now - last >= self.policy.cooldown);
                let quarter = in_service.div_ceil(4).min(max - in_service.min(max));
                let least = if in_service < min {
                    min - in_service
                } else {
                    quarter
                };
                assert!(
                    more == least && (cooled || in_service < min),
                    "S2: {self:?}"
                );
                self.idle.extend(repeat_n(self.now, more));
            }
            Park(fewer) if in_service > max => {
                let idle = fewer.min(self.idle.len());
                self.idle.drain(..idle);
                self.running.truncate(max - self.idle.len());
            }
            Park(fewer) => {
                assert!(self.queue.is_empty(), "S3: {self:?}");
                let since = ms(self.idle[fewer - 1]);
                let since = since.max(self.past.last_scale_up.unwrap_or(since));
                assert!(now - since >= self.policy.idle_timeout, "S3: {self:?}");
                self.idle.drain(..fewer);
            }
            Nothing => {}
        }
        self.past.note(decision, now, self.policy.cooldown);
    }
}

/// A backlog that lasts, with jobs that take hours.
#[test]
fn s2_a_backlog_of_any_size_reaches_max_in_logarithmically_many_cooldowns() {
    for max in [1, 2, 3, 5, 8, 16, 100, 1000, 30_000] {
        let policy = Policy { max, ..POLICY };
        let mut pool = Pool::new(policy, usize::MAX);
        // Always one job more than workers.
        pool.tick([10_000_000, 10_000_000]);
        while pool.in_service() < max {
            let jobs = pool.in_service() + 1 - pool.running.len() - pool.queue.len();
            pool.tick(repeat_n(10_000_000, jobs));
            assert!(pool.now < 10_000, "{max}: {} after 200", pool.in_service());
        }
        let bound = 4.0 + (max as f64).log(1.25);
        let cooldowns = pool.now as f64 / 50.0;
        // The first job runs and the second waits after two ticks.
        assert!(cooldowns <= bound + 0.05, "{max}: {cooldowns} > {bound}");
    }
}

/// Every combination of capacity, period, burst and run time, each constant.
#[test]
fn s2_s3_a_constant_load_does_not_flap() {
    let mut reversals = 0;
    for capacity in [1, 2, 10, 100] {
        for period in [1, 3, 10, 70] {
            for jobs in [1, 2, 7, 30] {
                for run in [1, 2, 9, 11, 29, 31, 100, 400] {
                    let mut pool = Pool::new(POLICY, capacity);
                    for tick in 0..1500 {
                        let arriving = if tick % period == 0 { jobs } else { 0 };
                        pool.tick(repeat_n(run, arriving));
                    }
                    for pair in pool.log.windows(2) {
                        let least = match (pair[0].1, pair[1].1) {
                            (ScaleUp(_), Park(_)) => POLICY.idle_timeout,
                            (Park(_), ScaleUp(_)) => POLICY.cooldown,
                            _ => continue,
                        };
                        reversals += 1;
                        assert!(ms(pair[1].0 - pair[0].0) >= least, "{pool:?}");
                    }
                }
            }
        }
    }
    assert!(
        reversals > 50,
        "too few of these loads change direction: {reversals}"
    );
}

/// With a capacity of 1, each job fills the queue. One worker is enough.
#[test]
fn s2_a_trickle_scales_nothing_up() {
    let mut pool = Pool::new(POLICY, 1);
    for tick in 0..2000 {
        pool.tick((tick % 10 == 0).then_some(5));
    }
    assert_eq!(pool.log, []);
}

fn policies() -> impl Strategy<Value = Policy> {
    (
        1usize..5,
        0usize..12,
        0..=4u32,
        0..40u64,
        prop_oneof![Just(0), 0..40u64],
    )
        .prop_map(|(min, more, quarters, cooldown, idle_timeout)| Policy {
            min,
            max: min + more,
            threshold: f64::from(quarters) / 4.0,
            cooldown: ms(cooldown),
            idle_timeout: ms(idle_timeout),
        })
}

/// A number of any size, mostly near the ends of the range.
fn any_size() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..4u64,
        (0..4u64).prop_map(|less| u64::MAX - less),
        any::<u64>()
    ]
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// [`Pool`] checks the rules at every step, while jobs arrive and the range changes.
    #[test]
    fn s1_s2_s3_hold_for_random_loads_and_resizes(
        policy in policies(),
        capacity in 1usize..20,
        steps in prop::collection::vec((0u8..20, 0usize..8, 0u64..60, 1usize..12, 0usize..12), 1..60),
    ) {
        let mut pool = Pool::new(policy, capacity);
        for (kind, jobs, run, min, more) in steps {
            if kind == 0 {
                (pool.policy.min, pool.policy.max) = (min, min + more);
                pool.apply();
            }
            pool.tick(repeat_n(run, jobs));
            for _ in 0..run {
                pool.tick([]);
            }
        }
        // No more jobs come. The queued ones take at most the time of 20 jobs.
        for _ in 0..1300 {
            pool.tick([]);
        }
        prop_assert_eq!(pool.queue.len() + pool.running.len(), 0);
        prop_assert_eq!(pool.in_service(), pool.policy.min);
    }

    /// Compares the timer with the decision at every later moment.
    #[test]
    fn s5_the_timer_is_set_to_the_next_decision(
        policy in policies(),
        now in 0..60u64,
        (depth, held, capacity) in (0..6u64, 0..3u64, 1..6u64),
        (in_service, busy) in (0usize..20, 0usize..20),
        (waiting, waiting_since) in (any::<bool>(), 0..70u64),
        mut idle_since in prop::collection::vec(0..70u64, 0..12),
        (scaled, last_scale_up) in (any::<bool>(), 0..70u64),
        (parked, last_park) in (0usize..4, 0..70u64),
    ) {
        idle_since.sort_unstable();
        let idle_since: Vec<Duration> = idle_since.into_iter().map(ms).collect();
        let seen = Measured {
            now: ms(now),
            depth,
            held,
            capacity,
            in_service,
            busy: busy.min(in_service),
            waiting_since: waiting.then_some(ms(waiting_since)),
            idle_since: &idle_since,
            past: Past {
                last_scale_up: scaled.then_some(ms(last_scale_up)),
                last_park: (parked > 0).then_some(ms(last_park)),
                parked,
            },
        };
        let verdict = policy.decide(&seen);
        let applied = policy.after(&seen, verdict.decision);
        // Every timeout is below 40 and begins before 70.
        let first = (now..now + 120).map(ms).find(|&now| {
            policy.decide(&Measured { now, ..applied }).decision != Nothing
        });
        prop_assert_eq!(verdict.next_at, first);
    }

    /// Nothing overflows, and the decisions lead into the range.
    #[test]
    fn s1_the_range_is_kept_at_any_size(
        (a, b) in (any_size(), any_size()),
        threshold in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0],
        (cooldown, idle_timeout) in (any_size(), any_size()),
        (now, depth, capacity) in (any_size(), any_size(), any_size()),
        (in_service, busy) in (any_size(), any_size()),
        times in prop::collection::vec(any_size(), 5),
    ) {
        let time = |n: u64| if n == u64::MAX { Duration::MAX } else { Duration::from_nanos(n) };
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let (min, max) = (size(a.min(b)).max(1), size(a.max(b)).max(1));
        let policy = Policy {
            min,
            max,
            threshold,
            cooldown: time(cooldown),
            idle_timeout: time(idle_timeout),
        };
        let mut idle_since: Vec<Duration> = times[3..].iter().copied().map(time).collect();
        idle_since.sort_unstable();
        let mut seen = Measured {
            now: time(now),
            depth,
            held: 0,
            capacity,
            in_service: size(in_service),
            busy: size(busy),
            waiting_since: Some(time(times[0])),
            idle_since: &idle_since,
            past: Past {
                last_scale_up: Some(time(times[1])),
                last_park: Some(time(times[2])),
                parked: size(busy),
            },
        };
        // At most log(2^64) / log(1.25) steps, without a cooldown.
        for _ in 0..210 {
            let verdict = policy.decide(&seen);
            prop_assert!(verdict.next_at.is_none_or(|at| at >= seen.now));
            if verdict.decision == Nothing {
                prop_assert!((min..=max).contains(&seen.in_service));
                return Ok(());
            }
            seen = policy.after(&seen, verdict.decision);
            prop_assert!((min..=max).contains(&seen.in_service));
        }
        prop_assert!(false, "the decisions do not converge");
    }
}
