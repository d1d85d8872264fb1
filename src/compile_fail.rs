//! What must not compile, and beside each the twin that does, so that only the one thing is wrong.
//! Doc tests, of a module that is not there otherwise. The codes are compared by nightly's rustdoc.

/// A job that is not Send.
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

/// A result that is not Send.
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

/// Items that are not Send; and a function that is not Sync.
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

/// The pool's own jobs borrow nothing.
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

/// A scope's job borrows what is outside of the scope, not what is in its body.
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

/// What a scope's job borrows is lent until the scope has ended.
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

/// A scope that is kept after its end.
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

/// A batch that leaves its scope. (The first has an error without a code.)
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

/// A permit, or a batch, that outlives its pool.
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

/// A closure of `map` that borrows the method's `self`.
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

/// A future that borrows the pool, where a task has to own all it needs.
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
