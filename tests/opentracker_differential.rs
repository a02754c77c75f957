//! Debian's opentracker and karuta, side by side: the same configuration file,
//! the same requests, and answers that differ only where
//! `docs/replacing-opentracker.md` says that they do.
//!
//! Needs the package `opentracker`; runs in `.ci/run`. opentracker does not run
//! as root: started by root it changes to the user of its configuration, here
//! `nobody`, and so does karuta.

#![expect(
    clippy::disallowed_methods,
    reason = "what other programs do in their own time is waited for, for so long"
)]

mod differential {
    pub mod answers;
    pub mod differences;
    pub mod script;
    pub mod trackers;
}

use differential::answers::{Answer, compare};
use differential::differences::{DIFFERENCES, explain};
use differential::script::{Step, script, statistics};
use differential::trackers::{Site, Tracker};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long karuta may take to count what it was told.
const PATIENCE: Duration = Duration::from_secs(3);

const DOCUMENT: &str = include_str!("../docs/replacing-opentracker.md");

#[test]
#[ignore = "needs Debian's package opentracker; .ci/run runs it"]
fn karuta_answers_as_opentracker_does() {
    let steps = script();
    assert!(steps.len() > 400, "a few hundred requests");
    let mut seen = differences_in(&steps);
    seen.extend(differences_in(&statistics()));
    let all: BTreeSet<&str> = DIFFERENCES.iter().copied().collect();
    let gone: Vec<_> = all.difference(&seen).collect();
    assert!(
        gone.is_empty(),
        "these differ no more; take them off: {gone:?}"
    );
}

/// Asks both, and fails with every answer that differs in what is not meant to;
/// returns what is.
fn differences_in(steps: &[Step]) -> BTreeSet<&'static str> {
    let site = Site::new();
    let (theirs, ours) = (Tracker::opentracker(&site), Tracker::karuta(&site));
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for step in steps {
        let their = theirs.ask(step);
        let mut found = compare(step, &ours.ask(step), &their);
        // What karuta says of all shards together lags a moment behind.
        let deadline = Instant::now() + PATIENCE;
        while step.lags
            && found.iter().any(|aspect| explain(step, aspect).is_none())
            && Instant::now() < deadline
        {
            found = compare(step, &ours.ask(step), &their);
        }
        for aspect in found {
            match explain(step, &aspect) {
                Some(difference) => drop(seen.insert(difference)),
                None => wrong.push(format!("{}: {aspect}", step.name)),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} answers differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    seen
}

/// Debian's version knows IPv4 only; what it says there is what karuta says to
/// the same clients over IPv6, but for the form of addresses.
#[test]
#[ignore = "needs Debian's package opentracker; .ci/run runs it"]
fn karuta_answers_over_ipv6_as_opentracker_does_over_ipv4() {
    let site = Site::new();
    let theirs = Tracker::opentracker(&site);
    let ours = Tracker::karuta_ipv6(&site);
    let mut wrong = Vec::new();
    // All clients have one address over IPv6: those that need more are left out.
    for step in script().iter().filter(|step| step.client == 1) {
        let answers = [&ours, &theirs].map(|tracker| tracker.ask(step));
        let [ours, theirs] = answers.map(Answer::without_addresses);
        for aspect in compare(step, &ours, &theirs) {
            if explain(step, &aspect).is_none() {
                wrong.push(format!("{}: {aspect}", step.name));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} answers differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_difference_is_in_the_document() {
    let mut rows = BTreeMap::new();
    for line in DOCUMENT.lines() {
        if let Some((name, reason)) = line
            .strip_prefix("| ")
            .and_then(|row| row.split_once(" | "))
        {
            rows.insert(name, reason);
        }
    }
    for difference in DIFFERENCES {
        let reason = rows.get(difference);
        let reason = reason.unwrap_or_else(|| panic!("{difference:?} is in no table"));
        assert!(reason.len() > 20, "{difference:?} is not justified");
    }
}

#[test]
fn steps_have_names_of_their_own() {
    for steps in [script(), statistics()] {
        let names: BTreeSet<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names.len(), steps.len());
    }
}
