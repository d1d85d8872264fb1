//! The mailboxes of a pool's threads, and where a thread reads: see `broadcast.rs` for the protocol.

use std::{collections::VecDeque, mem, sync::Arc};

use crossbeam_utils::CachePadded;

use crate::{
    runtime::worker::{self, Current},
    sync::{
        AtomicBool, AtomicUsize, Mutex, Ordering, lock,
        rayon_core::{self, Yield},
        slots::Slots,
        thread::{self, Thread},
    },
};

/// How many nudges may lie in the queue of a thread that does not come to take them. Each is some words
/// there, and an allocation that all threads share. By feel.
const NUDGES: usize = if cfg!(shuttle) { 2 } else { 1024 };

/// With how many of them a thread that reads in its loop takes them out.
const LITTER: usize = if cfg!(shuttle) { 1 } else { 16 };

/// One broadcast, as its letters know it.
pub(crate) struct Call {
    /// Letters that are not gone.
    pub(crate) left: AtomicUsize,
    /// Whether a thread has to be nudged again.
    pub(crate) missed: AtomicBool,
    pub(crate) inside: bool,
    caller: Thread,
}

impl Call {
    /// A broadcast of the calling thread. `inside` says that it is some pool's.
    pub(crate) fn new(inside: bool) -> Self {
        Self {
            left: AtomicUsize::new(0),
            missed: AtomicBool::new(false),
            inside,
            caller: thread::current(),
        }
    }
}

/// What a thread is to run: the part of this index.
pub(crate) type Part<'a> = dyn Fn(usize) + Sync + 'a;

/// A part on its way.
pub(crate) struct Letter {
    part: *const Part<'static>,
    call: Arc<Call>,
}

// SAFETY: the part is Sync, and lives until its letters are gone.
unsafe impl Send for Letter {}

impl Letter {
    pub(crate) fn new(call: &Arc<Call>, part: *const Part<'static>) -> Self {
        // Relaxed: the caller itself counts, and it alone waits for zero.
        call.left.fetch_add(1, Ordering::Relaxed);
        Self {
            part,
            call: Arc::clone(call),
        }
    }

    /// Runs the part of the calling thread, of this index.
    fn open(self, index: usize) {
        // SAFETY: the caller waits until this letter is dropped.
        let part = unsafe { &*self.part };
        part(index);
    }
}

impl Drop for Letter {
    fn drop(&mut self) {
        // Release: who sees it gone sees what the part did. The call is ours, and may be used after.
        if self.call.left.fetch_sub(1, Ordering::Release) == 1 {
            self.call.caller.unpark();
        }
    }
}

/// The mailboxes of a pool.
pub(crate) struct Post {
    pub(crate) boxes: Slots<CachePadded<Mailbox>>,
}

#[derive(Default)]
pub(crate) struct Mailbox {
    unread: AtomicBool,
    nudges: AtomicUsize,
    contents: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    letters: VecDeque<Letter>,
    /// Where the thread is.
    in_loop: bool,
    blocked: bool,
    gone: bool,
}

/// What became of a letter.
#[must_use]
pub(crate) enum Put {
    /// It was declined at once.
    Refused,
    InLoop,
    WithRayon,
}

impl Mailbox {
    pub(crate) fn put(&self, letter: Letter) -> Put {
        let mut contents = lock(&self.contents);
        if contents.gone || contents.blocked && letter.call.inside {
            drop(contents);
            return Put::Refused;
        }
        contents.letters.push_back(letter);
        self.unread.store(true, Ordering::Relaxed);
        if contents.in_loop {
            Put::InLoop
        } else {
            Put::WithRayon
        }
    }

    fn take(&self) -> Option<Letter> {
        let mut contents = lock(&self.contents);
        let letter = contents.letters.pop_front();
        self.unread
            .store(!contents.letters.is_empty(), Ordering::Relaxed);
        letter
    }

    /// Declines these letters, after `change`.
    fn decline(&self, change: impl FnOnce(&mut Contents), these: impl Fn(&Letter) -> bool) {
        let mut contents = lock(&self.contents);
        change(&mut contents);
        if contents.letters.is_empty() {
            return;
        }
        let letters = mem::take(&mut contents.letters);
        let (declined, kept): (VecDeque<_>, VecDeque<_>) = letters.into_iter().partition(these);
        self.unread.store(!kept.is_empty(), Ordering::Relaxed);
        contents.letters = kept;
        drop(contents);
        drop(declined);
    }

    /// Takes back the letter of this call.
    pub(crate) fn withdraw(&self, call: &Arc<Call>) {
        self.decline(|_| (), |letter| Arc::ptr_eq(&letter.call, call));
    }

    /// Whether a letter of this call lies here, and its thread may not know.
    pub(crate) fn is_unaware(&self, call: &Arc<Call>) -> bool {
        let contents = lock(&self.contents);
        let of_call = |letter: &Letter| Arc::ptr_eq(&letter.call, call);
        // One in its loop comes back to it; but not as long as it waits for who is inside.
        let is_reached = contents.in_loop && !call.inside || self.is_nudged();
        contents.letters.iter().any(of_call) && !is_reached
    }

    /// To be asked after a letter was put.
    pub(crate) fn is_nudged(&self) -> bool {
        self.nudges.load(Ordering::Relaxed) > 0
    }
}

impl Post {
    /// For a pool whose threads below this index are not spare. The boxes of spare ones remain empty.
    pub(crate) fn new(first_spare: usize) -> Self {
        Self {
            boxes: Slots::new(first_spare),
        }
    }

    /// The boxes of the threads below this index, which were started.
    pub(crate) fn boxes_below(&self, threads: usize) -> impl Iterator<Item = &Mailbox> {
        (0..threads).map(|index| &*self.boxes[index])
    }

