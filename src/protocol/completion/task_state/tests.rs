use std::sync::Arc;

use super::*;

#[test]
fn the_last_end_drops_the_value() {
    for ends_first in [true, false] {
        let value = Arc::new(7);
        let (queue, handle) = task(Arc::clone(&value));
        if ends_first {
            assert!(queue.claim());
            queue.finish();
            assert!(handle.is_done());
            assert_eq!(Arc::strong_count(&value), 2);
            drop(handle);
        } else {
            drop(handle);
            assert_eq!(Arc::strong_count(&value), 2);
            assert!(queue.claim());
            queue.finish();
        }
        assert_eq!(Arc::strong_count(&value), 1);
    }
}

#[test]
fn a_tombstone_and_its_handle_drop_the_value() {
    for tombstone_first in [true, false] {
        let value = Arc::new(7);
        let (queue, handle) = task(Arc::clone(&value));
        assert!(handle.claim() && queue.is_claimed() && !queue.claim());
        handle.finish();
        assert!(handle.is_done());
        if tombstone_first {
            drop(queue);
            assert_eq!(Arc::strong_count(&value), 2);
            drop(handle);
        } else {
            drop(handle);
            assert_eq!(Arc::strong_count(&value), 2);
            drop(queue);
        }
        assert_eq!(Arc::strong_count(&value), 1);
    }
}

#[test]
fn an_end_of_another_type_drops_it_as_well() {
    let value = Arc::new(7);
    let (queue, handle) = task(Arc::clone(&value));
    // SAFETY: the pointer is only coerced.
    let handle = unsafe { handle.coerce::<dyn Send + Sync>(|cell| cell) };
    drop(queue);
    assert_eq!(Arc::strong_count(&value), 2);
    drop(handle);
    assert_eq!(Arc::strong_count(&value), 1);
}

/// If a handle was polled and is dropped, its wake is dropped and not woken.
#[test]
fn a_detached_job_wakes_nothing() {
    struct Count(std::sync::atomic::AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let count = Arc::new(Count(std::sync::atomic::AtomicUsize::new(0)));
    let (queue, mut handle) = task(());
    for _ in 0..2 {
        assert!(!handle.awaits(Wake::Task(Arc::clone(&count).into())));
        assert_eq!(Arc::strong_count(&count), 2);
    }
    drop(handle);
    assert!(queue.claim());
    queue.finish();
    assert_eq!(Arc::strong_count(&count), 1);
    assert_eq!(count.0.load(std::sync::atomic::Ordering::Relaxed), 0);
}
