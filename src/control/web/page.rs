//! `/stats`: the state of the tracker for people, as one HTML page.
//!
//! The page is complete without scripts: a table of the moment it was asked
//! for. Its own script then reads `/stats.json` every two seconds and fills in
//! what that says. Each value's place in the JSON stands beside it
//! (`data-at`), so that page and JSON cannot tell different things.
//!
//! Nothing is loaded from elsewhere: the Content-Security-Policy allows the
//! page's own script and style, by their hashes, and requests to the tracker.
//! Whatever stands in the page was escaped, even where it cannot need it.

use super::server::Answer;
use super::stats;
use crate::control::report::Report;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::cmp::Reverse;

const SCRIPT: &str = include_str!("stats.js");
const STYLE: &str = include_str!("stats.css");

/// The page.
#[must_use]
pub fn answer(report: &Report) -> Answer {
    let stats = stats::value(report);
    let mut page = Page {
        html: String::with_capacity(32 << 10),
        stats: &stats,
    };
    page.write();
    Answer {
        content_type: "text/html; charset=utf-8",
        policy: Some(policy()),
        ..Answer::text(200, page.html)
    }
}

/// What the page may load: its own script and style, and answers of the server
/// that it came from.
fn policy() -> String {
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
}

/// How a value is written. The script knows the same forms.
#[derive(Clone, Copy)]
enum Form {
    Count,
    Bytes,
    Duration,
    Answers,
    Text,
}

impl Form {
    const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Bytes => "bytes",
            Self::Duration => "duration",
            Self::Answers => "answers",
            Self::Text => "text",
        }
    }

    fn write(self, value: Option<&Value>) -> String {
        let Some(value) = value.filter(|value| !value.is_null()) else {
            return "–".to_owned();
        };
        match self {
            Self::Count => grouped(value.as_u64().unwrap_or_default()),
            Self::Bytes => bytes(value.as_u64().unwrap_or_default()),
            Self::Duration => duration(value.as_f64().unwrap_or_default()),
            Self::Answers if value.as_bool() == Some(true) => "yes".to_owned(),
            Self::Answers => "no".to_owned(),
            Self::Text => value.as_str().unwrap_or_default().to_owned(),
        }
    }
}

/// One cell: a value, or the growth per second of a sum of values.
enum Cell {
    Value(String, Form),
    Rate(String),
}

impl Cell {
    fn count(at: impl Into<String>) -> Self {
        Self::Value(at.into(), Form::Count)
    }

    fn bytes(at: impl Into<String>) -> Self {
        Self::Value(at.into(), Form::Bytes)
    }

    /// A count and how fast it grows.
    fn with_rate(at: impl Into<String>) -> [Self; 2] {
        let at = at.into();
        [Self::count(at.clone()), Self::Rate(at)]
    }
}

struct Page<'a> {
    html: String,
    stats: &'a Value,
}

