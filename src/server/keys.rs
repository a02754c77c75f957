//! Every key of the configuration, and what a change of it takes while the
//! tracker runs.
//!
//! Each list below takes its section apart field by field: a key that is added
//! to the configuration does not compile until it stands in one of them.
//! `docs/operation.md` has them as a table, which a test compares.

use crate::config::{Config, HookConfig, HttpConfig, MemoryConfig, StorageConfig, UdpConfig};

/// What a change of a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A reload.
    Live,
    /// A restart.
    Restart,
    /// Nothing: the key has no effect.
    None,
}

/// What a reload found changed, by the names of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is applied.
    pub changed: Vec<&'static str>,
    /// What stays as it is until the next start.
    pub restart: Vec<&'static str>,
}

/// Compares a section with what runs, key by key, and puts back what cannot
/// change.
macro_rules! section {
    (
        $function:ident, $keys:ident, $config:ident, $prefix:literal,
        live: [$($live:ident),*],
        restart: [$($restart:ident),*],
        no_effect: [$($none:ident),*],
        apart: [$($apart:ident),*] $(,)?
    ) => {
        fn $function(running: &$config, next: &mut $config, report: &mut Report) {
            let $config { $($live: _,)* $($restart: _,)* $($none: _,)* $($apart: _,)* } = running;
            let _ = &report;
            $(if running.$live != next.$live {
                report.changed.push(concat!($prefix, stringify!($live)));
            })*
            $(if running.$restart != next.$restart {
                report.restart.push(concat!($prefix, stringify!($restart)));
                next.$restart.clone_from(&running.$restart);
            })*
        }

        const $keys: &[(&str, Reach)] = &[
            $((concat!($prefix, stringify!($live)), Reach::Live),)*
            $((concat!($prefix, stringify!($restart)), Reach::Restart),)*
            $((concat!($prefix, stringify!($none)), Reach::None),)*
        ];
    };
}

section!(
    settle_root, ROOT, Config, "",
    live: [
        announce_interval, min_announce_interval, announce_interval_spread, dialect,
        client_breakdown, state_interval
    ],
    restart: [
        metrics_addr, shards, realtime_priority, user, group, chroot, state_file,
        opentracker_state_file
    ],
    no_effect: [],
    // The frontends, the storage and the hooks follow below; notices are no key.
    apart: [http, udp, storage, prehooks, posthooks, notices],
);

section!(
    settle_http, HTTP, HttpConfig, "http.",
    live: [
        read_timeout, write_timeout, enable_keepalive, idle_timeout, announce_routes,
        scrape_routes, allow_ip_spoofing, real_ip_header, trusted_proxies, proxy_protocol,
        max_numwant, default_numwant, max_scrape_infohashes, max_connections, max_request_bytes,
        external_ip, redirect_url, stats_path, stats_networks, full_scrape,
        full_scrape_networks, full_scrape_pause
    ],
    restart: [addr, https_addr],
    no_effect: [enable_request_timing],
    // The files of HTTPS follow below.
    apart: [tls_cert_path, tls_key_path],
);

section!(
    settle_udp, UDP, UdpConfig, "udp.",
    live: [
        max_clock_skew, private_key, allow_ip_spoofing, max_numwant, default_numwant,
        max_scrape_infohashes, max_packet_bytes_ipv4, max_packet_bytes_ipv6
    ],
    restart: [
        addr, steering, receive_buffer_bytes, send_buffer_bytes, xdp_interfaces, xdp_mode
    ],
    no_effect: [enable_request_timing],
    apart: [],
);

section!(
    settle_storage, STORAGE, StorageConfig, "storage.",
    live: [],
    restart: [name],
    no_effect: [],
    apart: [config],
);

section!(
    settle_memory, MEMORY, MemoryConfig, "storage.config.",
    live: [gc_interval, peer_lifetime, max_peers, max_swarms, downloads_lifetime],
    restart: [peer_ids],
    no_effect: [prometheus_reporting_interval],
    apart: [],
);

/// The files of HTTPS, which are read by none of the shards.
const HTTPS: &[(&str, Reach)] = &[
    ("http.tls_cert_path", Reach::Live),
    ("http.tls_key_path", Reach::Live),
];

/// The lists of hooks, which change as a whole.
const HOOKS: &[(&str, Reach)] = &[("prehooks", Reach::Live), ("posthooks", Reach::Live)];

/// Every key with its path, such as `storage.config.max_peers`.
pub fn keys() -> impl Iterator<Item = (&'static str, Reach)> {
    [ROOT, HTTP, HTTPS, UDP, STORAGE, MEMORY, HOOKS]
        .into_iter()
        .flatten()
        .copied()
}

