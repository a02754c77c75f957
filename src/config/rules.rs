//! What the keys of the file may say, section by section, and the rules that
//! concern several keys.

use super::hooks::{HookConfig, KnownHook, POSTHOOKS, PREHOOKS};
use super::http_rules;
use super::locate::{Part, Step};
use super::reader::{File, Section, Whole, nearest};
use super::settings::{Config, HttpConfig, MemoryConfig, Secret, Steering, UdpConfig};
use super::statistics;
use super::xdp;
use crate::protocol::Dialect;
use crate::protocol::http::Routes;
use serde_yaml::Value;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Bytes of a UDP scrape reply (BEP 15): a head, then this much per info hash.
const SCRAPE_HEAD_BYTES: usize = 8;
const SCRAPE_ENTRY_BYTES: usize = 12;

/// Most payload of a UDP datagram over IPv4.
const MAX_DATAGRAM_BYTES: u64 = 65_507;

/// Largest socket buffer that may be asked for.
const MAX_BUFFER_BYTES: u64 = 1 << 30;

/// Reads the whole file. Problems are reported to `file`; the result means
/// something only if there are none.
pub(super) fn read(file: &File<'_>, document: &Value) -> Config {
    let mut config = Config::without_frontends();
    let Some(mut root) = Section::new(file, Vec::new(), document) else {
        return config;
    };
    if root.has(super::CHIHAYA) {
        if let Some(mut inner) = root.section(super::CHIHAYA) {
            read_root(&mut inner, &mut config);
            inner.finish();
        }
    } else {
        read_root(&mut root, &mut config);
    }
    root.finish();
    config
}

fn read_root(root: &mut Section<'_>, config: &mut Config) {
    let interval = &mut config.announce_interval;
    root.duration("announce_interval", SECOND..=DAY, Whole::Seconds, interval);
    // The default of the lesser value must not contradict what the file says.
    config.min_announce_interval = config.min_announce_interval.min(config.announce_interval);
    let minimum = &mut config.min_announce_interval;
    root.duration(
        "min_announce_interval",
        SECOND..=DAY,
        Whole::Seconds,
        minimum,
    );
    if root.is_sound(&["announce_interval", "min_announce_interval"])
        && config.min_announce_interval > config.announce_interval
    {
        root.refuse(
            "min_announce_interval",
            "is longer than announce_interval; lower it or raise that",
        );
    }
    let spread = &mut config.announce_interval_spread;
    let up_to_a_day = Duration::ZERO..=DAY;
    root.duration(
        "announce_interval_spread",
        up_to_a_day,
        Whole::Seconds,
        spread,
    );
    let dialects = [
        ("karuta", Dialect::Karuta),
        ("opentracker", Dialect::Opentracker),
    ];
    root.choice("dialect", &dialects, &mut config.dialect);
    root.addresses("metrics_addr", &mut config.metrics_addr);
    root.integer("shards", 0..=1024, &mut config.shards);
    root.integer("realtime_priority", 0..=99, &mut config.realtime_priority);
    root.boolean("client_breakdown", &mut config.client_breakdown);
    super::identity::read(root, config);

    if let Some(mut section) = root.section("http") {
        // Below another root, paths are not yet what they will be.
        let in_sight = config.chroot.is_empty();
        config.http = read_http(&mut section, config.dialect, in_sight, &mut config.notices);
        section.finish();
    }
    if let Some(mut section) = root.section("udp") {
        config.udp = read_udp(&mut section, config.dialect, &mut config.notices);
        section.finish();
    }
    if let Some(mut section) = root.section("storage") {
        read_storage(&mut section, config);
        section.finish();
    }
    super::state::read(root, config);
    config.prehooks = read_hooks(root, "prehooks", PREHOOKS);
    config.posthooks = read_hooks(root, "posthooks", POSTHOOKS);

    if root.is_sound(&["http", "udp"]) {
        if config.http.is_none() && config.udp.is_none() {
            let message = "no frontend is on: add a section \"http\" or \"udp\" \
                           (\"udp: {}\" takes all its defaults)";
            root.file()
                .report(Vec::new(), Part::Value, message.to_owned());
        }
        for (key, addresses) in config.http.iter().flat_map(|http| {
            let (http, https) = (&http.addr, &http.https_addr);
            [("http.addr", http), ("http.https_addr", https)]
        }) {
            let shared = |address: &&_| addresses.contains(address);
            let mut metrics = config
                .metrics_addr
                .iter()
                .filter(|address| address.port() != 0);
            if let Some(address) = metrics.find(shared) {
                let message = format!("{address} is also in {key}; choose another port");
                root.refuse("metrics_addr", &message);
            }
        }
    }
}

