//! What the dashboard, the alert rules and the manual say of metrics, compared
//! with what the program exports: every name, label and matched value that is
//! used exists, and every metric that exists is in the manual.

use karuta::control::report::Report;
use karuta::control::web::stats;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What is exported: `control_metrics` holds that this file is what the
/// program writes.
const EXPORTED: &str = include_str!("data/metrics.txt");

const DASHBOARD: &str = include_str!("../dist/grafana/karuta.json");
const ALERTS: &str = include_str!("../dist/prometheus/alerts.yml");
const MANUAL: &str = include_str!("../docs/operation.md");

/// Labels that Prometheus itself puts on every series, and its own metric.
const OF_PROMETHEUS: &[&str] = &["job", "instance"];
const UP: &str = "up";

/// The labels of each series name, and the values that each label has.
type Exported = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn exported() -> Exported {
    let mut all = Exported::new();
    for line in EXPORTED.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let known = all.entry(name.to_owned()).or_default();
        for (label, value) in matchers(labels.strip_suffix('}').expect("an end")) {
            known.entry(label).or_default().insert(value.2);
        }
    }
    all
}

/// One matcher: its operator, whether that demands equality, and the value.
type Match = (String, bool, String);

/// Takes `a="x",b=~"y"` apart.
fn matchers(text: &str) -> Vec<(String, Match)> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find(['=', '!']).expect("an operator");
        let (label, tail) = rest.split_at(end);
        let start = tail.find('"').expect("a value");
        let (operator, tail) = tail.split_at(start);
        let end = tail[1..].find('"').expect("an end") + 1;
        let value = tail[1..end].to_owned();
        let operator = operator.trim();
        let matched = (operator.to_owned(), operator == "=", value);
        found.push((label.trim().to_owned(), matched));
        rest = tail[end + 1..].trim_start_matches([',', ' ', '\n']);
    }
    found
}

/// What an expression uses.
#[derive(Debug, Default)]
struct Used {
    metrics: BTreeSet<String>,
    /// With the metric that they are matched on.
    matched: Vec<(String, String, Match)>,
    /// Named in `by (...)` and the like.
    grouped: BTreeSet<String>,
}

/// Reads an expression of PromQL, as far as names go.
fn used(expression: &str) -> Used {
    const GROUPING: &[&str] = &["by", "without", "on", "ignoring"];
    const WORDS: &[&str] = &["and", "or", "unless", "offset", "bool"];
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let mut used = Used::default();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        if first == '[' {
            // A duration.
            rest = &rest[rest.find(']').expect("an end") + 1..];
        } else if !is_name(first) {
            assert!(first != '{', "labels without a metric: {expression}");
            rest = &rest[first.len_utf8()..];
        } else {
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let (word, tail) = rest.split_at(end);
            rest = tail;
            let next = tail.trim_start();
            if GROUPING.contains(&word) {
                let list = next.strip_prefix('(').expect("a list");
                let (list, tail) = list.split_once(')').expect("an end");
                let labels = list.split(',').map(|label| label.trim().to_owned());
                used.grouped.extend(labels);
                rest = tail;
            } else if let Some(labels) = tail.strip_prefix('{') {
                let (labels, tail) = labels.split_once('}').expect("an end");
                for (label, matched) in matchers(labels) {
                    used.matched.push((word.to_owned(), label, matched));
                }
                used.metrics.insert(word.to_owned());
                rest = tail;
            } else {
                let is_function = ["(", "by ", "by(", "without ", "without("]
                    .iter()
                    .any(|start| next.starts_with(start));
                if !is_function && !first.is_ascii_digit() && !WORDS.contains(&word) {
                    used.metrics.insert(word.to_owned());
                }
            }
        }
    }
    used
}

/// Complains of what an expression uses and nobody exports; returns the labels
/// that its result may have.
fn check(place: &str, expression: &str, exported: &Exported) -> BTreeSet<String> {
    let used = used(expression);
    assert!(
        !used.metrics.is_empty(),
        "{place} uses no metric: {expression}"
    );
    let mut labels: BTreeSet<String> = OF_PROMETHEUS.iter().map(|&l| l.to_owned()).collect();
    for metric in &used.metrics {
        if metric == UP {
            continue;
        }
        let known = exported.get(metric);
        let known = known.unwrap_or_else(|| panic!("{place}: nobody exports {metric}"));
        labels.extend(known.keys().cloned());
    }
    for (metric, label, (operator, is_equal, value)) in &used.matched {
        if OF_PROMETHEUS.contains(&label.as_str()) {
            continue;
        }
        let values = exported.get(metric).and_then(|known| known.get(label));
        let values = values.unwrap_or_else(|| panic!("{place}: {metric} has no label {label}"));
        let wanted: Vec<&str> = match operator.as_str() {
            "=~" | "!~" => value.split('|').collect(),
            _ => vec![value],
        };
        for value in wanted {
            let is_known = values.contains(value);
            assert!(
                is_known || (!is_equal && value.is_empty()),
                "{place}: {label} is never {value}"
            );
        }
    }
    for label in &used.grouped {
        assert!(
            labels.contains(label),
            "{place}: no metric there has a label {label}"
        );
    }
    labels
}

/// The names after each occurrence of `start`, as in `{{ $labels.name }}`.
fn names_after<'t>(text: &'t str, start: &str) -> Vec<&'t str> {
    let parts = text.split(start).skip(1);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    parts
        .map(|part| &part[..part.find(|c| !is_name(c)).unwrap_or(part.len())])
        .collect()
}