    /// Whether the thread of this index has something to read. For that thread, in its loop.
    #[inline]
    pub(crate) fn has_mail(&self, index: usize) -> bool {
        self.boxes[index].unread.load(Ordering::Relaxed)
    }

    /// As `has_mail`, where the lock is what makes it true.
    fn look(&self, index: usize) -> bool {
        !lock(&self.boxes[index].contents).letters.is_empty()
    }

    /// The calling thread, of this index, is in its loop from now on, or not any more. In the second case it
    /// has to read afterwards.
    pub(crate) fn set_in_loop(&self, index: usize, in_loop: bool) {
        lock(&self.boxes[index].contents).in_loop = in_loop;
    }

    /// The calling thread, of this index, is about to block: nobody inside may wait for it.
    pub(crate) fn begin_to_block(&self, index: usize) {
        let blocked = |contents: &mut Contents| contents.blocked = true;
        self.boxes[index].decline(blocked, |letter| letter.call.inside);
    }

    pub(crate) fn end_blocking(&self, index: usize) {
        lock(&self.boxes[index].contents).blocked = false;
    }

    /// The calling thread, of this index, has left rayon, and is about to end.
    pub(crate) fn close(&self, index: usize) {
        self.boxes[index].decline(|contents| contents.gone = true, |_| true);
    }

    /// A thread waits in one of rayon's waits.
    fn found_waiting(&self, index: usize) {
        self.boxes[index].decline(|_| (), |letter| letter.call.inside);
    }

    /// A thread is with rayon, and cannot read now; nothing will tell it when it can.
    fn missed(&self, index: usize) {
        self.found_waiting(index);
        for letter in &lock(&self.boxes[index].contents).letters {
            letter.call.missed.store(true, Ordering::Release);
            letter.call.caller.unpark();
        }
    }

    /// Whether a worker is in its loop.
    #[cfg(test)]
    pub(crate) fn is_any_in_loop(&self, threads: usize) -> bool {
        let mut boxes = self.boxes_below(threads);
        boxes.any(|one| lock(&one.contents).in_loop)
    }

    /// Counts a nudge for every thread of rayon's pool, if none has too many. Under the staff's lock.
    pub(crate) fn count_nudges(&self, threads: usize) -> bool {
        let nudges = || self.boxes_below(threads).map(|one| &one.nudges);
        if nudges().any(|nudges| nudges.load(Ordering::Relaxed) >= NUDGES) {
            return false;
        }
        for nudges in nudges() {
            nudges.fetch_add(1, Ordering::Relaxed);
        }
        true
    }
}

/// Runs the parts that wait for the calling thread, at the base of its loop.
#[cold]
pub(crate) fn read_in_loop(current: &Current) {
    let (post, index) = (&current.inner().post, current.index());
    let mailbox = &post.boxes[index];
    // No more tries than nudges: if jobs wait, giving way sends a call, which may come to lie on top of them,
    // and be all that a try takes out. The jobs are not run meanwhile.
    for _ in 0..=mailbox.nudges.load(Ordering::Relaxed) {
        while let Some(letter) = mailbox.take() {
            current.serve_nobody();
            letter.open(index);
        }
        // One gift each, so that none of them looks as if it waited.
        if mailbox.nudges.load(Ordering::Relaxed) < LITTER
            || current.give_way(rayon_core::yield_local) != Some(Yield::Executed)
        {
            return;
        }
    }
}

/// The same for a thread that is with rayon, at the base there.
pub(crate) fn read_beside_loop(current: &Current) {
    let (inner, index) = (current.inner(), current.index());
    if !inner.post.look(index) {
        return;
    }
    current.run_errand(|| {
        while let Some(letter) = inner.post.boxes[index].take() {
            letter.open(index);
        }
    });
}

/// What a nudge does on its thread.
pub(crate) fn take_nudge() {
    // Only threads of the pool run what is spawned into its rayon pool.
    let Some(current) = worker::current() else {
        return;
    };
    // Before the look: see the head of this file. The lock orders it.
    let mailbox = &current.inner().post.boxes[current.index()];
    mailbox.nudges.fetch_sub(1, Ordering::Relaxed);
    ask_where(current);
}

/// What is asked by [`Threads::ask_around`](crate::runtime::rayon_host::threads::Threads::ask_around).
pub(crate) fn take_question() {
    if let Some(current) = worker::current() {
        ask_where(current);
    }
}

/// A thread was found awake in rayon, and does not know at which of its waits.
fn ask_where(current: &Current) {
    let (inner, index) = (current.inner(), current.index());
    if !inner.post.look(index) {
        return;
    }
    if current.is_in_job() {
        inner.post.found_waiting(index);
        return;
    }
    let look = Look {
        index,
        gift: current.gift(),
    };
    rayon_core::spawn(worker::call(inner.me(), worker::Errand::Look(look)));
}

/// Sent by a thread to itself: it is run by the same wait of rayon as what sent it.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    index: usize,
    /// Which of rayon's gifts the thread was running, if it was.
    gift: usize,
}

impl Look {
    /// `at_base` says that the calling thread has this from rayon's main loop.
    pub(crate) fn answer(self, current: &Current, at_base: bool) {
        let inner = current.inner();
        if self.index != current.index() {
            // Stolen.
            if inner.post.look(self.index) && !inner.threads.nudge(&inner.me()) {
                inner.post.missed(self.index);
            }
        } else if at_base {
            read_beside_loop(current);
        } else if current.is_with_rayon() {
            inner.post.missed(self.index);
        } else if current.gift() == self.gift {
            // The gift itself waits, or it would have ended.
            inner.post.found_waiting(self.index);
        } else {
            ask_where(current);
        }
    }
}
