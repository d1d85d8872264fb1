//! Programs that must not compile, each beside a minimal variant that does.
//!
//! They are doc tests; the module exists only in doc-test builds. Only nightly's rustdoc checks the
//! error codes.

/// A job must be `Send`.
/// ```compile_fail,E0277
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let n = std::rc::Rc::new(1);
/// pool.spawn(move || drop(n)).unwrap();
/// ```
/// ```
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let n = std::sync::Arc::new(1);
/// pool.spawn(move || drop(n)).unwrap();
/// ```
struct JobIsSend;

/// A result must be `Send`.
/// ```compile_fail,E0277
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let _ = pool.submit(|| std::rc::Rc::new(1)).unwrap();
/// ```
/// ```compile_fail,E0277
/// let pool = adaptive_pool::Pool::new().unwrap();
/// pool.in_place_scope(|s| s.map([1], |n| std::rc::Rc::new(n)).count());
/// ```
/// ```
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let _ = pool.submit(|| std::sync::Arc::new(1)).unwrap();
/// pool.in_place_scope(|s| s.map([1], |n| std::sync::Arc::new(n)).count());
/// ```
struct ResultIsSend;

/// Items must be `Send`, and the function `Sync`.
/// ```compile_fail,E0277
/// let pool = adaptive_pool::Pool::new().unwrap();
/// pool.in_place_scope(|s| s.map([std::rc::Rc::new(1)], |n| *n).count());
/// ```
/// ```compile_fail,E0277
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let sum = std::cell::Cell::new(0);
/// pool.in_place_scope(|s| s.map([1], |n| sum.set(n)).count());
/// ```
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let sum = AtomicU32::new(0);
/// pool.in_place_scope(|s| {
///     s.map([std::sync::Arc::new(1)], |n| sum.store(*n, Ordering::Relaxed)).count()
/// });
/// ```
struct ItemIsSend;

/// Unscoped jobs must be `'static`.
/// ```compile_fail,E0597
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let n = 1;
/// let borrowed = &n;
/// let _ = pool.submit(move || *borrowed).unwrap();
/// ```
/// ```compile_fail,E0597
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let numbers = vec![1];
/// let _ = pool.map(numbers.iter(), |n| *n).count();
/// ```
/// ```
/// let pool = adaptive_pool::Pool::new().unwrap();
/// static N: u32 = 1;
/// let borrowed = &N;
/// let _ = pool.submit(move || *borrowed).unwrap();
/// let numbers: &'static Vec<u32> = Box::leak(Box::new(vec![1]));
/// let _ = pool.map(numbers.iter(), |n| *n).count();
/// ```
struct JobIsStatic;

/// A scoped job may borrow from outside the scope, but not from the body.
/// ```compile_fail,E0373
/// let pool = adaptive_pool::Pool::new().unwrap();
/// pool.in_place_scope(|s| {
///     let n = 1;
///     s.spawn(|_| assert_eq!(n, 1));
/// });
/// ```
/// ```compile_fail,E0597
/// let pool = adaptive_pool::Pool::new().unwrap();
/// pool.in_place_scope(|s| {
///     let numbers = vec![1];
///     assert_eq!(s.map(&numbers, |n| *n).count(), 1);
/// });
/// ```
/// ```
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let (n, numbers) = (1, vec![1]);
/// pool.in_place_scope(|s| {
///     s.spawn(|_| assert_eq!(n, 1));
///     assert_eq!(s.map(&numbers, |n| *n).count(), 1);
/// });
/// ```
struct BorrowOutlivesScope;

/// A borrow of a scoped job lasts until the scope ends.
/// ```compile_fail,E0505
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let numbers = vec![1];
/// pool.in_place_scope(|s| {
///     let mut items = s.map(&numbers, |n| *n);
///     items.next();
///     std::mem::forget(items);
///     drop(numbers);
/// });
/// ```
/// ```
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let numbers = vec![1];
/// pool.in_place_scope(|s| {
///     let mut items = s.map(&numbers, |n| *n);
///     items.next();
///     std::mem::forget(items);
/// });
/// drop(numbers);
/// ```
struct LentUntilTheEnd;

/// A scope must not outlive its body.
/// ```compile_fail,E0521
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let mut kept = None;
/// pool.in_place_scope(|s| kept = Some(s));
/// ```
/// ```
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let mut kept = None;
/// pool.in_place_scope(|s| kept = Some(format!("{s:?}")));
/// ```
struct ScopeEnds;

/// A scoped batch must not leave its scope. (The first error has no code.)
/// ```compile_fail
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let items = pool.in_place_scope(|s| s.map([1], |n| n));
/// ```
/// ```compile_fail,E0521
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let mut kept = None;
/// pool.in_place_scope(|s| kept = Some(s.map_unordered([1], |n| n)));
/// ```
/// ```
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let items = pool.in_place_scope(|s| s.map([1], |n| n).collect::<Vec<_>>());
/// ```
struct BatchEnds;

/// A permit or a batch must not outlive its pool.
/// ```compile_fail,E0505
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let permit = pool.reserve().unwrap();
/// drop(pool);
/// permit.spawn(|| ());
/// ```
/// ```compile_fail,E0505
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let mut items = pool.map([1], |n| n);
/// drop(pool);
/// items.next();
/// ```
/// ```
/// let pool = adaptive_pool::Pool::new().unwrap();
/// let permit = pool.reserve().unwrap();
/// permit.spawn(|| ());
/// let mut items = pool.map([1], |n| n);
/// items.next();
/// drop(items);
/// drop(pool);
/// ```
struct PoolOutlives;

/// The closure of `map` must not borrow `self`.
/// ```compile_fail,E0521
/// struct Scale(u64, adaptive_pool::Pool);
/// impl Scale {
///     fn all(&self) -> Vec<u64> {
///         self.1.map(0..9, |x| x * self.0).collect()
///     }
/// }
/// ```
/// ```
/// struct Scale(u64, adaptive_pool::Pool);
/// impl Scale {
///     fn all(&self) -> Vec<u64> {
///         let factor = self.0;
///         self.1.map(0..9, move |x| x * factor).collect()
///     }
/// }
/// ```
struct MapOwns;

/// A future that borrows the pool cannot be spawned as a `'static` task.
/// ```compile_fail,E0597
/// fn spawn(_: impl Future + Send + 'static) {}
/// let pool = adaptive_pool::Pool::new().unwrap();
/// spawn(pool.submit_async(|| 6 * 7));
/// ```
/// ```
/// fn spawn(_: impl Future + Send + 'static) {}
/// let pool = std::sync::Arc::new(adaptive_pool::Pool::new().unwrap());
/// spawn(async move { pool.submit_async(|| 6 * 7).await.unwrap().await });
/// ```
struct TaskOwns;
