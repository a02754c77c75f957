//! What is read beside the tracker over HTTP, at `metrics_addr`:
//!
//! | path | what | for |
//! |---|---|---|
//! | `/metrics` | [`super::metrics`] | Prometheus |
//! | `/stats.json` | [`stats`] | programs |
//! | `/stats` | [`page`] | people |
//! | `/healthz` | 200 while the process is alive | a supervisor that restarts |
//! | `/readyz` | 200 while every shard answers, else 503 naming those that do not | a load balancer |
//!
//! Everything is made from a [`Report`], on the threads of [`server`]: no shard
//! is asked anything, and none waits.

pub mod page;
pub mod server;
pub mod stats;

use super::metrics;
use super::report::{Report, Reporter};
use server::{Answer, Render, Route};
use std::sync::Arc;

/// All paths.
#[must_use]
pub fn routes(reporter: Reporter) -> Vec<Route> {
    let reporter = Arc::new(reporter);
    let route = |path, render: fn(&Report) -> Answer| {
        let reporter = reporter.clone();
        let render: Render = Arc::new(move || render(&reporter.report()));
        Route { path, render }
    };
    vec![
        route("/metrics", |report| Answer {
            content_type: metrics::CONTENT_TYPE,
            ..Answer::text(200, metrics::encode(report))
        }),
        route("/stats", page::answer),
        route("/stats.json", |report| Answer {
            content_type: "application/json",
            ..Answer::text(200, stats::encode(report))
        }),
        Route {
            path: "/healthz",
            render: Arc::new(|| Answer::text(200, "alive\n")),
        },
        route("/readyz", ready),
    ]
}

/// Whether every shard answers.
#[must_use]
pub fn ready(report: &Report) -> Answer {
    let silent: Vec<String> = report
        .silent_shards()
        .iter()
        .map(usize::to_string)
        .collect();
    match silent.as_slice() {
        [] => Answer::text(200, "ready\n"),
        [one] => Answer::text(503, format!("shard {one} does not answer\n")),
        many => Answer::text(503, format!("shards {} do not answer\n", many.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn shards_that_do_not_answer_are_named() {
        let report = Report {
            version: "1.2.3",
            uptime: Duration::from_secs(60),
            shards: (0..4).map(|_| Arc::default()).collect(),
            process: None,
            reloads: Arc::default(),
            state: Arc::default(),
        };
        let status = |expected: u16, text: &str| {
            assert_eq!(ready(&report), Answer::text(expected, text));
        };
        let tick = |shard: usize, seconds| {
            report.shards[shard].ticked(Duration::from_secs(seconds));
        };
        for shard in 0..4 {
            tick(shard, 60);
        }
        status(200, "ready\n");
        tick(2, 50);
        status(503, "shard 2 does not answer\n");
        tick(0, 1);
        status(503, "shards 0, 2 do not answer\n");
    }
}
