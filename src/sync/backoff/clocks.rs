//! The CPU time that the workers of all pools of the process use.
//!
//! Reading the clock of another thread is a system call, so it happens only after a long yield, and
//! not before it. So the time used during the yield is known except for the time used since the
//! last reading. Two long yields in a row settle it.

use std::time::Duration;

#[cfg(not(any(loom, shuttle)))]
use crate::sync::process::PerProcess;
use crate::sync::{Instant, Mutex, Rank, lock, try_lock};

#[cfg(all(target_os = "linux", not(any(loom, miri, shuttle))))]
use self::linux::{ClockId, TELLS, own, read};
#[cfg(any(not(target_os = "linux"), loom, miri, shuttle))]
use self::other::{ClockId, TELLS, own, read};

/// The workers' clocks.
#[derive(Debug)]
struct Clocks {
    running: Vec<ClockId>,
    /// The CPU time of threads that have ended.
    ended: Duration,
    /// The last reading, and its sum.
    last: Option<(Instant, Duration)>,
}

/// Returns the clocks of this process.
#[cfg(not(any(loom, shuttle)))]
fn of_process() -> &'static Mutex<Clocks> {
    static CLOCKS: PerProcess<Mutex<Clocks>> = PerProcess::new();
    CLOCKS.get(|| Mutex::new(Rank::Clocks, Clocks::new()))
}

impl Clocks {
    fn new() -> Self {
        Self {
            running: Vec::new(),
            ended: Duration::ZERO,
            last: None,
        }
    }

    /// The sum of all clocks.
    fn sum(&self) -> Duration {
        let running: Duration = self.running.iter().filter_map(|&clock| read(clock)).sum();
        running + self.ended
    }

    /// Reads the clocks. Returns how much of the time from `start` to `end` lies after the last
    /// reading, and an upper bound of the CPU time that was used in it.
    fn used_between(&mut self, start: Instant, end: Instant) -> (Duration, Duration) {
        let sum = self.sum();
        let (at, before) = self
            .last
            .replace((end, sum))
            .unwrap_or((start, Duration::ZERO));
        let took = end.saturating_duration_since(start.max(at));
        (took, sum.saturating_sub(before))
    }
}

/// Returns how much of the time from `start` to `end` can be judged. Also returns an upper bound of
/// the CPU time that workers used in it, if the system reports that. `None` while another thread
/// judges.
#[cfg(not(any(loom, shuttle)))]
pub(super) fn used_between(start: Instant, end: Instant) -> Option<(Duration, Option<Duration>)> {
    let mut clocks = try_lock(of_process())?;
    let (took, used) = clocks.used_between(start, end);
    Some((took, TELLS.then_some(used)))
}

/// Counts the CPU time of the calling thread as a worker's, until this is dropped on that thread.
#[derive(Debug)]
pub(crate) struct Clock(ClockId);

impl Clock {
    pub(crate) fn start() -> Option<Self> {
        let clock = own()?;
        #[cfg(not(any(loom, shuttle)))]
        lock(of_process()).running.push(clock);
        Some(Self(clock))
    }
}

#[cfg(not(any(loom, shuttle)))]
impl Drop for Clock {
    fn drop(&mut self) {
        let mut clocks = lock(of_process());
        clocks.running.retain(|&clock| clock != self.0);
        let used = read(self.0).unwrap_or_default();
        clocks.ended += used;
    }
}

#[cfg(all(target_os = "linux", not(any(loom, miri, shuttle))))]
mod linux {
    use std::{mem::MaybeUninit, time::Duration};

    pub(super) const TELLS: bool = true;

    pub(super) type ClockId = libc::clockid_t;

    /// Returns the CPU clock of the calling thread, which other threads can read.
    pub(super) fn own() -> Option<ClockId> {
        let mut clock = MaybeUninit::uninit();
        // SAFETY: the calling thread is alive; the call writes the clock.
        let status =
            unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), clock.as_mut_ptr()) };
        // SAFETY: it was written if the call succeeded.
        (status == 0).then(|| unsafe { clock.assume_init() })
    }

    /// Returns the clock's time, if its thread is alive and the system allows the reading.
    pub(super) fn read(clock: ClockId) -> Option<Duration> {
        let mut time = MaybeUninit::<libc::timespec>::uninit();
        // SAFETY: the call writes the time, or fails.
        let status = unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) };
        // SAFETY: it was written if the call succeeded.
        (status == 0)
            .then(|| unsafe { time.assume_init() })
            .map(|time| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }
}

#[cfg(any(not(target_os = "linux"), loom, miri, shuttle))]
mod other {
    use std::{convert::Infallible, time::Duration};

    pub(super) const TELLS: bool = false;

    pub(super) type ClockId = Infallible;

    pub(super) fn own() -> Option<ClockId> {
        None
    }

    pub(super) fn read(_: ClockId) -> Option<Duration> {
        None
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn r9_a_yield_is_judged_from_the_last_reading_on() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut clocks = Clocks::new();
        // The beginning and end of the yield, and what the workers had used by then; what is
        // judged, and what was used in it.
        let table = [
            ((0, 4), 5, (4, 5)),
            // The last reading came in between.
            ((1, 8), 6, (4, 1)),
            // It came long before.
            ((20, 24), 30, (4, 24)),
            ((24, 28), 31, (4, 1)),
        ];
        for ((from, to), used, seen) in table {
            clocks.ended = ms(used);
            let found = clocks.used_between(start + ms(from), start + ms(to));
            assert_eq!(found, (ms(seen.0), ms(seen.1)), "{from}");
        }
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    #[test]
    fn r9_what_a_worker_uses_counts_while_it_runs_and_after() {
        let sum = || lock(of_process()).sum();
        let before = sum();
        let clock = Clock::start();
        assert!(clock.is_some());
        let end = Instant::now() + Duration::from_secs(60);
        let used = || sum().saturating_sub(before);
        while used() < Duration::from_millis(1) {
            assert!(Instant::now() < end);
        }
        drop(clock);
        assert!(used() >= Duration::from_millis(1));
    }

    /// Failure 36: a thread of the parent holds the lock at the fork.
    #[cfg(all(target_os = "linux", not(miri)))]
    #[test]
    fn r9_a_forked_child_has_clocks_of_its_own() {
        use std::sync::mpsc;

        // Forks are counted from then on.
        drop(crate::Pool::builder().workers(1).build());
        let (holds, held) = mpsc::channel();
        let (done, is_done) = mpsc::channel::<()>();
        let holder = std::thread::spawn(move || {
            let _clocks = lock(of_process());
            holds.send(()).unwrap();
            let _ = is_done.recv();
        });
        held.recv().unwrap();
        // SAFETY: the child calls little more than the allocator, which handles forks itself.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: no preconditions. The alarm ends a child that hangs.
            unsafe { libc::alarm(20) };
            let is_counted = Clock::start().is_some();
            // SAFETY: no preconditions.
            unsafe { libc::_exit(if is_counted { 7 } else { 8 }) };
        }
        let mut status = 0;
        // SAFETY: the pointer is valid for a write.
        let ended = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        drop(done);
        holder.join().unwrap();
        assert_eq!(
            (ended, status),
            (pid, 7 << 8),
            "the child has to exit with 7"
        );
    }
}
