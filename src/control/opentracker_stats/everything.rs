//! `everything`: all counters in XML. Exporters for Prometheus read each field
//! by its path, a script for InfluxDB by its position.

use super::render::line;
use super::snapshot::Snapshot;

/// What opentracker calls the HTTP errors here, in the order of
/// [`crate::shard::opentracker_counters::HttpError::ALL`].
const ERROR_NAMES: [&str; 9] = [
    "302 Redirect",
    "400 Parse Error",
    "400 Invalid Parameter",
    "400 Invalid Parameter (compact=0)",
    "400 Not Modest",
    "402 Payment Required",
    "403 Access Denied",
    "404 Not found",
    "500 Internal Server Error",
];

/// `everything`. The version must not have characters that XML escapes.
#[must_use]
pub fn everything(taken: &Snapshot) -> String {
    let mut xml = Xml(String::with_capacity(4096));
    xml.plain("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<stats>\n");
    xml.value(1, "tracker_id", u64::from(taken.tracker_id));
    xml.plain("  <version>\n");
    xml.plain(&taken.version);
    xml.plain("\n  </version>\n");
    xml.value(1, "uptime", taken.uptime_seconds);
    xml.group(1, "torrents", |xml| {
        xml.value(2, "count_mutex", taken.torrents);
        xml.value(2, "count_iterator", taken.torrents);
    });
    xml.group(1, "peers", |xml| xml.value(2, "count", taken.peers));
    xml.group(1, "seeds", |xml| xml.value(2, "count", taken.seeds));
    xml.group(1, "completed", |xml| xml.value(2, "count", taken.completed));
    xml.group(1, "connections", |xml| {
        xml.group(2, "tcp", |xml| {
            xml.value(3, "accept", taken.tcp_accepts);
            xml.value(3, "announce", taken.tcp_announces);
            xml.value(3, "scrape", taken.tcp_scrapes);
        });
        xml.group(2, "udp", |xml| {
            xml.value(3, "overall", taken.udp_packets);
            xml.value(3, "connect", taken.udp_connects);
            xml.value(3, "announce", taken.udp_announces);
            xml.value(3, "scrape", taken.udp_scrapes);
            xml.value(3, "missmatch", taken.udp_mismatches);
        });
        xml.group(2, "livesync", |xml| xml.value(3, "count", taken.livesyncs));
    });
    xml.group(1, "debug", |xml| {
        xml.group(2, "renew", |xml| {
            for (minutes, count) in taken.renewals.iter().enumerate() {
                let text = format_args!("      <count interval=\"{minutes:02}\">{count}</count>\n");
                line(&mut xml.0, text);
            }
        });
        xml.group(2, "http_error", |xml| {
            for (name, count) in ERROR_NAMES.iter().zip(taken.http_errors) {
                let text = format_args!("      <count code=\"{name}\">{count}</count>\n");
                line(&mut xml.0, text);
            }
        });
        xml.group(2, "mutex_stall", |xml| xml.value(3, "count", taken.stalls));
    });
    xml.plain("</stats>");
    xml.0
}

/// XML that is being written; indented by two spaces for each level.
struct Xml(String);

impl Xml {
    fn plain(&mut self, text: &str) {
        self.0.push_str(text);
    }

    fn value(&mut self, level: usize, name: &str, value: u64) {
        let indent = level * 2;
        line(
            &mut self.0,
            format_args!("{:indent$}<{name}>{value}</{name}>\n", ""),
        );
    }

    fn group(&mut self, level: usize, name: &str, content: impl FnOnce(&mut Self)) {
        let indent = level * 2;
        line(&mut self.0, format_args!("{:indent$}<{name}>\n", ""));
        content(self);
        line(&mut self.0, format_args!("{:indent$}</{name}>\n", ""));
    }
}
