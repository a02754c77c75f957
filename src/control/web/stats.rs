//! `/stats.json`: the state of the tracker for programs.
//!
//! `docs/operation.md` says what each field means. Names stay as they are;
//! fields are only added. Counts are since the start, so that whoever reads
//! twice knows the rate between.

use crate::bittorrent::AddressFamily;
use crate::control::report::{Report, cap};
use crate::hook::HookKind;
use crate::shard::stats::{
    Action, DropReason, FamilyStats, Gauge, Handshake, Outcome, Protocol, Refusal, ShardStats,
};
use serde_json::{Map, Value, json};

/// The report as one JSON object with a line break at its end.
#[must_use]
pub fn encode(report: &Report) -> String {
    format!("{}\n", value(report))
}

/// The report as a JSON object.
#[must_use]
pub fn value(report: &Report) -> Value {
    let process = report.process.unwrap_or_default();
    let sum = |value: fn(&ShardStats) -> u64| report.sum(value);
    json!({
        "version": report.version,
        "uptime_seconds": report.uptime.as_secs_f64(),
        "started_unix_seconds": process.start_unix_seconds,
        "ready": report.silent_shards().is_empty(),
        "reloads": report.reloads.counts().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "state": {
            "last_saved_unix_seconds": report.state.last_saved_unix_seconds(),
            "save_seconds": report.state.save_duration().as_secs_f64(),
            "save_failures": report.state.save_failures(),
        },
        "swarms": families(report, |family| family.swarms.get()),
        "peers": families(report, |family| family.seeders.get() + family.leechers.get()),
        "seeders": families(report, |family| family.seeders.get()),
        "leechers": families(report, |family| family.leechers.get()),
        "requests": by_name(Protocol::ALL, Protocol::name, |protocol| requests(report, protocol)),
        "replies": by_name(Protocol::ALL, Protocol::name, |protocol| replies(report, protocol)),
        "drops": by_name(Protocol::ALL, Protocol::name, |protocol| {
            by_name(DropReason::ALL, DropReason::name, |reason| {
                report.sum(|stats| stats.drops(protocol, reason).get()).into()
            })
        }),
        "not_stored": {
            "peers": sum(|stats| stats.peers_not_stored.get()),
            "swarms": sum(|stats| stats.swarms_not_stored.get()),
        },
        "hooks": by_name(HookKind::ALL.iter().copied(), HookKind::name, |hook| {
            by_name(Refusal::ALL, Refusal::name, |refusal| {
                report.sum(|stats| stats.hook_refusals(hook, refusal).get()).into()
            })
        }),
        "hook_events_lost": sum(|stats| stats.hook_events_lost.get()),
        "tls_handshakes": by_name(Handshake::ALL, Handshake::name, |result| {
            report.sum(|stats| stats.handshakes(result).get()).into()
        }),
        "connections": {
            "open": sum(|stats| stats.connections_open.get()),
            "accepted": sum(|stats| stats.connections_accepted.get()),
        },
        "listeners": listeners(report),
        "clients": clients(report),
        "memory": {
            "store_bytes": sum(|stats| stats.store_bytes.get()),
            "resident_bytes": process.resident_bytes,
            "virtual_bytes": process.virtual_bytes,
        },
        "process": {
            "cpu_seconds": process.cpu_seconds,
            "open_fds": process.open_fds,
            "max_fds": process.max_fds,
            "threads": process.threads,
        },
        "shards": shards(report),
    })
}

/// An object with one field for each of these.
fn by_name<T: Copy>(
    all: impl IntoIterator<Item = T>,
    name: impl Fn(T) -> &'static str,
    value: impl Fn(T) -> Value,
) -> Value {
    let fields = all
        .into_iter()
        .map(|each| (name(each).to_owned(), value(each)));
    Value::Object(fields.collect::<Map<_, _>>())
}

/// One value by address family, and their sum.
fn families(report: &Report, value: fn(&FamilyStats) -> u64) -> Value {
    let sum = |family| report.sum(|stats| value(stats.family(family)));
    let (ipv4, ipv6) = (sum(AddressFamily::V4), sum(AddressFamily::V6));
    json!({ "ipv4": ipv4, "ipv6": ipv6, "total": ipv4 + ipv6 })
}

fn requests(report: &Report, protocol: Protocol) -> Value {
    by_name(Action::ALL, Action::name, |action| {
        let families = AddressFamily::ALL.into_iter();
        let counts = families
            .map(|family| report.sum(|stats| stats.requests(protocol, action, family).get()));
        counts.sum::<u64>().into()
    })
}

fn replies(report: &Report, protocol: Protocol) -> Value {
    by_name(Outcome::ALL, Outcome::name, |outcome| {
        let kinds = Action::ALL
            .into_iter()
            .flat_map(|action| AddressFamily::ALL.map(|family| (action, family)));
        let counts = kinds.map(|(action, family)| {
            report.sum(|stats| stats.replies(protocol, action, family, outcome).get())
        });
        counts.sum::<u64>().into()
    })
}

fn listeners(report: &Report) -> Value {
    let all = Protocol::ALL.into_iter().flat_map(|protocol| {
        let listeners = report.listeners(protocol).into_iter();
        listeners.map(move |listener| {
            let mut fields = json!({
                "protocol": protocol.name(),
                "address": listener.address,
                "bytes_in": listener.bytes_in,
                "bytes_out": listener.bytes_out,
            });
            match protocol {
                Protocol::Udp => {
                    fields["datagrams_in"] = listener.arrivals.into();
                    fields["datagrams_out"] = listener.departures.into();
                    fields["overflows"] = listener.overflows.into();
                }
                Protocol::Http => {
                    fields["connections"] = listener.arrivals.into();
                    fields["requests"] = listener.requests.into();
                }
            }
            fields
        })
    });
    all.collect()
}

/// How often each client has started; null when nothing was ever counted.
fn clients(report: &Report) -> Value {
    let clients = report.clients();
    clients.map_or(Value::Null, |clients| {
        let fields = clients
            .into_iter()
            .map(|(client, starts)| (client, starts.into()));
        Value::Object(fields.collect())
    })
}

fn shards(report: &Report) -> Value {
    let silent = report.silent_shards();
    let shards = report.shards.iter().enumerate().map(|(shard, stats)| {
        let sum = |value: fn(&FamilyStats) -> &Gauge| -> u64 {
            let families = AddressFamily::ALL.into_iter();
            families
                .map(|family| value(stats.family(family)).get())
                .sum()
        };
        let swarms = sum(|family| &family.swarms);
        let peers = sum(|family| &family.seeders) + sum(|family| &family.leechers);
        let (since, _) = stats.since_tick(report.uptime);
        json!({
            "answers": !silent.contains(&shard),
            "tick_age_seconds": since.as_secs_f64(),
            "requests": stats.all_requests(),
            "swarms": swarms,
            "max_swarms": cap(&stats.max_swarms),
            "peers": peers,
            "max_peers": cap(&stats.max_peers),
            "store_bytes": stats.store_bytes.get(),
            "lane_depth": stats.lane_depth.get(),
        })
    });
    shards.collect()
}