/// Compares a configuration with the one that runs. What cannot change while
/// the tracker runs is put back in `next`, which thus becomes what runs next.
pub(super) fn settle(running: &Config, next: &mut Config) -> Report {
    let mut report = Report::default();
    settle_root(running, next, &mut report);
    settle_frontend(
        ("http", settle_http_and_https),
        &running.http,
        &mut next.http,
        &mut report,
    );
    settle_frontend(
        ("udp", settle_udp),
        &running.udp,
        &mut next.udp,
        &mut report,
    );
    settle_storage(&running.storage, &mut next.storage, &mut report);
    settle_memory(
        &running.storage.config,
        &mut next.storage.config,
        &mut report,
    );
    for (name, running, next) in [
        ("prehooks", &running.prehooks, &next.prehooks),
        ("posthooks", &running.posthooks, &next.posthooks),
    ] {
        if !are_same(running, next) {
            report.changed.push(name);
        }
    }
    report
}

/// Other files can be served while HTTPS runs. It cannot be turned on or off.
fn settle_http_and_https(running: &HttpConfig, next: &mut HttpConfig, report: &mut Report) {
    let is_on = |http: &HttpConfig| !http.https_addr.is_empty();
    if is_on(running) && is_on(next) {
        if running.tls_cert_path != next.tls_cert_path {
            report.changed.push("http.tls_cert_path");
        }
        if running.tls_key_path != next.tls_key_path {
            report.changed.push("http.tls_key_path");
        }
    } else {
        next.tls_cert_path.clone_from(&running.tls_cert_path);
        next.tls_key_path.clone_from(&running.tls_key_path);
    }
    settle_http(running, next, report);
}

