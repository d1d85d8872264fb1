//! Rule M3: a pool's metrics, as Prometheus receives them, parsed by an independent parser.

#[path = "../../../tests/support/mod.rs"]
mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use adaptive_pool::{Pool, Snapshot};
use prometheus::{Error, Registry, TextEncoder, core::Collector, proto::MetricType};
use prometheus_parse::{Scrape, Value};
use support::*;

fn pool(name: &str) -> Pool {
    let builder = Pool::builder().workers(2).capacity(8).name(name);
    builder.build().unwrap()
}

fn registry(pools: &[&Pool]) -> Registry {
    let registry = Registry::new();
    for pool in pools {
        registry.register(Box::new(pool.collector())).unwrap();
    }
    registry
}

fn scrape(registry: &Registry) -> Scrape {
    let text = TextEncoder::new()
        .encode_to_string(&registry.gather())
        .unwrap();
    parse(&text)
}

/// The parser's result. It skips lines that it does not understand, so they are counted.
fn parse(text: &str) -> Scrape {
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    let scrape = Scrape::parse(lines).unwrap();
    let values = text.lines().filter(|line| !line.starts_with('#')).count();
    let parsed: usize = scrape
        .samples
        .iter()
        .map(|sample| match &sample.value {
            Value::Histogram(buckets) => buckets.len(),
            _ => 1,
        })
        .sum();
    assert_eq!(parsed, values, "not all lines were understood:\n{text}");
    scrape
}

/// The value of each counter and gauge of a pool, by name and reason.
fn values(scrape: &Scrape, pool: &str) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::new();
    for sample in &scrape.samples {
        if sample.labels.get("pool") != Some(pool) {
            continue;
        }
        let name = match sample.labels.get("reason") {
            Some(reason) => format!("{}/{reason}", sample.metric),
            None => sample.metric.clone(),
        };
        let value = match &sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => *value,
            _ => continue,
        };
        if name.ends_with("_seconds_sum") || name.ends_with("_seconds_count") {
            continue;
        }
        assert_eq!(values.insert(name, value), None, "twice: {}", sample.metric);
    }
    values
}

/// The expected scrape of this snapshot.
fn expected(seen: &Snapshot) -> BTreeMap<String, f64> {
    [
        ("queue_depth", seen.depth),
        ("queue_capacity", seen.capacity),
        ("waiting_submitters", seen.waiting_submitters),
        ("workers_in_service", seen.workers_in_service),
        ("workers_busy", seen.workers_busy),
        ("workers_idle", seen.workers_idle),
        ("workers_parked", seen.workers_parked),
        ("threads", seen.threads),
        ("jobs_submitted_total", seen.submitted),
        ("jobs_admitted_total", seen.admitted),
        ("jobs_started_total", seen.started),
        ("jobs_completed_total", seen.completed),
        ("jobs_panicked_total", seen.panicked),
        ("jobs_cancelled_total", seen.cancelled),
        ("jobs_dropped_total", seen.dropped),
        ("jobs_inlined_total", seen.inlined),
        ("jobs_rejected_total/full", seen.rejected_full),
        ("jobs_rejected_total/timed_out", seen.rejected_timed_out),
        ("jobs_rejected_total/closed", seen.rejected_closed),
        ("steals_total", seen.steals),
        ("scale_ups_total", seen.scale_ups),
        ("parks_total", seen.parks),
        ("jobs_overdrawn_total", seen.overdrawn),
        ("overdrawn_jobs", seen.overdrawn_now),
        ("thread_start_failures_total", seen.thread_start_failures),
    ]
    .map(|(name, value)| (format!("adaptive_pool_{name}"), value as f64))
    .into()
}

