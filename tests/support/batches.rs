//! Shared by the tests of scoped batches.

use adaptive_pool::{Pool, Scope};

pub const SIZES: [(usize, usize); 4] = [(1, 1), (2, 1), (2, 1024), (4, 16)];

pub fn pool(workers: usize, capacity: usize) -> Pool {
    let builder = Pool::builder().workers(workers).capacity(capacity);
    builder.name("batch").build().unwrap()
}

/// Either of the two iterators.
pub fn batch<'s, 'scope, T, F, R>(
    s: &'s Scope<'scope>,
    ordered: bool,
    items: impl Iterator<Item = T> + 's,
    f: F,
) -> Box<dyn Iterator<Item = R> + 's>
where
    T: Send + 'scope,
    F: Fn(T) -> R + Send + Sync + 'scope,
    R: Send + 'scope,
{
    if ordered {
        Box::new(s.map(items, f))
    } else {
        Box::new(s.map_unordered(items, f))
    }
}
