//! Loom models of an inbox: no message is forgotten, wherever its owner is.

use std::mem;

use loom::{model, thread};

use super::*;
use crate::{protocol::idle::WakeUp, sync::UnsafeCell};

/// A thread and its inbox.
struct Owner {
    idle: Idle,
    inbox: Inbox,
}

/// A flag that a part writes, and its sender reads.
struct Written(UnsafeCell<bool>);

// SAFETY: the models check each access.
unsafe impl Sync for Written {}

impl Owner {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            idle: Idle::for_threads(1, 1),
            inbox: Inbox::default(),
        })
    }

    fn read(&self) {
        while let Some(message) = self.inbox.take() {
            message.open(0);
        }
    }
}

/// Sends a part to this owner, calls `reach` with the outcome of the put, and blocks until the
/// message is gone. Returns whether the part ran.
fn send(owner: &Owner, reach: impl FnOnce(Put)) -> bool {
    let written = Arc::new(Written(UnsafeCell::new(false)));
    let part = {
        let written = Arc::clone(&written);
        // SAFETY: the model checks that no other thread accesses it meanwhile.
        move |_| written.0.with_mut(|written| unsafe { *written = true })
    };
    let delivery = Arc::new(Delivery::new(false));
    let part: &Part<'_> = &part;
    // SAFETY: it is the same type but for the lifetime.
    let part = unsafe { mem::transmute::<&Part<'_>, &Part<'static>>(part) };
    // SAFETY: this frame is not left before the delivery is over.
    let message = unsafe { Message::new(&delivery, part) };
    reach(owner.inbox.put(message));
    while !delivery.is_over() {
        crate::sync::thread::park();
    }
    // SAFETY: as above.
    written.0.with(|written| unsafe { *written })
}

#[test]
fn no_message_is_forgotten_by_an_owner_that_parks() {
    model(|| {
        let owner = Owner::new();
        owner.inbox.enter_loop();
        let other = Arc::clone(&owner);
        let thread = thread::spawn(move || {
            let Owner { idle, inbox } = &*other;
            idle.enroll(0);
            assert!(idle.return_to_service());
            if !inbox.is_unread() {
                assert_eq!(idle.announce_idle(0, || false), WakeUp::None);
                inbox.check_before_park(idle, 0);
                let _ = idle.park_for_good(0);
            }
            other.read();
        });
        let ran = send(&owner, |put| match put {
            Put::InLoop => owner.idle.wake_this(0),
            Put::Declined | Put::WithRayon => unreachable!(),
        });
        assert!(ran);
        thread.join().unwrap();
    });
}

#[test]
fn no_message_is_forgotten_by_an_owner_that_leaves_its_loop() {
    model(|| {
        let owner = Owner::new();
        owner.inbox.enter_loop();
        let other = Arc::clone(&owner);
        let thread = thread::spawn(move || {
            if other.inbox.leave_loop() {
                other.read();
            }
        });
        let ran = send(&owner, |put| match put {
            Put::InLoop => {}
            // A probe reaches the thread; here this thread reads in its place.
            Put::WithRayon => owner.read(),
            Put::Declined => unreachable!(),
        });
        assert!(ran);
        thread.join().unwrap();
    });
}

#[test]
fn no_message_is_forgotten_by_a_probe_on_its_way() {
    model(|| {
        let owner = Owner::new();
        owner.inbox.count_probe();
        let other = Arc::clone(&owner);
        let thread = thread::spawn(move || {
            if other.inbox.take_probe() {
                other.read();
            }
        });
        let ran = send(&owner, |_| {
            if !owner.inbox.is_probed() {
                // Another probe.
                owner.read();
            }
        });
        assert!(ran);
        thread.join().unwrap();
    });
}