#[test]
fn m3_a_scrape_agrees_with_the_snapshot() {
    watched(|| {
        let pool = Arc::new(
            Pool::builder()
                .workers(1)
                .capacity(3)
                .name("scraped")
                .build()
                .unwrap(),
        );
        let registry = registry(&[&pool]);
        let fresh = values(&scrape(&registry), "scraped");
        assert_eq!(fresh, expected(&pool.metrics()));

        // Different numbers, as far as possible.
        let held = occupy(&pool);
        pool.spawn(|| panic!("in a job")).unwrap();
        for _ in 0..2 {
            assert!(pool.submit(|| ()).unwrap().cancel());
        }
        let handles: Vec<_> = (0..2).map(|_| pool.submit(|| ()).unwrap()).collect();
        for _ in 0..5 {
            assert!(pool.try_spawn(|| ()).is_err());
        }
        for _ in 0..4 {
            assert!(pool.spawn_timeout(Duration::ZERO, || ()).is_err());
        }
        let full = values(&scrape(&registry), "scraped");
        assert_eq!(full["adaptive_pool_queue_depth"], 3.0);
        assert_eq!(full["adaptive_pool_queue_capacity"], 3.0);
        held.release();
        for handle in handles {
            handle.join().unwrap();
        }
        pool.close();
        for _ in 0..6 {
            assert!(pool.try_spawn(|| ()).is_err());
        }
        pool.shutdown();
        let scraped = values(&scrape(&registry), "scraped");
        assert_eq!(scraped, expected(&pool.metrics()));
        for (name, value) in [
            ("jobs_admitted_total", 6.0),
            ("jobs_cancelled_total", 2.0),
            ("jobs_panicked_total", 1.0),
            ("jobs_completed_total", 3.0),
            ("jobs_rejected_total/full", 5.0),
            ("jobs_rejected_total/timed_out", 4.0),
            ("jobs_rejected_total/closed", 6.0),
        ] {
            assert_eq!(scraped[&format!("adaptive_pool_{name}")], value, "{name}");
        }
    });
}

#[test]
fn m3_names_and_types_follow_prometheus_conventions() {
    watched(|| {
        let pool = pool("names");
        let families = registry(&[&pool]).gather();
        assert!(families.len() > 20);
        for family in families {
            let name = family.name();
            assert!(name.starts_with("adaptive_pool_"), "{name}");
            assert!(family.help().ends_with('.'), "{name}");
            let kind = family.get_field_type();
            assert_eq!(
                name.ends_with("_total"),
                kind == MetricType::COUNTER,
                "{name}"
            );
            assert_eq!(
                name.ends_with("_seconds"),
                kind == MetricType::HISTOGRAM,
                "{name}"
            );
            for metric in family.get_metric() {
                let labels: Vec<_> = metric.get_label().iter().map(|pair| pair.name()).collect();
                if name == "adaptive_pool_jobs_rejected_total" {
                    assert_eq!(labels, ["pool", "reason"]);
                } else {
                    assert_eq!(labels, ["pool"], "{name}");
                }
            }
        }
    });
}

/// The bounds, cumulative counts, count and sum of a histogram.
fn histogram(scrape: &Scrape, pool: &str, name: &str) -> (Vec<(f64, f64)>, f64, f64) {
    let of_pool = |sample: &&prometheus_parse::Sample| sample.labels.get("pool") == Some(pool);
    let mut samples = scrape.samples.iter().filter(of_pool);
    let value = |wanted: &str| {
        let sample = samples.clone().find(|sample| sample.metric == wanted);
        match sample.expect(wanted).value {
            Value::Untyped(value) | Value::Counter(value) | Value::Gauge(value) => value,
            _ => panic!("{wanted}"),
        }
    };
    let (count, sum) = (
        value(&format!("{name}_count")),
        value(&format!("{name}_sum")),
    );
    let buckets = samples.find_map(|sample| match &sample.value {
        Value::Histogram(buckets) if sample.metric == name => Some(buckets),
        _ => None,
    });
    let buckets = buckets.expect(name).iter();
    let buckets = buckets.map(|bucket| (bucket.less_than, bucket.count));
    (buckets.collect(), count, sum)
}

const HISTOGRAMS: [&str; 3] = [
    "adaptive_pool_admission_wait_seconds",
    "adaptive_pool_queue_wait_seconds",
    "adaptive_pool_job_run_seconds",
];

