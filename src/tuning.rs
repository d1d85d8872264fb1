//! Every tuned constant: numbers that measurement or feel has chosen, and that change no promise.
//!
//! At most 25 of them are not derived from others. Each names its unit, its reason, and the
//! question of `compare` (in `benches/src`) that shows a change of it, or says that it was chosen
//! by feel. The table under "Ablation" in `docs/benchmarks.md` shows what most of them are worth.
//! On a machine with many cores, begin with [`SEARCH_ROUNDS`], [`STEAL_BATCH`] and [`FENCED_POPS`].
//!
//! Promises, bounds, sizes and encodings stay beside their code. Models of loom and programs under
//! shuttle explore every schedule, so numbers that make schedules longer are small there.

use std::time::Duration;

/// Returns `shuttle` under shuttle, and `value` otherwise.
const fn shuttled(value: u32, shuttle: u32) -> u32 {
    if cfg!(shuttle) { shuttle } else { value }
}

/// Returns `small` in models and under shuttle, and `value` otherwise.
const fn modelled(value: usize, small: usize) -> usize {
    if cfg!(any(loom, shuttle)) {
        small
    } else {
        value
    }
}

// Waiting: see `sync/backoff.rs` and `runtime/wait/spin.rs`.

/// Time. How long a wait spins before it blocks: about as long as blocking and being woken take.
/// `round-trip`.
pub(crate) const SPIN: Duration = Duration::from_micros(5);

/// Count. How often the number of waits without a spin doubles, up to 31 of 32. A wait whose spins
/// are always in vain then spends 3 % of a spin. `round-trip`, `efficiency`.
pub(crate) const SPIN_DOUBLINGS: u32 = 5;

/// Count. The yields of a wait that does not spin, of a submitter before it joins the line, and of
/// a batch's consumer: each may give the core to a worker. No question gained by more. No model
/// needs them. `one-producer`, `small-jobs`, `round-trip`.
pub(crate) const YIELDS: u32 = if cfg!(loom) { 0 } else { shuttled(8, 1) };

/// Count. The steps of a structured wait that spin, each twice as long as the last: some
/// microseconds together, the time of a theft. `sections`, `sort`.
pub(crate) const STRUCTURED_SPINS: u32 = shuttled(7, 0);

/// Wall time. How long one wait yields. A yield on a core that no other thread wants takes a
/// hundredth of that. `waits`.
pub(crate) const YIELD_BUDGET: Duration = Duration::from_micros(50);

/// Wall time. A yield that takes this long is judged; a shorter one is no time slice. `waits`.
pub(crate) const LONG_YIELD: Duration = Duration::from_micros(200);

// Idle workers: see `runtime/worker/idle_policy.rs` and `protocol/idle.rs`.

/// Time. How long a worker without a job stays parked before rayon gets its thread. Waking it costs
/// a third of waking rayon's sleeper, so it should outlast the gaps of a slow stream of jobs. But a
/// parked worker does not help a `par_iter`. By feel. `idle`.
pub(crate) const IDLE_TIME: Duration = Duration::from_millis(5);

/// Count. The rounds of a search after a short idle time. Between two, the worker yields, most
/// likely to the producer. With half as many a round trip takes up to twice as long; with twice as
/// many a lone job costs more CPU. `round-trip`, `idle`.
pub(crate) const SEARCH_ROUNDS: u32 = shuttled(8, 2);

/// Time. An idle time is short if a longer search might have avoided it. Most of it is the time
/// that a woken thread takes to run. `round-trip`, `idle`.
pub(crate) const SHORT_IDLE: Duration = Duration::from_micros(100);

/// Time. How long after its last round a searcher counts as running. A round, and a yield on a core
/// that no other thread wants, take a tenth of that. `poisson-50`.
pub(crate) const SEARCHER_DEADLINE: Duration = Duration::from_micros(20);

/// Count. A theft was worth it if it kept the thief busy for this many times its duration. `million`
/// gains with up to 4. With 50 us in its place, a scope of four tasks of 10 us took 1.5 of the time:
/// `sections`.
pub(crate) const WORTHY_THEFT: u32 = 4;

// A full queue: see `sync/backoff/full_queue.rs` and `protocol/admission`.

/// Count. One part in this many of the capacity is a batch: so many places are granted to waiters
/// together, lie in all permit caches, and are used by the workers between two checks of a full
/// queue. `small-jobs`, `million`.
pub(crate) const BATCH_PART: u64 = 4;

/// Count. The most jobs that a thread brings to a full queue between two checks. `million`.
pub(crate) const UNCHECKED_JOBS: u64 = 128;

/// Count. The most places in the cache of one thread. With this many, the cost of the lock that
/// fills it is negligible. `fib-scope`, `million`.
pub(crate) const CACHED_PLACES: u64 = 32;

/// Time. How long a blocked submitter waits for a batch of places before it insists on the first.
/// This bounds its delay. Where jobs are long it costs one needless wake-up in that time: 1 % of a
/// core. Models have no timeouts: there a submitter insists at once. `efficiency`, `small-jobs`.
pub(crate) const BATCHED_WAIT: Duration = Duration::from_millis(if cfg!(loom) { 0 } else { 1 });

// Deques: see `protocol/deque.rs`.