/// `None` if the section turns the frontend off (Chihaya: an empty `addr`).
fn read_http(
    section: &mut Section<'_>,
    dialect: Dialect,
    in_sight: bool,
    notices: &mut Vec<String>,
) -> Option<HttpConfig> {
    let mut http = HttpConfig::in_dialect(dialect);
    let timeout = Duration::from_millis(1)..=HOUR;
    let is_on = read_listen_addresses(section, &mut http.addr);
    section.duration(
        "read_timeout",
        timeout.clone(),
        Whole::Any,
        &mut http.read_timeout,
    );
    section.duration(
        "write_timeout",
        timeout.clone(),
        Whole::Any,
        &mut http.write_timeout,
    );
    section.boolean("enable_keepalive", &mut http.enable_keepalive);
    section.duration("idle_timeout", timeout, Whole::Any, &mut http.idle_timeout);
    section.boolean("enable_request_timing", &mut http.enable_request_timing);
    if http.enable_request_timing {
        notices.push(no_request_timing("http"));
    }
    read_routes(section, &mut http);
    section.boolean("allow_ip_spoofing", &mut http.allow_ip_spoofing);
    http_rules::read_proxies(section, &mut http);
    read_numwants(section, &mut http.max_numwant, &mut http.default_numwant);
    section.integer(
        "max_scrape_infohashes",
        1..=1000,
        &mut http.max_scrape_infohashes,
    );
    section.integer("max_connections", 1..=1_000_000, &mut http.max_connections);
    section.integer(
        "max_request_bytes",
        1024..=65_536,
        &mut http.max_request_bytes,
    );
    section.boolean("external_ip", &mut http.external_ip);
    read_redirect_url(section, &mut http.redirect_url);
    statistics::read(section, dialect, &mut http);
    if !is_on {
        http.addr.clear();
    }
    http_rules::read_https(section, in_sight, &mut http);
    (is_on || !http.https_addr.is_empty()).then_some(http)
}