/// Each time lies between two that the test has measured, and in that bucket.
#[test]
fn m3_histograms_are_in_seconds() {
    watched(|| {
        let pool = Arc::new(
            Pool::builder()
                .workers(1)
                .capacity(1)
                .name("times")
                .build()
                .unwrap(),
        );
        let registry = registry(&[&pool]);
        let held = occupy(&pool);
        // Waits for the worker, and then one waits for its place.
        let before = Instant::now();
        pool.spawn(|| ()).unwrap();
        let own = Arc::clone(&pool);
        let blocked = thread::spawn(move || own.spawn(|| ()).unwrap());
        wait_for_waiters(&pool, 1);
        let long = Duration::from_millis(30);
        wait_until(|| before.elapsed() >= long);
        held.release();
        blocked.join().unwrap();
        pool.shutdown();
        let all = before.elapsed().as_secs_f64();
        let scrape = scrape(&registry);
        let seen = pool.metrics();
        for (name, summary, at_least) in [
            (HISTOGRAMS[0], seen.admission_wait, 0.0),
            (HISTOGRAMS[1], seen.queue_wait, 0.03),
            // The blocked one.
            (HISTOGRAMS[2], seen.run_time, 0.03),
        ] {
            let (buckets, count, sum) = histogram(&scrape, "times", name);
            assert_eq!((count, summary.count), (3.0, 3), "{name}");
            let bounds: Vec<f64> = buckets.iter().map(|bucket| bucket.0).collect();
            assert!(bounds.is_sorted(), "{name}: {bounds:?}");
            assert_eq!((bounds[0], bounds[24], bounds.len()), (1e-6, 100.0, 26));
            assert_eq!(bounds[25], f64::INFINITY);
            assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{buckets:?}");
            assert_eq!(buckets[25].1, count, "{name}");
            assert!(sum >= at_least && sum < 3.0 * all + 0.1, "{name}: {sum}");
            // The longest is in its proper bucket, within 1/64.
            let max = summary.max.as_secs_f64();
            let full = buckets.iter().position(|bucket| bucket.1 == count).unwrap();
            assert!(
                max <= bounds[full] * 65.0 / 64.0,
                "{name}: {max} {buckets:?}"
            );
            assert!(
                full == 0 || max >= bounds[full - 1] * 63.0 / 64.0,
                "{name}: {max} {buckets:?}"
            );
        }
    });
}

#[test]
fn m3_without_tracking_there_are_no_histograms() {
    watched(|| {
        let pool = Pool::builder()
            .workers(1)
            .latency_tracking(false)
            .name("untracked")
            .build()
            .unwrap();
        let collector = pool.collector();
        let registry = registry(&[&pool]);
        pool.submit(|| ()).unwrap().join().unwrap();
        assert!(
            collector
                .desc()
                .iter()
                .all(|desc| !desc.fq_name.ends_with("_seconds"))
        );
        let families = registry.gather();
        assert!(
            families
                .iter()
                .all(|family| !family.name().ends_with("_seconds"))
        );
        assert!(families.len() > 20);
    });
}

/// A registry compares the collected metrics with the described ones, so they must agree.
#[test]
fn m3_described_metrics_are_the_collected_ones() {
    watched(|| {
        let collector = pool("described").collector();
        let described: Vec<_> = collector.desc().iter().map(|d| d.fq_name.clone()).collect();
        let collected: Vec<_> = collector
            .collect()
            .iter()
            .map(|family| family.name().to_owned())
            .collect();
        assert_eq!(described, collected);
    });
}

#[test]
fn m3_two_pools_in_one_registry_are_distinct() {
    watched(|| {
        let (one, two) = (pool("one"), pool("two"));
        let registry = registry(&[&one, &two]);
        for _ in 0..3 {
            one.submit(|| ()).unwrap().join().unwrap();
        }
        two.submit(|| ()).unwrap().join().unwrap();
        one.shutdown();
        two.shutdown();
        let scrape = scrape(&registry);
        assert_eq!(values(&scrape, "one"), expected(&one.metrics()));
        assert_eq!(values(&scrape, "two"), expected(&two.metrics()));
        let completed = "adaptive_pool_jobs_completed_total";
        assert_eq!(values(&scrape, "one")[completed], 3.0);
        assert_eq!(values(&scrape, "two")[completed], 1.0);
    });
}

#[test]
fn m3_a_second_pool_of_one_name_is_refused_until_the_first_is_forgotten() {
    watched(|| {
        let (first, second) = (pool("same"), pool("same"));
        let registry = registry(&[&first]);
        let refused = registry.register(Box::new(second.collector()));
        assert!(matches!(refused, Err(Error::AlreadyReg)), "{refused:?}");
        let twice = registry.register(Box::new(first.collector()));
        assert!(matches!(twice, Err(Error::AlreadyReg)), "{twice:?}");
        let collector = first.collector();
        registry.unregister(Box::new(collector.clone())).unwrap();
        assert!(registry.gather().is_empty());
        registry.register(Box::new(second.collector())).unwrap();
    });
}

