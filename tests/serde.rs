//! A snapshot survives a round trip through JSON.
mod support;

use adaptive_pool::{Pool, Snapshot};
use support::*;

#[test]
fn m1_a_snapshot_comes_back_as_it_was() {
    watched(|| {
        let pool = Pool::builder().workers(2).capacity(4).build().unwrap();
        pool.for_each(0..100, |_| ());
        let _ = pool.submit(|| panic!("in a job")).unwrap().join();
        pool.shutdown();
        let seen = pool.metrics();
        let text = serde_json::to_string(&seen).unwrap();
        let back: Snapshot = serde_json::from_str(&text).unwrap();
        assert_eq!(back, seen);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["completed"], 100);
        assert_eq!(json["run_time"]["count"], 101);
    });
}