impl Page<'_> {
    fn write(&mut self) {
        self.html.push_str(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>karuta: statistics</title>\n<style>",
        );
        self.html.push_str(STYLE);
        self.html
            .push_str("</style>\n</head>\n<body>\n<header>\n<h1>karuta ");
        self.value("span", "/version", Form::Text);
        self.html.push_str(
            "</h1>\n<p id=\"status\" role=\"status\">As of when this page was loaded; load it again \
             for newer numbers.</p>\n</header>\n",
        );
        self.summary();
        self.html.push_str("<main>\n");
        self.requests();
        self.stored();
        self.replies();
        self.drops();
        self.hooks();
        self.listeners();
        self.process();
        self.clients();
        self.shards();
        self.html.push_str("</main>\n<script>");
        self.html.push_str(SCRIPT);
        self.html.push_str("</script>\n</body>\n</html>\n");
    }

    fn summary(&mut self) {
        let entries = [
            (
                "Announces per second",
                Cell::Rate("/requests/udp/announce /requests/http/announce".to_owned()),
            ),
            ("Peers", Cell::count("/peers/total")),
            ("Swarms", Cell::count("/swarms/total")),
            ("Memory", Cell::bytes("/memory/resident_bytes")),
            (
                "Running for",
                Cell::Value("/uptime_seconds".to_owned(), Form::Duration),
            ),
            (
                "All shards answer",
                Cell::Value("/ready".to_owned(), Form::Answers),
            ),
        ];
        self.html.push_str("<dl>\n");
        for (name, cell) in entries {
            self.html.push_str("<div><dt>");
            self.text(name);
            self.html.push_str("</dt>");
            self.cell("dd", &cell);
            self.html.push_str("</div>\n");
        }
        self.html.push_str("</dl>\n");
    }

    fn requests(&mut self) {
        let kinds = [
            ("UDP connect", "/requests/udp/connect"),
            ("UDP announce", "/requests/udp/announce"),
            ("UDP scrape", "/requests/udp/scrape"),
            ("UDP other", "/requests/udp/other"),
            ("HTTP announce", "/requests/http/announce"),
            ("HTTP scrape", "/requests/http/scrape"),
            ("HTTP other", "/requests/http/other"),
        ];
        let rows = kinds.map(|(name, at)| (name.to_owned(), Vec::from(Cell::with_rate(at))));
        self.table("Requests", &["kind", "since the start", "per second"], rows);
    }

    fn stored(&mut self) {
        let rows = [("IPv4", "ipv4"), ("IPv6", "ipv6"), ("both", "total")].map(|(name, family)| {
            let of = |what: &str| Cell::count(format!("/{what}/{family}"));
            let cells = ["swarms", "peers", "seeders", "leechers"].map(of);
            (name.to_owned(), Vec::from(cells))
        });
        let heads = ["family", "swarms", "peers", "seeders", "leechers"];
        self.table("Stored now", &heads, rows);
    }

    fn replies(&mut self) {
        let kinds = [
            ("UDP, ok", "/replies/udp/ok"),
            ("UDP, errors", "/replies/udp/error"),
            ("HTTP, ok", "/replies/http/ok"),
            ("HTTP, errors", "/replies/http/error"),
            ("peers not stored", "/not_stored/peers"),
            ("swarms not stored", "/not_stored/swarms"),
        ];
        let rows = kinds.map(|(name, at)| (name.to_owned(), Vec::from(Cell::with_rate(at))));
        self.table("Replies", &["kind", "since the start", "per second"], rows);
    }

    fn drops(&mut self) {
        let rows = self.names("/drops/udp").into_iter().map(|reason| {
            let (udp, http) = (
                format!("/drops/udp/{reason}"),
                format!("/drops/http/{reason}"),
            );
            let rate = Cell::Rate(format!("{udp} {http}"));
            let cells = vec![Cell::count(udp), Cell::count(http), rate];
            (reason.replace('_', " "), cells)
        });
        let rows: Vec<_> = rows.collect();
        let heads = ["reason", "UDP", "HTTP", "per second"];
        self.table("Given up without an answer", &heads, rows);
    }

    fn hooks(&mut self) {
        let rows = self.names("/hooks").into_iter().map(|hook| {
            let (fail, drop) = (format!("/hooks/{hook}/fail"), format!("/hooks/{hook}/drop"));
            (hook, vec![Cell::count(fail), Cell::count(drop)])
        });
        let rows: Vec<_> = rows.collect();
        let heads = ["hook", "with a reason", "in silence"];
        self.table("Refused by hooks", &heads, rows);
    }

    fn listeners(&mut self) {
        let listeners = self.stats["listeners"].as_array();
        let rows = listeners
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(number, listener)| {
                let text = |name: &str| listener[name].as_str().unwrap_or_default().to_owned();
                let at = |name: &str| format!("/listeners/{number}/{name}");
                let arrivals = match text("protocol").as_str() {
                    "udp" => "datagrams_in",
                    _ => "requests",
                };
                let mut cells = Vec::from(Cell::with_rate(at(arrivals)));
                cells.push(Cell::bytes(at("bytes_in")));
                cells.push(Cell::bytes(at("bytes_out")));
                (format!("{} {}", text("protocol"), text("address")), cells)
            });
        let rows: Vec<_> = rows.collect();
        let heads = [
            "listener",
            "datagrams or requests",
            "per second",
            "in",
            "out",
        ];
        self.table("Listeners", &heads, rows);
    }

    /// As many clients as there are now; later ones appear when the page is
    /// loaded again.
    fn clients(&mut self) {
        let clients = self.stats["clients"].as_object().into_iter().flatten();
        let mut clients: Vec<_> = clients.collect();
        clients.sort_by_key(|(_, starts)| Reverse(starts.as_u64()));
        let rows = clients.into_iter().map(|(client, _)| {
            let cells = Cell::with_rate(format!("/clients/{client}"));
            (client.clone(), Vec::from(cells))
        });
        let rows: Vec<_> = rows.collect();
        if !rows.is_empty() {
            self.table(
                "Clients that started",
                &["client", "times", "per second"],
                rows,
            );
        }
    }

    fn process(&mut self) {
        let rows = [
            ("memory of swarms", Cell::bytes("/memory/store_bytes")),
            ("memory in RAM", Cell::bytes("/memory/resident_bytes")),
            ("address space", Cell::bytes("/memory/virtual_bytes")),
            (
                "processor time",
                Cell::Value("/process/cpu_seconds".to_owned(), Form::Duration),
            ),
            (
                "processor seconds per second",
                Cell::Rate("/process/cpu_seconds".to_owned()),
            ),
            ("open descriptors", Cell::count("/process/open_fds")),
            ("descriptors allowed", Cell::count("/process/max_fds")),
            ("threads", Cell::count("/process/threads")),
            ("HTTP connections open", Cell::count("/connections/open")),
        ];
        let rows = rows.map(|(name, cell)| (name.to_owned(), vec![cell]));
        self.table("Process", &["what", "now"], rows);
    }

    fn shards(&mut self) {
        let count = self.stats["shards"].as_array().map_or(0, Vec::len);
        let rows = (0..count).map(|shard| {
            let at = |name: &str| format!("/shards/{shard}/{name}");
            let mut cells = vec![Cell::Value(at("answers"), Form::Answers)];
            cells.extend(Cell::with_rate(at("requests")));
            cells.extend(["swarms", "peers", "max_peers"].map(|name| Cell::count(at(name))));
            cells.push(Cell::bytes(at("store_bytes")));
            cells.push(Cell::count(at("lane_depth")));
            (shard.to_string(), cells)
        });
        let rows: Vec<_> = rows.collect();
        let heads = [
            "shard",
            "answers",
            "requests",
            "per second",
            "swarms",
            "peers",
            "peers at most",
            "memory",
            "waiting",
        ];
        self.table("Shards", &heads, rows);
    }

    /// The names of the fields of an object, in its order.
    fn names(&self, at: &str) -> Vec<String> {
        let object = self.stats.pointer(at).and_then(Value::as_object);
        object.map_or_else(Vec::new, |object| object.keys().cloned().collect())
    }

    fn table(
        &mut self,
        caption: &str,
        heads: &[&str],
        rows: impl IntoIterator<Item = (String, Vec<Cell>)>,
    ) {
        self.html.push_str("<section>\n<table>\n<caption>");
        self.text(caption);
        self.html.push_str("</caption>\n<thead><tr>");
        for head in heads {
            self.html.push_str("<th scope=\"col\">");
            self.text(head);
            self.html.push_str("</th>");
        }
        self.html.push_str("</tr></thead>\n<tbody>\n");
        for (name, cells) in rows {
            self.html.push_str("<tr><th scope=\"row\">");
            self.text(&name);
            self.html.push_str("</th>");
            for cell in &cells {
                self.cell("td", cell);
            }
            self.html.push_str("</tr>\n");
        }
        self.html.push_str("</tbody>\n</table>\n</section>\n");
    }

    fn cell(&mut self, tag: &str, cell: &Cell) {
        match cell {
            Cell::Value(at, form) => self.value(tag, at, *form),
            Cell::Rate(at) => {
                self.html.push_str(&format!("<{tag} data-rate=\""));
                self.text(at);
                self.html.push_str(&format!("\">–</{tag}>"));
            }
        }
    }

    /// An element with the value at this place of the JSON.
    fn value(&mut self, tag: &str, at: &str, form: Form) {
        let text = form.write(self.stats.pointer(at));
        self.html.push_str(&format!("<{tag} data-at=\""));
        self.text(at);
        self.html
            .push_str(&format!("\" data-as=\"{}\">", form.name()));
        self.text(&text);
        self.html.push_str(&format!("</{tag}>"));
    }

    /// Text, or the value of an attribute.
    fn text(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.html.push_str("&amp;"),
                '<' => self.html.push_str("&lt;"),
                '>' => self.html.push_str("&gt;"),
                '"' => self.html.push_str("&quot;"),
                '\'' => self.html.push_str("&#39;"),
                other => self.html.push(other),
            }
        }
    }
}