#[test]
fn m3_nothing_touches_the_default_registry() {
    watched(|| {
        let pool = pool("default");
        let _registry = registry(&[&pool]);
        assert!(prometheus::gather().is_empty());
        prometheus::register(Box::new(pool.collector())).unwrap();
        assert!(!prometheus::gather().is_empty());
        prometheus::unregister(Box::new(pool.collector())).unwrap();
    });
}

#[test]
fn m3_any_name_of_a_pool_is_a_label() {
    watched(|| {
        for name in [r#"a "quoted" \ name"#, "{,}=", "größe", "a b"] {
            let pool = pool(name);
            let registry = registry(&[&pool]);
            let families = registry.gather();
            let label = families[0].get_metric()[0].get_label()[0].value();
            assert_eq!(label, name);
            TextEncoder::new().encode_to_string(&families).unwrap();
        }
    });
}

/// With Miri there are no threads to count.
#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn m3_a_collector_does_not_keep_the_pool_alive_and_reports_its_end() {
    watched(|| {
        let pool = pool("m3-ended");
        let registry = registry(&[&pool]);
        let collector = pool.collector();
        for _ in 0..7 {
            pool.spawn(|| ()).unwrap();
        }
        drop(pool);
        // The kernel lists a joined thread for another moment.
        wait_until(|| threads_named("m3-ended") == 0);
        let scraped = values(&scrape(&registry), "m3-ended");
        assert_eq!(scraped["adaptive_pool_jobs_completed_total"], 7.0);
        assert_eq!(scraped["adaptive_pool_workers_in_service"], 0.0);
        assert_eq!(scraped["adaptive_pool_threads"], 0.0);
        drop(registry);
        assert!(!collector.collect().is_empty());
    });
}

/// Failure 32, from outside. A scrape reports a single snapshot, so the sum of submissions is exact
/// in each. It would not be if the counters were read again.
#[test]
fn m3_counters_never_go_backwards_over_scrapes() {
    watched(|| {
        let pool = Arc::new(pool("forward"));
        let registry = registry(&[&pool]);
        let stop = Arc::new(AtomicBool::new(false));
        let reader = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut before = BTreeMap::new();
                let mut records = vec![0.0; 3 * 28];
                let mut scrapes = 0;
                loop {
                    let is_last = stop.load(Ordering::SeqCst);
                    let scrape = scrape(&registry);
                    let now = values(&scrape, "forward");
                    assert_forward(&before, &now);
                    let records_now = records_of(&scrape, "forward");
                    let mut pairs = records.iter().zip(&records_now);
                    assert!(
                        pairs.all(|(was, is)| was <= is),
                        "{records:?} {records_now:?}"
                    );
                    records = records_now;
                    before = now;
                    scrapes += 1;
                    if is_last {
                        return (before, scrapes);
                    }
                }
            })
        };
        for n in 0..5_000 {
            match n % 4 {
                0 => drop(pool.try_spawn(|| ())),
                1 => drop(pool.spawn_timeout(Duration::ZERO, || ())),
                2 => drop(pool.submit(|| ()).unwrap().cancel()),
                _ => pool.spawn(|| ()).unwrap(),
            }
        }
        pool.shutdown();
        stop.store(true, Ordering::SeqCst);
        let (last, scrapes) = reader.join().unwrap();
        println!("{scrapes} scrapes");
        assert_eq!(last, expected(&pool.metrics()));
    });
}

/// The total of the histograms, and the sums.
fn records_of(scrape: &Scrape, pool: &str) -> Vec<f64> {
    let all = HISTOGRAMS.iter().flat_map(|name| {
        let (buckets, count, sum) = histogram(scrape, pool, name);
        assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{buckets:?}");
        assert_eq!(buckets.last().unwrap().1, count);
        buckets
            .into_iter()
            .map(|bucket| bucket.1)
            .chain([count, sum])
    });
    all.collect()
}

fn assert_forward(before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) {
    for (name, was) in before {
        if name.contains("_total") {
            assert!(now[name] >= *was, "{name}: {was} to {}", now[name]);
        }
    }
    let jobs = |what: &str| now[&format!("adaptive_pool_jobs_{what}")];
    let rejected = jobs("rejected_total/full")
        + jobs("rejected_total/timed_out")
        + jobs("rejected_total/closed");
    assert_eq!(
        jobs("submitted_total"),
        jobs("admitted_total") + rejected,
        "{now:?}"
    );
}