/// `None` if the section turns the frontend off (Chihaya: an empty `addr`).
fn read_udp(
    section: &mut Section<'_>,
    dialect: Dialect,
    notices: &mut Vec<String>,
) -> Option<UdpConfig> {
    let mut udp = UdpConfig::in_dialect(dialect);
    let is_on = read_listen_addresses(section, &mut udp.addr);
    let skew = Duration::ZERO..=3 * MINUTE;
    section.duration(
        "max_clock_skew",
        skew,
        Whole::Seconds,
        &mut udp.max_clock_skew,
    );
    if let Some(key) = section.text("private_key") {
        udp.private_key = Secret::new(key);
    }
    section.boolean("enable_request_timing", &mut udp.enable_request_timing);
    if udp.enable_request_timing {
        notices.push(no_request_timing("udp"));
    }
    section.boolean("allow_ip_spoofing", &mut udp.allow_ip_spoofing);
    read_numwants(section, &mut udp.max_numwant, &mut udp.default_numwant);
    section.integer(
        "max_scrape_infohashes",
        1..=match dialect {
            Dialect::Karuta => 74,
            Dialect::Opentracker => 75,
        },
        &mut udp.max_scrape_infohashes,
    );
    let steerings = [("kernel", Steering::Kernel), ("off", Steering::Off)];
    section.choice("steering", &steerings, &mut udp.steering);

    let packet = 508..=MAX_DATAGRAM_BYTES;
    section.integer(
        "max_packet_bytes_ipv4",
        packet.clone(),
        &mut udp.max_packet_bytes_ipv4,
    );
    section.integer(
        "max_packet_bytes_ipv6",
        packet,
        &mut udp.max_packet_bytes_ipv6,
    );
    let scrape_bytes = SCRAPE_HEAD_BYTES + SCRAPE_ENTRY_BYTES * udp.max_scrape_infohashes;
    for (key, bytes) in [
        ("max_packet_bytes_ipv4", udp.max_packet_bytes_ipv4),
        ("max_packet_bytes_ipv6", udp.max_packet_bytes_ipv6),
    ] {
        if section.is_sound(&[key, "max_scrape_infohashes"]) && bytes < scrape_bytes {
            let message = format!(
                "a scrape of max_scrape_infohashes ({}) needs {scrape_bytes} bytes; \
                 raise this or lower that",
                udp.max_scrape_infohashes
            );
            section.refuse(key, &message);
        }
    }
    let buffer = 0..=MAX_BUFFER_BYTES;
    section.integer(
        "receive_buffer_bytes",
        buffer.clone(),
        &mut udp.receive_buffer_bytes,
    );
    section.integer("send_buffer_bytes", buffer, &mut udp.send_buffer_bytes);
    xdp::read(section, &mut udp);
    is_on.then_some(udp)
}

fn read_storage(section: &mut Section<'_>, config: &mut Config) {
    match section.text("name") {
        None | Some("memory") => {}
        Some(name) => {
            let message = match name {
                "redis" => "\"redis\" is not supported yet; use \"memory\"".to_owned(),
                other => format!("{other:?} is not a storage; use \"memory\""),
            };
            section.refuse("name", &message);
            // The settings of another storage would only be misunderstood.
            section.take("config");
            return;
        }
    }
    if let Some(mut inner) = section.section("config") {
        read_memory(&mut inner, &mut config.storage.config, &mut config.notices);
        inner.finish();
    }
}

fn read_memory(section: &mut Section<'_>, memory: &mut MemoryConfig, notices: &mut Vec<String>) {
    section.duration(
        "gc_interval",
        SECOND..=DAY,
        Whole::Any,
        &mut memory.gc_interval,
    );
    section.duration(
        "peer_lifetime",
        SECOND..=DAY,
        Whole::Seconds,
        &mut memory.peer_lifetime,
    );
    let reporting = &mut memory.prometheus_reporting_interval;
    let up_to_a_day = Duration::ZERO..=DAY;
    section.duration(
        "prometheus_reporting_interval",
        up_to_a_day,
        Whole::Any,
        reporting,
    );
    section.integer("max_peers", 0..=u64::MAX, &mut memory.max_peers);
    section.integer("max_swarms", 0..=u64::MAX, &mut memory.max_swarms);
    section.boolean("peer_ids", &mut memory.peer_ids);
    let kept = &mut memory.downloads_lifetime;
    section.duration(
        "downloads_lifetime",
        Duration::ZERO..=365 * DAY,
        Whole::Seconds,
        kept,
    );
    let mut shard_count = 0u64;
    if section
        .integer("shard_count", 0..=u64::MAX, &mut shard_count)
        .is_some()
    {
        notices.push(
            "storage.config.shard_count is ignored: swarms are divided by core (see shards)"
                .to_owned(),
        );
    }
}

/// Takes `addr`. False if it is an empty text: the frontend is off.
fn read_listen_addresses(section: &mut Section<'_>, into: &mut Vec<std::net::SocketAddr>) -> bool {
    section.addresses("addr", into);
    if !into.is_empty() || !section.is_sound(&["addr"]) {
        return true;
    }
    if section.take("addr").is_some_and(Value::is_string) {
        return false;
    }
    section.refuse(
        "addr",
        "is an empty list; name an address, or omit the section to turn it off",
    );
    true
}

