//! The keys of `http` about what opentracker's tools read: its statistics and
//! full scrapes.

use super::reader::{Section, Whole};
use super::settings::HttpConfig;
use crate::protocol::Dialect;
use crate::protocol::http::Routes;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Takes these keys; the routes have been read.
pub(super) fn read(section: &mut Section<'_>, dialect: Dialect, http: &mut HttpConfig) {
    if let Some(path) = section.text("stats_path") {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        let slashed = format!("/{path}");
        let routes = Routes::compile(&http.announce_routes, &http.scrape_routes);
        if path.starts_with('/') || !path.bytes().all(is_plain) {
            let message =
                format!("{path:?} is not a path without its first slash; write it as \"stats\"");
            section.refuse("stats_path", &message);
        } else if !path.is_empty() && routes.is_ok_and(|routes| routes.find(&slashed).is_some()) {
            section.refuse(
                "stats_path",
                "is also an announce or scrape route; choose another",
            );
        } else if dialect == Dialect::Opentracker
            && (path.starts_with('a') || path.starts_with("sc"))
        {
            section.refuse(
                "stats_path",
                "is an announce or a scrape in the dialect of opentracker, which goes by the \
                 first letters \"a\" and \"sc\"; choose another",
            );
        } else {
            http.stats_path = path.to_owned();
        }
    }
    section.prefixes("stats_networks", &mut http.stats_networks);
    section.boolean("full_scrape", &mut http.full_scrape);
    section.prefixes("full_scrape_networks", &mut http.full_scrape_networks);
    section.duration(
        "full_scrape_pause",
        Duration::ZERO..=DAY,
        Whole::Any,
        &mut http.full_scrape_pause,
    );
    if section.is_sound(&["full_scrape", "scrape_routes"])
        && http.full_scrape
        && http.scrape_routes.is_empty()
    {
        section.refuse(
            "full_scrape",
            "is of no use without a scrape route; name one in scrape_routes or remove this",
        );
    }
}

/// What may not be meant.
pub(super) fn warnings(http: &HttpConfig) -> impl Iterator<Item = String> {
    let networks = [
        (
            "stats_networks",
            &http.stats_networks,
            "stats_path",
            http.stats_path.is_empty(),
        ),
        (
            "full_scrape_networks",
            &http.full_scrape_networks,
            "full_scrape",
            !http.full_scrape,
        ),
    ];
    networks
        .into_iter()
        .filter(|(_, networks, _, is_off)| *is_off && !networks.is_empty())
        .map(|(key, _, other, _)| format!("http.{key} has no effect while http.{other} is off"))
}
