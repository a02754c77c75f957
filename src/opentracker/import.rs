//! What opentracker's directives mean here: the text of a `config.yaml`, with
//! a comment on every key.
//!
//! Constants that opentracker is compiled with (intervals, limits, timeouts)
//! are keys here, so the text says what they are there.

use super::page::{Page, quoted};
use super::parse::{DEFAULT_PORT, Directive, Network, Origin, Remark, Script, Setting};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};

/// How the tracker is started, as far as it decides what a directive means.
#[derive(Clone, Debug)]
pub struct Start {
    /// Started as root: opentracker then changes its root directory and its
    /// user. Otherwise it only changes its directory.
    pub privileged: bool,
    /// What is not opened stays closed, as with the builds that distributions
    /// make (Debian's): without a whitelist every torrent is refused, and
    /// without `access.stats` nobody may read statistics. opentracker's own
    /// defaults serve every torrent, and statistics to everybody.
    pub closed: bool,
    /// Where relative paths begin.
    pub directory: PathBuf,
}

/// A configuration made of opentracker's.
#[derive(Clone, Debug)]
pub struct Import {
    /// The text of our configuration file.
    pub yaml: String,
    /// What is not in it, or not as there, and why.
    pub remarks: Vec<Remark>,
}

pub(super) fn import(script: &Script, start: &Start, name: &str) -> Import {
    let mut importer = Importer {
        wanted: Wanted::default(),
        remarks: script.remarks.clone(),
        start,
    };
    for directive in &script.directives {
        importer.take(directive);
    }
    importer.settle();
    // As they stand in the file; what was not said comes last.
    importer.remarks.sort_by_key(|remark| match &remark.origin {
        Some(Origin::Line { line, .. }) => *line,
        Some(Origin::Flag(_)) => usize::MAX - 1,
        None => usize::MAX,
    });
    let mut page = Page::default();
    importer.write(&mut page);
    Import {
        yaml: page.finish(name, &importer.remarks),
        remarks: importer.remarks,
    }
}

/// A value and where it was given.
type Given<T> = Option<(T, Origin)>;

/// What the directives amount to: of most keys the last counts.
#[derive(Default)]
struct Wanted {
    tcp: Vec<SocketAddr>,
    udp: Vec<SocketAddr>,
    default_ip: Option<IpAddr>,
    whitelist: Given<String>,
    blacklist: Given<String>,
    fifo_add: Given<String>,
    fifo_delete: Given<String>,
    /// Whether `access.stats` was given at all: then only these may.
    stats_restricted: Given<()>,
    stats_networks: Vec<Network>,
    /// Whether nobody may.
    stats_closed: bool,
    stats_path: Given<String>,
    admins: Vec<(Network, Origin)>,
    proxies: Vec<Network>,
    proxies_from: Option<Origin>,
    redirect_url: Given<String>,
    root: Given<String>,
    user: Given<String>,
    state_file: Given<String>,
}

struct Importer<'a> {
    wanted: Wanted,
    remarks: Vec<Remark>,
    start: &'a Start,
}