/// Takes `max_numwant` and `default_numwant`.
fn read_numwants(section: &mut Section<'_>, max: &mut u32, default: &mut u32) {
    const MAX: u64 = 2000;
    section.integer("max_numwant", 1..=MAX, max);
    // The default of the lesser value must not contradict what the file says.
    *default = (*default).min(*max);
    section.integer("default_numwant", 0..=MAX, default);
    if section.is_sound(&["max_numwant", "default_numwant"]) && *default > *max {
        section.refuse(
            "default_numwant",
            "is more than max_numwant; lower it or raise that",
        );
    }
}

/// Takes `announce_routes` and `scrape_routes`.
fn read_routes(section: &mut Section<'_>, http: &mut HttpConfig) {
    let announce = section.texts("announce_routes");
    let scrape = section.texts("scrape_routes");
    if announce.is_some() {
        http.announce_routes.clear();
    }
    if scrape.is_some() {
        http.scrape_routes.clear();
    }
    let announce = announce.into_iter().flatten().map(|text| (text, true));
    let scrape = scrape.into_iter().flatten().map(|text| (text, false));
    for ((path, route), is_announce) in announce.chain(scrape) {
        let routes = match is_announce {
            true => &mut http.announce_routes,
            false => &mut http.scrape_routes,
        };
        routes.push(route.to_owned());
        let error = Routes::compile(&http.announce_routes, &http.scrape_routes).err();
        if let Some(error) = error {
            section.refuse_at(path, &error.to_string());
            let routes = match is_announce {
                true => &mut http.announce_routes,
                false => &mut http.scrape_routes,
            };
            routes.pop();
        }
    }
    if http.announce_routes.is_empty() && section.is_sound(&["announce_routes"]) {
        section.refuse(
            "announce_routes",
            "is empty; name at least one path, such as \"/announce\"",
        );
    }
}

/// Takes the name of an HTTP header (RFC 9110, 5.1: a token), or nothing.
pub(super) fn read_header_name(section: &mut Section<'_>, key: &'static str, into: &mut String) {
    let Some(name) = section.text(key) else {
        return;
    };
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.bytes().all(is_token) {
        *into = name.to_owned();
    } else {
        let message = format!("{name:?} is not a header name; write it as \"X-Real-IP\"");
        section.refuse(key, &message);
    }
}

/// Takes where `GET /` leads: it becomes a header field (RFC 9110, 10.2.2).
fn read_redirect_url(section: &mut Section<'_>, into: &mut String) {
    const KEY: &str = "redirect_url";
    let Some(url) = section.text(KEY) else {
        return;
    };
    if url.bytes().all(|byte| byte.is_ascii_graphic()) {
        *into = url.to_owned();
    } else {
        let message = format!(
            "{url:?} is not a URL; write it without spaces, as \"https://example.org/\", and \
             percent-encode what is not ASCII"
        );
        section.refuse(KEY, &message);
    }
}

/// Takes a list of hooks, each of which must be known.
fn read_hooks(root: &mut Section<'_>, key: &'static str, known: &[KnownHook]) -> Vec<HookConfig> {
    let mut hooks = Vec::new();
    let items = match root.take(key) {
        None => return hooks,
        Some(Value::Sequence(items)) => items,
        Some(_) => {
            root.refuse(key, "wants a list of hooks, each with a name and options");
            return hooks;
        }
    };
    for (index, item) in items.iter().enumerate() {
        let mut path = root.at(key);
        path.push(Step::Index(index));
        let line = root.line_of(&path);
        let Some(mut entry) = Section::new(root.file(), path.clone(), item) else {
            continue;
        };
        let options = entry.take("options").cloned().unwrap_or_default();
        match entry.text("name") {
            Some(name) => {
                check_hook(&mut entry, name, known);
                let name = name.to_owned();
                hooks.push(HookConfig {
                    name,
                    options,
                    line,
                });
            }
            None if entry.has("name") => {}
            None => {
                root.refuse_at(path, "has no name; add \"name: …\"");
            }
        }
        entry.finish();
    }
    hooks
}