/// A frontend cannot be turned on or off: its sockets are bound at the start.
fn settle_frontend<C: Clone>(
    (name, settle): (&'static str, fn(&C, &mut C, &mut Report)),
    running: &Option<C>,
    next: &mut Option<C>,
    report: &mut Report,
) {
    match (running, &mut *next) {
        (Some(running), Some(next)) => settle(running, next, report),
        (None, None) => {}
        _ => {
            report.restart.push(name);
            next.clone_from(running);
        }
    }
}

/// Whether hooks are the same, wherever in the file they stand.
fn are_same(running: &[HookConfig], next: &[HookConfig]) -> bool {
    let what = |hook: &HookConfig| (hook.name.clone(), hook.options.clone());
    running.iter().map(what).eq(next.iter().map(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::opentracker_stats;
    use crate::server::settings::Settings;

    /// Another value for each key that a reload changes.
    const OTHER: &[(&str, &str)] = &[
        ("announce_interval_spread", "announce_interval_spread: 5s"),
        // Without the limits that come with it.
        (
            "dialect",
            "dialect: opentracker\n\
             http: {max_numwant: 100, max_scrape_infohashes: 50}\n\
             udp: {max_numwant: 100, max_scrape_infohashes: 50}",
        ),
        ("announce_interval", "announce_interval: 20m"),
        ("min_announce_interval", "min_announce_interval: 10m"),
        ("client_breakdown", "client_breakdown: true"),
        ("http.read_timeout", "http: {read_timeout: 1s}"),
        ("http.write_timeout", "http: {write_timeout: 1s}"),
        ("http.enable_keepalive", "http: {enable_keepalive: true}"),
        ("http.idle_timeout", "http: {idle_timeout: 1s}"),
        ("http.announce_routes", "http: {announce_routes: [/a]}"),
        ("http.scrape_routes", "http: {scrape_routes: [/s]}"),
        ("http.allow_ip_spoofing", "http: {allow_ip_spoofing: true}"),
        ("http.real_ip_header", "http: {real_ip_header: X-Real-IP}"),
        (
            "http.trusted_proxies",
            "http: {trusted_proxies: ['10.0.0.0/8']}",
        ),
        ("http.proxy_protocol", "http: {proxy_protocol: true}"),
        ("http.max_numwant", "http: {max_numwant: 60}"),
        ("http.default_numwant", "http: {default_numwant: 7}"),
        (
            "http.max_scrape_infohashes",
            "http: {max_scrape_infohashes: 7}",
        ),
        ("http.max_connections", "http: {max_connections: 7}"),
        ("http.max_request_bytes", "http: {max_request_bytes: 4096}"),
        ("http.external_ip", "http: {external_ip: true}"),
        ("http.redirect_url", "http: {redirect_url: x}"),
        ("http.stats_path", "http: {stats_path: stats}"),
        ("http.stats_networks", "http: {stats_networks: '::1'}"),
        ("http.full_scrape", "http: {full_scrape: true}"),
        (
            "http.full_scrape_networks",
            "http: {full_scrape_networks: '::1'}",
        ),
        ("http.full_scrape_pause", "http: {full_scrape_pause: 1m}"),
        ("udp.max_clock_skew", "udp: {max_clock_skew: 40s}"),
        (
            "udp.private_key",
            "udp: {private_key: sixteen or more characters}",
        ),
        ("udp.allow_ip_spoofing", "udp: {allow_ip_spoofing: true}"),
        ("udp.max_numwant", "udp: {max_numwant: 60}"),
        ("udp.default_numwant", "udp: {default_numwant: 7}"),
        (
            "udp.max_scrape_infohashes",
            "udp: {max_scrape_infohashes: 7}",
        ),
        (
            "udp.max_packet_bytes_ipv4",
            "udp: {max_packet_bytes_ipv4: 1000}",
        ),
        (
            "udp.max_packet_bytes_ipv6",
            "udp: {max_packet_bytes_ipv6: 1000}",
        ),
        (
            "storage.config.gc_interval",
            "storage: {config: {gc_interval: 1m}}",
        ),
        (
            "storage.config.peer_lifetime",
            "storage: {config: {peer_lifetime: 40m}}",
        ),
        (
            "storage.config.max_peers",
            "storage: {config: {max_peers: 7}}",
        ),
        (
            "storage.config.max_swarms",
            "storage: {config: {max_swarms: 7}}",
        ),
        (
            "storage.config.downloads_lifetime",
            "storage: {config: {downloads_lifetime: 1h}}",
        ),
        (
            "prehooks",
            "prehooks: [{name: port approval, options: {blacklist: ['1']}}]",
        ),
        (
            "posthooks",
            "posthooks: [{name: webhook, options: {url: 'http://127.0.0.1:1/'}}]",
        ),
    ];

    /// The defaults, both frontends on, but for this text.
    fn config(text: &str) -> Config {
        let mut whole = text.to_owned();
        for frontend in ["http", "udp"] {
            let section = format!("{frontend}:");
            if !text.lines().any(|line| line.starts_with(&section)) {
                whole += &format!("\n{frontend}: {{}}");
            }
        }
        Config::parse(&whole, "f").unwrap_or_else(|error| panic!("{error}"))
    }

    /// What shards are told, as a text. Of the key of connection ids it shows
    /// nothing: their first bytes stand for it.
    fn told(config: &Config) -> String {
        let Settings { shard, udp, http } =
            Settings::new(config, [1; 16], &opentracker_stats::lane().0).expect("valid");
        let ids = &udp.as_ref().expect("udp").connection_ids;
        let id = ids.issue(1_700_000_000, [127, 0, 0, 1].into());
        format!("{shard:?} {udp:?} {http:?} {id}")
    }

    #[test]
    fn every_live_key_is_noticed_and_reaches_the_shards() {
        let running = config("");
        for (key, text) in OTHER {
            let mut next = config(text);
            let report = settle(&running, &mut next);
            assert_eq!((&*report.changed, &*report.restart), (&[*key][..], &[][..]));
            if !key.ends_with("hooks") {
                assert_ne!(told(&running), told(&next), "{key} reaches nobody");
            }
        }
        let tried: Vec<&str> = OTHER.iter().map(|(key, _)| *key).collect();
        // The files of HTTPS and the saves of the state are no shard's matter: see
        // tests/certificates.rs and tests/state.rs.
        let elsewhere = |key: &str| key.starts_with("http.tls_") || key == "state_interval";
        let missing = keys().filter(|(key, reach)| {
            *reach == Reach::Live && !tried.contains(key) && !elsewhere(key)
        });
        assert_eq!(missing.count(), 0, "a live key has no other value here");
    }

    #[test]
    fn what_cannot_change_is_put_back() {
        let running = config("");
        let text = "udp: {addr: '127.0.0.1:1', steering: 'off', max_numwant: 60}\nshards: 3";
        let mut next = config(text);
        let report = settle(&running, &mut next);
        assert_eq!(report.changed, ["udp.max_numwant"]);
        assert_eq!(report.restart, ["shards", "udp.addr", "udp.steering"]);
        let mut expected = config("udp: {max_numwant: 60}");
        expected.http = running.http.clone();
        assert_eq!(next, expected);
        assert_eq!(settle(&next, &mut expected), Report::default());
    }
}