impl Importer<'_> {
    fn take(&mut self, directive: &Directive) {
        let origin = || directive.origin.clone();
        let wanted = &mut self.wanted;
        let given = |text: &String| Some((text.clone(), origin()));
        match &directive.setting {
            Setting::Listen { address, tcp, udp } => {
                let mut twice = false;
                for (on, list) in [(tcp, &mut wanted.tcp), (udp, &mut wanted.udp)] {
                    twice |= *on && !listen_on(list, *address);
                }
                if twice {
                    self.remark(origin(), "is listened on already");
                }
            }
            Setting::DefaultAddress(ip) => wanted.default_ip = Some(*ip),
            Setting::UdpWorkers => self.remark(
                origin(),
                "has no equivalent: every shard, one per core, serves UDP in its own loop (shards)",
            ),
            Setting::Whitelist(path) => wanted.whitelist = given(path),
            Setting::Blacklist(path) => wanted.blacklist = given(path),
            Setting::FifoAdd(path) => wanted.fifo_add = given(path),
            Setting::FifoDelete(path) => wanted.fifo_delete = given(path),
            Setting::StatsNetwork(network) => {
                wanted.stats_restricted = Some(((), origin()));
                wanted.stats_networks.extend(network);
            }
            Setting::StatsPath(word) => wanted.stats_path = given(word),
            Setting::Proxy(network) => {
                wanted.proxies.push(*network);
                wanted.proxies_from = Some(origin());
            }
            Setting::RedirectUrl(url) if url.bytes().all(|byte| byte.is_ascii_graphic()) => {
                wanted.redirect_url = given(url);
            }
            Setting::RedirectUrl(_) => self.remark(
                origin(),
                "is not a URL: it has blanks, or characters that a URL must write with %",
            ),
            Setting::RootDirectory(path) => wanted.root = given(path),
            Setting::User(name) => wanted.user = given(name),
            Setting::Cluster => self.remark(
                origin(),
                "karuta does not exchange peers with other trackers (opentracker's packets carry \
                 no authentication)",
            ),
            Setting::Admin(network) => wanted.admins.push((*network, origin())),
            Setting::StateFile(path) => wanted.state_file = given(path),
        }
    }

    /// Fills in what was not said, and says what cannot be had.
    fn settle(&mut self) {
        if self.wanted.tcp.is_empty() && self.wanted.udp.is_empty() {
            let ip = self.wanted.default_ip;
            let ip = ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
            let address = SocketAddr::new(ip, DEFAULT_PORT);
            listen_on(&mut self.wanted.tcp, address);
            listen_on(&mut self.wanted.udp, address);
        }
        if self.wanted.tcp.is_empty() {
            self.forget_http();
        }
        if !self.wanted.tcp.is_empty() {
            self.settle_statistics();
        }
        self.settle_lists();
        if !self.start.privileged {
            if let Some((_, origin)) = self.wanted.user.take() {
                self.remark(
                    origin,
                    "has no effect without root, as there: the tracker runs as who starts it",
                );
            }
            if let Some((_, origin)) = self.wanted.root.clone() {
                self.remark(
                    origin,
                    "without root it is only where relative paths begin, as there",
                );
            }
        }
    }

    /// Who may read statistics: builds of opentracker differ in it, too.
    fn settle_statistics(&mut self) {
        let given = self.wanted.stats_restricted.clone();
        let restricted = given.is_some() || self.start.closed;
        for (network, origin) in std::mem::take(&mut self.wanted.admins) {
            if restricted {
                self.wanted.stats_networks.push(network);
            } else {
                self.remark(origin, "everybody may read the statistics already");
            }
        }
        if let Some((word, origin)) = self.wanted.stats_path.clone()
            && let Some(reason) = never_reached(&word)
        {
            self.wanted.stats_closed = true;
            return self.remark(origin, reason);
        }
        let reason = match restricted {
            true if !self.wanted.stats_networks.is_empty() => return,
            true => {
                self.wanted.stats_closed = true;
                "no network may read the statistics, so they are not served"
            }
            false => {
                "access.stats is not given: everybody may read the statistics. A build of \
                 opentracker that restricts them, such as Debian's, serves them to nobody then; \
                 start with --closed to keep that"
            }
        };
        self.remarks.push(Remark {
            origin: given.map(|(_, origin)| origin),
            reason: reason.to_owned(),
        });
    }

    /// What only HTTP can do cannot be had without it, as there.
    fn forget_http(&mut self) {
        let wanted = &mut self.wanted;
        let texts = [wanted.stats_path.take(), wanted.redirect_url.take()];
        let texts = texts.into_iter().flatten().map(|(_, origin)| origin);
        let others = [
            wanted.stats_restricted.take().map(|(_, origin)| origin),
            wanted.proxies_from.take(),
        ];
        let admins = std::mem::take(&mut wanted.admins);
        let admins = admins.into_iter().map(|(_, origin)| origin);
        let origins: Vec<Origin> = texts
            .chain(others.into_iter().flatten())
            .chain(admins)
            .collect();
        for origin in origins {
            self.remark(origin, "has no effect: no TCP address is listened on");
        }
    }

    fn settle_lists(&mut self) {
        let wanted = &self.wanted;
        let lists = (wanted.whitelist.is_some(), wanted.blacklist.is_some());
        let fifos = [&wanted.fifo_add, &wanted.fifo_delete];
        let fifo = fifos.into_iter().flatten().next();
        let (origin, reason) = match (lists, fifo) {
            ((true, true), _) => (
                wanted.blacklist.as_ref().map(|(_, origin)| origin.clone()),
                "a build of opentracker knows only one kind of list; here both count: a torrent \
                 must be on the whitelist and not on the blacklist (FIFOs change the whitelist)",
            ),
            ((false, false), Some((_, origin))) if !self.start.closed => (
                Some(origin.clone()),
                "there is no list that it could change; name access.whitelist or \
                 access.blacklist, or start with --closed",
            ),
            ((false, _), _) if self.start.closed => (
                None,
                "no whitelist is named, and --closed asks for one: every torrent is refused",
            ),
            ((false, false), None) => (
                None,
                "no list is named: every torrent is served. A whitelist build of opentracker, \
                 such as Debian's, refuses every one then; start with --closed to keep that",
            ),
            _ => return,
        };
        let reason = reason.to_owned();
        self.remarks.push(Remark { origin, reason });
    }

    fn remark(&mut self, origin: Origin, reason: &str) {
        self.remarks.push(Remark {
            origin: Some(origin),
            reason: reason.to_owned(),
        });
    }

    /// A file's path as the running tracker must open it: opentracker opens
    /// lists, FIFOs and the state file after it has changed its directory.
    fn path(&self, path: &str) -> String {
        let Some((root, _)) = &self.wanted.root else {
            let path = match self.start.privileged {
                // As root it changes to "/" even without a root directory.
                true => Path::new("/").join(path),
                false => self.start.directory.join(path),
            };
            return shown(&path);
        };
        let root = plain(&self.start.directory.join(root));
        if !self.start.privileged {
            return shown(&root.join(path));
        }
        // Below the new root. A path that begins with it was meant for a start
        // without root (Debian's file is such a case).
        let path = plain(&Path::new("/").join(path));
        let inside = path.strip_prefix(&root).unwrap_or(&path);
        shown(&Path::new("/").join(inside))
    }

    fn write(&self, page: &mut Page) {
        self.write_root(page);
        if !self.wanted.tcp.is_empty() {
            self.write_http(page);
        }
        if !self.wanted.udp.is_empty() {
            self.write_udp(page);
        }
        page.section("storage", "");
        page.nested("name", "", "memory");
        page.line("  config:");
        page.deep("peer_lifetime", "How long opentracker keeps a peer.", "45m");
        page.deep(
            "downloads_lifetime",
            "How long it keeps the downloads of a torrent without peers.",
            "24h",
        );
        self.write_lists(page);
    }

    fn write_root(&self, page: &mut Page) {
        page.root(
            "dialect",
            "Answer as opentracker does: its routes, texts and order of keys.",
            quoted("opentracker"),
        );
        page.root(
            "announce_interval",
            "Each reply's interval is drawn from 1620 to 1979 seconds, and the least\n\
             interval is half of it.",
            quoted("27m"),
        );
        page.root("announce_interval_spread", "", quoted("359s"));
        page.root("min_announce_interval", "", quoted("13m30s"));
        page.root(
            "metrics_addr",
            "opentracker has no metrics; an address such as \"127.0.0.1:6880\" turns\n\
             them on.",
            quoted(""),
        );
        let wanted = &self.wanted;
        if self.start.privileged {
            let (user, comment) = match &wanted.user {
                Some((user, origin)) => (user.as_str(), origin.to_string()),
                None => (
                    "nobody",
                    "Who opentracker becomes when it is started as root.".to_owned(),
                ),
            };
            page.root("user", &comment, quoted(user));
            if let Some((root, origin)) = &wanted.root {
                let root = plain(&self.start.directory.join(root));
                let comment = format!("{origin}\nPaths below are inside of it.");
                page.root("chroot", &comment, quoted(&shown(&root)));
            }
        }
        if let Some((path, origin)) = &wanted.state_file {
            let path = quoted(&self.path(path));
            page.root("opentracker_state_file", &origin.to_string(), path);
        }
    }

    fn write_http(&self, page: &mut Page) {
        let wanted = &self.wanted;
        page.section("http", "");
        page.nested_raw("addr", "", addresses(&wanted.tcp));
        page.nested(
            "read_timeout",
            "opentracker's limits for connections and replies.",
            "30s",
        );
        page.nested("write_timeout", "", "30s");
        page.nested_raw("max_numwant", "", "200".to_owned());
        page.nested_raw("default_numwant", "", "50".to_owned());
        page.nested_raw("max_scrape_infohashes", "", "64".to_owned());
        if let Some((url, origin)) = &wanted.redirect_url {
            page.nested("redirect_url", &origin.to_string(), url);
        }
        if let Some(origin) = &wanted.proxies_from {
            let comment = format!(
                "{origin}\nOf the header's addresses, the last that is not a proxy's counts \
                 (opentracker\ntakes the first, which a client can make up)."
            );
            page.nested_raw("trusted_proxies", &comment, networks(&wanted.proxies));
            page.nested("real_ip_header", "", "X-Forwarded-For");
        }
        let (word, comment) = match &wanted.stats_path {
            Some((word, origin)) => (word.as_str(), origin.to_string()),
            None => (
                "stats",
                "Where opentracker serves its statistics.".to_owned(),
            ),
        };
        if wanted.stats_closed {
            page.nested("stats_path", "Nobody may read statistics.", "");
        } else {
            page.nested("stats_path", &comment, word);
        }
        if !wanted.stats_networks.is_empty() {
            let comment = match &wanted.stats_restricted {
                Some((_, origin)) => origin.to_string(),
                None => "-A".to_owned(),
            };
            page.nested_raw("stats_networks", &comment, networks(&wanted.stats_networks));
        }
        page.nested_raw(
            "full_scrape",
            "/scrape without a query tells everything, to everybody, as there.",
            "true".to_owned(),
        );
    }

    fn write_udp(&self, page: &mut Page) {
        page.section("udp", "");
        page.nested_raw("addr", "", addresses(&self.wanted.udp));
        page.nested_raw(
            "max_numwant",
            "opentracker's limits: 200 peers over IPv4, 66 over IPv6, also for clients\n\
             that do not say how many.",
            "200".to_owned(),
        );
        page.nested_raw("default_numwant", "", "200".to_owned());
        page.nested_raw("max_packet_bytes_ipv6", "", "1208".to_owned());
        page.nested_raw("max_scrape_infohashes", "", "75".to_owned());
    }

    fn write_lists(&self, page: &mut Page) {
        let wanted = &self.wanted;
        let mut fifos = vec![
            ("fifo_add", &wanted.fifo_add),
            ("fifo_delete", &wanted.fifo_delete),
        ];
        let white = wanted.whitelist.as_ref();
        let black = wanted.blacklist.as_ref();
        if white.is_none() && black.is_none() && !self.start.closed {
            return;
        }
        page.section("prehooks", "");
        let mut list = |page: &mut Page, kind: &str, file: Option<&(String, Origin)>| {
            page.line("- name: \"torrent approval\"");
            page.line("  options:");
            match file {
                Some((path, origin)) => {
                    let key = format!("{kind}_file");
                    page.deep(&key, &origin.to_string(), &self.path(path));
                }
                None => {
                    page.comment(4, "--closed without a list: nothing is served.");
                    page.line(&format!("    {kind}: []"));
                }
            }
            page.deep(
                "format",
                "Lines that are no hash are skipped, as there.",
                "opentracker",
            );
            for (key, fifo) in std::mem::take(&mut fifos) {
                if let Some((path, origin)) = fifo {
                    page.deep(key, &origin.to_string(), &self.path(path));
                }
            }
        };
        if white.is_some() || self.start.closed {
            list(page, "whitelist", white);
        }
        if black.is_some() {
            list(page, "blacklist", black);
        }
    }
}