/// Between the digits of numbers, and before units: narrow, and no line break.
const THIN_SPACE: char = '\u{202f}';

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(THIN_SPACE);
        }
        text.push(digit);
    }
    text
}

fn bytes(number: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0);
    format!("{value:.decimals$}{THIN_SPACE}{}", units[unit])
}

fn duration(seconds: f64) -> String {
    let whole = seconds as u64;
    let parts = [
        (whole / 86_400, "d"),
        (whole / 3_600 % 24, "h"),
        (whole / 60 % 60, "min"),
        (whole % 60, "s"),
    ];
    let first = parts.iter().position(|part| part.0 > 0).unwrap_or(3);
    let shown = parts.iter().skip(first).take(2);
    let shown: Vec<_> = shown
        .map(|(number, unit)| format!("{number}{THIN_SPACE}{unit}"))
        .collect();
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::stats::ShardStats;
    use std::sync::Arc;
    use std::time::Duration;

    fn report() -> Report {
        let udp = ["127.0.0.1:6969"];
        let http = ["[::1]:80"];
        Report {
            version: "<script>alert('1')</script>&\"",
            uptime: Duration::from_secs(100_000),
            shards: (0..2)
                .map(|_| Arc::new(ShardStats::new(&udp, &http)))
                .collect(),
            process: Some(crate::sys::process::ProcessReport::default()),
            reloads: Arc::default(),
            state: Arc::default(),
        }
    }

    /// The values of an attribute everywhere in the page.
    fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
        let start = format!(" {name}=\"");
        let parts = html.split(&start).skip(1);
        parts
            .map(|part| part.split('"').next().expect("end"))
            .collect()
    }

    #[test]
    fn every_value_of_the_page_is_in_the_json() {
        let report = report();
        let html = answer(&report).body;
        let json = stats::value(&report);
        let single = attributes(&html, "data-at");
        assert!(single.len() > 60, "{}", single.len());
        for at in &single {
            assert!(json.pointer(at).is_some(), "{at}");
        }
        let rates = attributes(&html, "data-rate");
        assert!(rates.len() > 20, "{}", rates.len());
        for at in rates.iter().flat_map(|paths| paths.split(' ')) {
            assert!(json.pointer(at).is_some_and(Value::is_number), "{at}");
        }
    }

    #[test]
    fn everything_is_escaped() {
        let html = answer(&report()).body;
        assert!(html.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;"));
        assert_eq!(html.matches("<script").count(), 1);
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        let page = answer(&report());
        for forbidden in [
            "http://",
            "https://",
            " src=",
            " href=",
            "@import",
            "url(",
            " style=",
            " onclick=",
        ] {
            assert!(!page.body.contains(forbidden), "{forbidden}");
        }
        let policy = page.policy.expect("a policy");
        for (tag, directive) in [("script", "script-src"), ("style", "style-src")] {
            let (start, end) = (format!("<{tag}>"), format!("</{tag}>"));
            let inside = page.body.split(&start).nth(1).expect("a start");
            let inside = inside.split(&end).next().expect("an end");
            let hash = BASE64_STANDARD.encode(Sha256::digest(inside));
            let allowed = format!("{directive} 'sha256-{hash}';");
            assert!(policy.contains(&allowed), "{policy}");
        }
        assert!(!policy.contains("unsafe"));
    }

    #[test]
    fn numbers_are_written_for_people() {
        let thin = |text: &str| text.replace('_', "\u{202f}");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), thin("1_234_567"));
        assert_eq!(bytes(1023), thin("1023_B"));
        assert_eq!(bytes(1536), thin("1.5_KiB"));
        assert_eq!(duration(0.4), thin("0_s"));
        assert_eq!(duration(61.0), thin("1_min 1_s"));
        assert_eq!(duration(100_000.0), thin("1_d 3_h"));
    }
}