#[test]
fn alerts_use_what_there_is() {
    let exported = exported();
    let rules: serde_yaml::Value = serde_yaml::from_str(ALERTS).expect("YAML");
    let rules = rules["groups"][0]["rules"].as_sequence().expect("rules");
    let mut names = BTreeSet::new();
    for rule in rules {
        let name = rule["alert"].as_str().expect("a name");
        assert!(names.insert(name), "{name} is there twice");
        let expression = rule["expr"].as_str().expect("an expression");
        let labels = check(name, expression, &exported);
        for annotation in ["summary", "description"] {
            let text = rule["annotations"][annotation].as_str();
            let text = text.unwrap_or_else(|| panic!("{name} has no {annotation}"));
            for label in names_after(text, "$labels.") {
                assert!(labels.contains(label), "{name}: {annotation}: {label}");
            }
        }
        let severity = rule["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("critical" | "warning")), "{name}");
    }
    assert!(names.len() >= 10);
}

#[test]
fn the_dashboard_uses_what_there_is() {
    let exported = exported();
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    let mut expressions = 0;
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64()), "{title}");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("an expression");
            let expression = expression.replace("job=~\"$job\"", "job=~\".*\"");
            let labels = check(title, &expression, &exported);
            let legend = target["legendFormat"].as_str().expect("a legend");
            for label in names_after(legend, "{{") {
                assert!(labels.contains(label), "{title}: {legend}: {label}");
                let grouped = used(&expression).grouped;
                let is_kept = grouped.is_empty() || grouped.contains(label);
                assert!(is_kept, "{title}: {label} is summed away");
            }
            expressions += 1;
        }
    }
    assert!(expressions > 40, "{expressions}");
    for annotation in dashboard["annotations"]["list"].as_array().expect("a list") {
        check(
            "annotation",
            annotation["expr"].as_str().expect("expr"),
            &exported,
        );
    }
}

#[test]
fn the_manual_names_every_metric() {
    let families = EXPORTED.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some(match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        })
    });
    let mut documented = BTreeSet::new();
    for family in families {
        let row = format!("\n| `{family}` |");
        assert!(MANUAL.contains(&row), "docs/operation.md lacks {family}");
        documented.insert(family);
    }
    // And nothing else.
    let rows = MANUAL
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let prefixes = ["karuta_", "chihaya_", "process_"];
    for name in rows.filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))) {
        assert!(
            documented.contains(name),
            "docs/operation.md has {name}, which is not exported"
        );
    }
}

/// The label names of each row are those of the metric.
#[test]
fn the_manual_names_the_labels() {
    let exported = exported();
    let mut rows = 0;
    for line in MANUAL.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, labels, _, _] = cells[..] else {
            continue;
        };
        let name = name.trim_matches('`');
        let series = [name.to_owned(), format!("{name}_count")];
        let Some(known) = series.iter().find_map(|name| exported.get(name)) else {
            continue;
        };
        let told: BTreeSet<String> = labels
            .split(',')
            .map(|label| label.trim().trim_matches('`').to_owned())
            .filter(|label| !label.is_empty())
            .collect();
        let known: BTreeSet<String> = known.keys().cloned().collect();
        assert_eq!(told, known, "{name}");
        rows += 1;
    }
    assert!(rows > 40, "{rows}");
}

/// The fields of `/stats.json` in its table, at the upper level.
#[test]
fn the_manual_names_every_field() {
    let report = Report {
        version: "1.2.3",
        uptime: Duration::ZERO,
        shards: vec![Arc::default()],
        reloads: Arc::default(),
        state: Arc::default(),
        process: None,
    };
    let (_, table) = MANUAL.split_once("### /stats.json\n").expect("a section");
    let table = table.split("\n#").next().expect("a section");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.filter_map(|row| row.split(" |").next());
    let told: BTreeSet<String> = names
        .flat_map(|names| names.split(','))
        .map(|name| name.trim().trim_matches('`').to_owned())
        .collect();
    let fields = stats::value(&report);
    let fields = fields.as_object().expect("an object").keys();
    assert_eq!(told, fields.cloned().collect());
}

#[test]
fn the_reader_of_expressions_knows_names_from_the_rest() {
    let used = used(
        "sum by (job, le) (rate(a_total{x=\"1\", y!~\"2|3\"}[5m] offset 1h)) / on (z) b:c > 0.5 and d",
    );
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let metrics: BTreeSet<String> = names(&["a_total", "b:c", "d"]);
    assert_eq!(used.metrics, metrics);
    let grouped: BTreeSet<String> = names(&["job", "le", "z"]);
    assert_eq!(used.grouped, grouped);
    let matched: Vec<&str> = used
        .matched
        .iter()
        .map(|(_, label, _)| label.as_str())
        .collect();
    assert_eq!(matched, ["x", "y"]);
}

#[test]
#[should_panic(expected = "nobody exports karuta_nothing")]
fn an_unknown_name_is_noticed() {
    check("here", "rate(karuta_nothing[5m])", &exported());
}

#[test]
#[should_panic(expected = "karuta_drops_total has no label colour")]
fn an_unknown_label_is_noticed() {
    check("here", "karuta_drops_total{colour=\"red\"}", &exported());
}

#[test]
#[should_panic(expected = "reason is never lane_ful")]
fn an_unknown_value_is_noticed() {
    check(
        "here",
        "karuta_drops_total{reason=\"lane_ful\"}",
        &exported(),
    );
}
