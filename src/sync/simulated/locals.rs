//! Thread-local values, with those methods of std's that shuttle's lack.

use std::cell::Cell;

use shuttle::thread::LocalKey;

pub(crate) struct Key<T: 'static>(pub(crate) LocalKey<T>);

impl<T> Key<T> {
    pub(crate) fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.0.with(f)
    }
}

impl<T: Copy> Key<Cell<T>> {
    pub(crate) fn get(&'static self) -> T {
        // In std, a cell that needs no drop exists to the very end of the thread.
        let gone = |_| (self.0.init)().get();
        self.0.try_with(Cell::get).unwrap_or_else(gone)
    }

    pub(crate) fn set(&'static self, value: T) {
        self.with(|cell| cell.set(value));
    }
}

macro_rules! cells {
    ($($(#[$meta:meta])* static $name:ident: $cell:ty = const { $init:expr };)*) => {
        $($(#[$meta])*
        static $name: $crate::sync::simulated::locals::Key<$cell> =
            $crate::sync::simulated::locals::Key(::shuttle::thread::LocalKey {
                init: || $init,
                _p: ::std::marker::PhantomData,
            });)*
    };
}

pub(crate) use cells as thread_local;
