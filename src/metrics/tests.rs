use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use multidb_actors::connection::RefusalReason;

use super::gauges::{Disk, Refresh};
use super::*;

/// A page that is written anew where this is set.
const REWRITE: &str = "MULTIDB_WRITE_REFERENCE";

/// What one metric is.
#[derive(Debug, Default)]
struct Described {
    help: String,
    kind: String,
    /// The values of each label.
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// A scrape in which everything has a value.
fn full_text(format: Format) -> String {
    let metrics = DaemonMetrics::new();
    metrics.actors.refused(&RefusalReason::TlsRequired);
    let gauges = Gauges {
        version: "0.1.0",
        process: Process::now(),
        memory_used_ratio: Some(0.5),
        disk: Some(Disk {
            free_bytes: 1,
            reserve_bytes: 1,
            total_bytes: 2,
            saved_bytes: Some(1),
            exclusive_bytes: Some(1),
        }),
        refreshes: vec![Refresh {
            project: "shop".to_owned(),
            age_seconds: Some(1.5),
            data_age_seconds: Some(2.5),
            period_seconds: Some(86_400),
            failures: 0,
        }],
        ..Gauges::default()
    };
    metrics.text(&gauges, format).unwrap()
}

/// The metrics of a scrape, by name.
fn described(text: &str) -> BTreeMap<String, Described> {
    let mut all: BTreeMap<String, Described> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '))
        {
            all.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            all.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if let Some((name, rest)) = line.split_once('{') {
            let plain = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .filter(|plain| all.contains_key(*plain))
                .unwrap_or(name);
            let (labels, _) = rest.split_once('}').unwrap();
            let one = all.get_mut(plain).expect("a series has a description");
            for pair in labels.split(',') {
                let (key, value) = pair.split_once('=').unwrap();
                let values = one.labels.entry(key.to_owned()).or_default();
                values.insert(value.trim_matches('"').to_owned());
            }
        }
    }
    all
}

fn all() -> BTreeMap<String, Described> {
    described(&full_text(Format::Prometheus))
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The page of all metrics.
fn page() -> String {
    let mut page = "# Metrics\n\n\
        `GET /metrics`, on the admin socket and over the network, answers in the text format of Prometheus, or of OpenMetrics for a client that accepts it. \
        [Operation](../operations.md#metrics) says how it is scraped; [the runbook](../runbook.md) what to do when an alert fires.\n\n\
        No label has the name of an instance, a user or a revision. This page is made from the registry by a test: \
        `MULTIDB_WRITE_REFERENCE=1 cargo nextest run metrics::tests`.\n\n\
        | metric | type | labels | meaning |\n| --- | --- | --- | --- |\n"
        .to_owned();
    for (name, one) in all() {
        let labels = one.labels.iter().filter(|(key, _)| *key != "le");
        let labels: Vec<String> = labels
            .map(|(key, values)| match key.as_str() {
                "project" => "`project`: of the configuration".to_owned(),
                "version" => "`version`".to_owned(),
                "reason" => "`reason`: the code of the error".to_owned(),
                _ => {
                    let values: Vec<_> = values.iter().map(String::as_str).collect();
                    format!("`{key}`: {}", values.join(", "))
                }
            })
            .collect();
        let (kind, help) = (&one.kind, one.help.trim_end_matches('.'));
        writeln!(
            page,
            "| `{name}` | {kind} | {} | {help} |",
            labels.join("; ")
        )
        .unwrap();
    }
    page
}

#[test]
fn page_of_metrics_is_that_of_the_registry() {
    let path = repository("docs/reference/metrics.md");
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    assert!(
        read("docs/reference/metrics.md") == page(),
        "docs/reference/metrics.md is out of date: run this test with {REWRITE}=1"
    );
}

#[test]
fn names_and_labels_follow_the_conventions() {
    for (name, one) in all() {
        let is_own = name.starts_with("multidb_");
        assert!(is_own || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), one.kind == "counter", "{name}");
        assert!(one.help.len() > 8, "{name}: {}", one.help);
        for (key, values) in &one.labels {
            // Prometheus gives these to each target.
            assert!(!["instance", "job"].contains(&key.as_str()), "{name}");
            let is_bound = |value: &String| {
                let mut chars = value.chars();
                chars.all(|c| c.is_ascii_lowercase() || c == '_')
            };
            let is_open = ["le", "version"].contains(&key.as_str());
            assert!(is_open || values.iter().all(is_bound), "{name}: {values:?}");
        }
    }
}

#[test]
fn both_formats_have_the_same_series() {
    let series = |format| -> BTreeSet<String> {
        let text = full_text(format);
        // Bounds are written as numbers of their own in each.
        let is_series = |line: &&str| !line.starts_with('#') && !line.contains("le=");
        let lines = text.lines().filter(is_series);
        let names = lines.filter_map(|line| line.rsplit_once(' '));
        names.map(|(name, _)| name.to_owned()).collect()
    };
    assert_eq!(series(Format::Prometheus), series(Format::OpenMetrics));
    assert!(full_text(Format::OpenMetrics).ends_with("# EOF\n"));
}

/// The names of metrics in a text, with the series of histograms.
fn names_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_name = |word: &&str| word.starts_with("multidb_") || word.starts_with("process_");
    words.filter(is_name).collect()
}

#[test]
fn alerts_and_board_use_metrics_that_exist() {
    let all = all();
    for path in [
        "packaging/prometheus/alerts.yml",
        "packaging/prometheus/alerts_test.yml",
        "packaging/grafana/multidb.json",
        "docs/runbook.md",
    ] {
        let text = read(path);
        let names = names_in(&text);
        assert!(!names.is_empty(), "{path}");
        for name in names {
            let of_histogram = ["_bucket", "_sum", "_count"].iter().any(|suffix| {
                let plain = name.strip_suffix(suffix);
                plain
                    .and_then(|plain| all.get(plain))
                    .is_some_and(|one| one.kind == "histogram")
            });
            assert!(of_histogram || all.contains_key(name), "{path}: {name}");
        }
    }
}

#[test]
fn each_alert_has_its_section_of_the_runbook_and_no_section_is_left_over() {
    let alerts = read("packaging/prometheus/alerts.yml");
    let after = |key: &'static str| {
        let lines = alerts
            .lines()
            .map(|line| line.trim_start_matches(['-', ' ']));
        lines.filter_map(move |line| line.strip_prefix(key))
    };
    let names: Vec<&str> = after("alert: ").collect();
    let led_to: Vec<&str> = after("runbook: docs/runbook.md#").collect();
    let anchors: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
    assert_eq!(led_to, anchors);
    let runbook = read("docs/runbook.md");
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    assert_eq!(sections.collect::<Vec<_>>(), names);
    for part in ["**It means**", "**Look at**", "**Do**"] {
        assert_eq!(runbook.matches(part).count(), names.len(), "{part}");
    }
}

#[test]
fn board_can_be_imported() {
    let board: serde_json::Value =
        serde_json::from_str(&read("packaging/grafana/multidb.json")).unwrap();
    assert_eq!(board["uid"], "multidb");
    let panels = board["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels
        .iter()
        .map(|one| one["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    for panel in panels {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{}", panel["title"]);
        let place = &panel["gridPos"];
        let right = place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap();
        assert!(right <= 24, "{}", panel["title"]);
    }
}