/// Why opentracker never serves its statistics at this path, if so: it compares
/// it with what follows the slashes, after it has looked for announces and
/// scrapes.
fn never_reached(word: &str) -> Option<&'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    if word.starts_with('/') {
        Some("begins with a slash, and is found by nobody, as there")
    } else if word.starts_with('a') || word.starts_with("sc") {
        Some("begins as an announce or a scrape does, and is taken for one, as there")
    } else if !word.bytes().all(is_plain) {
        Some("has characters that no path has; statistics are not served")
    } else {
        None
    }
}

/// Adds an address; `::` stands for both families. False if it was there.
fn listen_on(list: &mut Vec<SocketAddr>, address: SocketAddr) -> bool {
    let mut wanted = vec![address];
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        wanted.insert(0, v4);
    }
    wanted.retain(|address| !list.contains(address));
    list.extend(&wanted);
    !wanted.is_empty()
}

/// A path without `.` and empty parts; `..` stays, since it may lead through a
/// symbolic link.
fn plain(path: &Path) -> PathBuf {
    let parts = path.components();
    parts.filter(|part| *part != Component::CurDir).collect()
}

fn shown(path: &Path) -> String {
    plain(path).display().to_string()
}

fn addresses(list: &[SocketAddr]) -> String {
    let list: Vec<String> = list
        .iter()
        .map(|address| quoted(&address.to_string()))
        .collect();
    format!("[{}]", list.join(", "))
}

fn networks(list: &[Network]) -> String {
    let list: Vec<String> = list
        .iter()
        .map(|network| quoted(&network.to_string()))
        .collect();
    format!("[{}]", list.join(", "))
}

#[cfg(test)]
mod tests;
