//! Rule M3 from outside: other programs read a scrape of the example `http_server`. docs/metrics.md
//! and docs/grafana.json name exactly the existing metrics.
#![cfg(unix)]

#[path = "../../../tests/support/server.rs"]
mod server;
#[path = "../../../tests/support/mod.rs"]
mod support;

use std::{
    collections::BTreeSet,
    fs,
    io::{ErrorKind, Write},
    path::Path,
    process::{Command, Output, Stdio},
};

use adaptive_pool::Pool;
use prometheus::core::Collector;
use prometheus_parse::{Scrape, Value};
use serde_json::Value as Json;
use server::Server;
use support::watched;

/// A server that has handled every kind of request.
fn used_server() -> Server {
    let server = Server::start(&["--workers", "2", "--max-bytes", "1K"]);
    for n in 1..=20 {
        assert_eq!(server.post("/jobs", &vec![b'x'; 50 * n]).status, 200);
    }
    assert_eq!(server.post("/jobs", &[b'x'; 2000]).status, 413);
    server
}

#[test]
fn m3_an_independent_parser_reads_the_scrape_of_a_server() {
    watched(|| {
        let server = used_server();
        let response = server.get("/metrics");
        let kind = response.header("content-type").unwrap();
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        let text = response.text();
        let lines = text.lines().map(|line| Ok(line.to_owned()));
        let scrape = Scrape::parse(lines).unwrap();
        let value = |name: &str| {
            let sample = scrape.samples.iter().find(|sample| sample.metric == name);
            sample.unwrap_or_else(|| panic!("{name} is missing"))
        };
        let completed = value("adaptive_pool_jobs_completed_total");
        assert_eq!(completed.value, Value::Counter(20.0));
        assert_eq!(completed.labels.get("pool"), Some("jobs"));
        let capacity = value("adaptive_pool_queue_capacity");
        assert_eq!(capacity.value, Value::Gauge(64.0));
        let Value::Histogram(run) = &value("adaptive_pool_job_run_seconds").value else {
            panic!("not a histogram");
        };
        assert_eq!(run.last().unwrap().less_than, f64::INFINITY);
        assert_eq!(run.last().unwrap().count, 20.0);
        for name in all_metrics() {
            assert!(scrape.docs.contains_key(&name), "{name} has no help");
        }
    });
}

/// `None` if promtool is not installed.
fn promtool(arguments: &[&str], input: &str) -> Option<Output> {
    let child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("SKIPPED: there is no promtool here (Debian: the package prometheus)");
            return None;
        }
        child => child.unwrap(),
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    Some(child.wait_with_output().unwrap())
}

#[test]
fn m3_promtool_has_no_complaint() {
    watched(|| {
        let text = used_server().get("/metrics").text();
        let Some(output) = promtool(&["check", "metrics"], &text) else {
            return;
        };
        assert!(output.status.success(), "{output:?}");
        assert!(
            output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
        // promtool does complain about this one.
        let wrong = "# TYPE jobs counter\njobs 1\n";
        let output = promtool(&["check", "metrics"], wrong).unwrap();
        assert!(!output.status.success());
    });
}

/// The metrics of a pool, by its collector.
fn all_metrics() -> BTreeSet<String> {
    let pool = Pool::builder().workers(1).build().unwrap();
    let families = pool.collector().collect();
    families.iter().map(|family| family.name().into()).collect()
}

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    fs::read_to_string(path).unwrap()
}

/// All words of a text that look like a metric of the crate, without the suffixes of a histogram's
/// series.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let histograms = all_metrics();
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("adaptive_pool_"))
        // The tests of the member `worker` check these.
        .filter(|word| !word.starts_with("adaptive_pool_nats_"))
        .map(|word| {
            let bare = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| word.strip_suffix(end));
            match bare.filter(|bare| histograms.contains(*bare)) {
                Some(bare) => bare.to_owned(),
                None => word.to_owned(),
            }
        })
        .collect()
}

#[test]
fn m3_the_docs_list_every_metric_and_nothing_else() {
    let text = read("metrics.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let mut listed = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let &["", name, unit, meaning, ""] = cells.as_slice() else {
            panic!("{row}");
        };
        assert!(!unit.is_empty() && !meaning.is_empty(), "{row}");
        let name = name.trim_matches('`').to_owned();
        assert!(listed.insert(name), "twice: {row}");
    }
    assert_eq!(listed, all_metrics());
    assert_eq!(metrics_in(&text), all_metrics(), "in the questions");
}

/// The queries of the docs: each line of a `promql` block, or the whole block if it is one query.
fn queries_of_the_docs() -> Vec<String> {
    let text = read("metrics.md");
    let blocks = text.split("```promql\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    blocks
        .flat_map(|block| {
            block
                .replace("\n  ", " ")
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

fn dashboard() -> Json {
    serde_json::from_str(&read("grafana.json")).unwrap()
}

/// Every `expr` of the dashboard.
fn queries_of_the_dashboard() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries = targets.map(|target| target["expr"].as_str().unwrap());
    queries.map(str::to_owned).collect()
}

#[test]
fn m3_the_dashboard_queries_every_metric_and_no_other() {
    let queries = queries_of_the_dashboard();
    for query in &queries {
        for metric in metrics_in(query) {
            assert!(all_metrics().contains(&metric), "{query}");
        }
        assert!(
            query.contains(r#"{pool=~"$pool"}"#),
            "of which pool: {query}"
        );
    }
    assert_eq!(metrics_in(&queries.join("\n")), all_metrics());
}

/// The requirements of Grafana for an imported dashboard.
#[test]
fn m3_the_dashboard_can_be_imported() {
    let dashboard = dashboard();
    // An id would be that of another dashboard.
    assert!(dashboard["id"].is_null());
    assert!(dashboard["title"].is_string() && dashboard["schemaVersion"].as_u64() >= Some(36));
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables
        .iter()
        .map(|v| v["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["datasource", "pool"]);
    assert_eq!(variables[0]["type"], "datasource");
    assert_eq!(variables[0]["query"], "prometheus");
    assert_eq!(
        variables[1]["definition"],
        "label_values(adaptive_pool_queue_capacity, pool)"
    );

    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id twice");
        assert!(["stat", "timeseries"].contains(&panel["type"].as_str().unwrap()));
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string());
        let mut refs = BTreeSet::new();
        for target in panel["targets"].as_array().unwrap() {
            assert!(refs.insert(target["refId"].as_str().unwrap()));
            assert_eq!(target["datasource"]["uid"], "${datasource}");
        }
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "wider than the grid");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "panels overlap: {}", panel["title"]);
            }
        }
    }
}

#[test]
fn m3_promtool_understands_every_query() {
    watched(|| {
        let docs = queries_of_the_docs();
        assert!(docs.len() >= 9, "{docs:?}");
        let dashboard = queries_of_the_dashboard();
        let rules: Vec<Json> = docs
            .iter()
            .chain(&dashboard)
            .enumerate()
            .map(|(n, query)| {
                let query = query.replace("$__rate_interval", "1m");
                serde_json::json!({ "record": format!("query:number_{n}"), "expr": query })
            })
            .collect();
        let groups = serde_json::json!({ "groups": [{ "name": "queries", "rules": rules }] });
        // JSON is YAML.
        let Some(output) = promtool(&["check", "rules", "/dev/stdin"], &groups.to_string()) else {
            return;
        };
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        let found = format!("{} rules found", docs.len() + dashboard.len());
        assert!(said.contains(&found), "{said}");
    });
}