/// Reports a hook that does not exist, and what is wrong with the options of
/// one that does.
fn check_hook(entry: &mut Section<'_>, name: &str, known: &[KnownHook]) {
    let names: Vec<&str> = known.iter().map(|hook| hook.name).collect();
    let Some(hook) = known.iter().find(|hook| hook.name == name) else {
        let remedy = match nearest(name, &names) {
            Some(near) => format!("did you mean {near:?}?"),
            None if names.is_empty() => "known: (none yet)".to_owned(),
            None => format!("known: {}", names.join(", ")),
        };
        let message = format!("unknown hook {name:?}; {remedy}");
        let path = entry.at("name");
        entry.file().report(path, Part::Value, message);
        return;
    };
    let absent = Value::Null;
    let options = entry.take("options").unwrap_or(&absent);
    if let Some(mut section) = Section::new(entry.file(), entry.at("options"), options) {
        (hook.check)(&mut section);
        section.finish();
    }
}

/// The notice about a frontend's `enable_request_timing`.
fn no_request_timing(frontend: &str) -> String {
    format!("{frontend}.enable_request_timing has no effect: request durations are not measured")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `prehooks` where only the hook "gate" exists, with one option.
    fn read_with_gate(text: &str) -> Result<Vec<HookConfig>, String> {
        const KNOWN: &[KnownHook] = &[KnownHook {
            name: "gate",
            check: |options| {
                options.duration("delay", SECOND..=MINUTE, Whole::Any, &mut SECOND.clone());
            },
        }];
        let document: Value = serde_yaml::from_str(text).expect("YAML");
        let file = File::new(text);
        let mut root = Section::new(&file, Vec::new(), &document).expect("a mapping");
        let hooks = read_hooks(&mut root, "prehooks", KNOWN);
        root.finish();
        file.finish("f").map_err(|error| error.to_string())?;
        Ok(hooks)
    }

    #[test]
    fn a_known_hook_keeps_its_options_and_its_line() {
        let text = "prehooks:\n- name: gate\n  options: {delay: 2s}\n- name: gate\n";
        let hooks = read_with_gate(text).expect("valid");
        assert_eq!(hooks.len(), 2);
        assert_eq!(hooks[0].name, "gate");
        assert_eq!(hooks[0].options["delay"], "2s");
        assert_eq!(
            hooks.iter().map(|hook| hook.line).collect::<Vec<_>>(),
            [2, 4]
        );
        assert!(hooks[1].options.is_null());
    }

    #[test]
    fn mistakes_in_hooks_are_placed() {
        for (text, expected) in [
            (
                "prehooks: [{name: gat}]",
                "f:1:19: unknown hook \"gat\"; did you mean \"gate\"?",
            ),
            (
                "prehooks:\n- name: jwt\n",
                "f:2:9: unknown hook \"jwt\"; known: gate",
            ),
            (
                "prehooks:\n- name: gate\n  options:\n    delay: 2\n",
                "f:4:12: prehooks[0].options.delay: 2 is not a duration",
            ),
            (
                "prehooks:\n- name: gate\n  options:\n    dely: 2s\n",
                "f:4:5: unknown key \"dely\" in prehooks[0].options; did you mean \"delay\"?",
            ),
            (
                "prehooks:\n- options: {}\n",
                "f:2:3: prehooks[0]: has no name",
            ),
            (
                "prehooks:\n- name: 5\n",
                "f:2:9: prehooks[0].name: wants a text",
            ),
            (
                "prehooks: gate\n",
                "f:1:11: prehooks: wants a list of hooks",
            ),
            (
                "prehooks: [gate]\n",
                "f:1:12: prehooks[0]: wants keys with values",
            ),
        ] {
            let error = read_with_gate(text).expect_err(text);
            assert!(error.starts_with(expected), "{text}: {error}");
            assert!(!error.contains('\n'), "{text}: {error}");
        }
    }
}