/// Count. The most jobs that a thief takes at once. A theft costs a heavy fence, some microseconds,
/// so it should be worth it with jobs of some hundred nanoseconds. `million`, `small-jobs`.
pub(crate) const STEAL_BATCH: usize = modelled(512, 2);

/// Count. The pops with a fence that take as long as one heavy fence. After this many without a
/// theft the owner pops without a fence. `sections`.
pub(crate) const FENCED_POPS: u32 = modelled(512, 4) as u32;

// Turns: see `runtime/turn.rs`.

/// Count. The most short jobs between two readings of the clock: one reading takes as long as two
/// tiny jobs. As many may be long before a worker that runs jobs in place checks a full queue
/// again. `four-producers`, `million`.
pub(crate) const TURN_STRIDE: u32 = 32;

/// Time. A job that takes longer is long: the clock is read after each such job. `million`.
pub(crate) const LONG_JOB: Duration = Duration::from_micros(12);

// Latencies: see `metrics/sampling.rs`.

/// Nanoseconds. A job that takes less is short, and sampled. A longer one takes at least ten times
/// as long as its timing. By feel. `one-producer`, `small-jobs`.
pub(crate) const SHORT_JOB: u64 = 1_000;

/// Count, a power of two. One in `SAMPLE` short jobs is timed. A timed job costs 100 ns.
/// `one-producer`, `four-producers`.
pub(crate) const SAMPLE: u64 = 32;

// Batches: see `api/batch`.

/// Time. If a batch of pulls takes less, the next one is larger. If results are taken at shorter
/// intervals, the items under way are counted less often. `small-jobs`.
pub(crate) const BRIEF_PULLS: Duration = Duration::from_micros(10);

/// Count. If no more chunks wait, a worker yields to a consumer that has yielded to it. By feel.
pub(crate) const FEW_CHUNKS: usize = 4;

// Timers: pauses between two checks of conditions that no thread may announce.

/// Time. The first pause of the timer, a shutdown and a broadcast. An activation is left as long to
/// the threads in rayon while others are unstarted. A thread that sleeps in rayon comes in a tenth
/// of that; one that helps a rayon job may take arbitrarily long. On a busy machine a woken thread
/// waits as long for its core. By feel: no question depends on it.
pub(crate) const RECHECK: Duration = Duration::from_millis(1);

/// Time. How long jobs wait, while all workers run and none starts, before rayon is asked for help.
/// Most jobs are shorter, and only a thread that waits inside rayon takes up help. By feel:
/// `tests/through_rayon.rs` waits for it.
pub(crate) const STALL: Duration = Duration::from_millis(10);

// Derived from others.

/// The longest pause between two checks: of stalled jobs while none starts, of threads that missed
/// a broadcast, and between two tries to start a thread that the system refuses.
pub(crate) const RECHECK_MAX: Duration = RECHECK.saturating_mul(512);

/// The longest pause between two checks of stalled jobs while some start.
pub(crate) const STALL_MAX: Duration = STALL.saturating_mul(8);

/// How long help is valid after it was sent, even if other jobs have started since. It spans some
/// time slices, in which a thread that rayon wakes gets a core.
pub(crate) const HELP_TIME: Duration = STALL.saturating_mul(2);

/// How long an activation is sent on before a thread in a nested wait performs it. A sleeper that
/// rayon wakes comes in a tenth of that.
pub(crate) const HOPPING: Duration = Duration::from_micros(RECHECK.as_micros() as u64 / 2);

/// Without CPU clocks of threads, a yield of this length counts as lost.
pub(crate) const SLICE: Duration = LONG_YIELD.saturating_mul(5);

/// The first ban on yields: some time slices.
pub(crate) const FIRST_BAN: Duration = SLICE.saturating_mul(10);

/// The rounds after a long idle time: no job was about to come then, and likely none is now.
pub(crate) const LONE_ROUNDS: u32 = SEARCH_ROUNDS.div_ceil(4);

/// A smaller fill of a permit cache is not worth one acquisition of the lock.
pub(crate) const LEAST_CACHED: u64 = modelled(CACHED_PLACES as usize / 8, 2) as u64;

/// A thief asks for fences after a theft of at most this many values. With more, the heavy fence
/// costs little for each.
pub(crate) const SMALL_THEFT: usize = modelled(FENCED_POPS as usize / 32, 2);

/// The yields of a structured wait that has spun: half as many, since it has polled for jobs
/// before. `fib-scope`.
pub(crate) const STRUCTURED_YIELDS: u32 = YIELDS.div_ceil(2);

/// A source that takes less is quick, and may be pulled while a result is there. A few times what a
/// thread takes to block and to be woken.
pub(crate) const QUICK_SOURCE: Duration = BRIEF_PULLS.saturating_mul(5);

/// The most items that a consumer pulls before it polls for a result: as many as a chunk has.
/// Reading results that workers have just written costs as much as several short items.
/// `small-jobs`.
pub(crate) const PULLS: usize = shuttled(64, 2) as usize;

/// The most results that a consumer yields between two counts of the items under way. Without it a
/// batch of empty items takes twice as long. `small-jobs`.
pub(crate) const UNCOUNTED_RESULTS: u32 = (PULLS as u32).div_ceil(4);

/// With fewer items under way a consumer blocks without a yield: the results would not be worth a
/// time slice.
pub(crate) const YIELD_WORTHY: usize = if cfg!(shuttle) { PULLS } else { PULLS / 2 };
