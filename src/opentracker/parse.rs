//! Reads opentracker's settings, from its file and from its flags, into one
//! list of directives: what is set, and where that was said.
//!
//! As opentracker does: a line is a key, blanks and a value; `#` begins a
//! comment only at the start of a line; lines that are not understood are
//! reported and skipped. Nothing is dropped in silence: each line is a
//! directive or a [`Remark`].
//!
//! Left to `import`: what a directive means here.

use crate::config::nearest;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// The port that opentracker listens on when none is named.
pub const DEFAULT_PORT: u16 = 6969;

/// Everything that was set, in its order, and what was not understood.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// What was set.
    pub directives: Vec<Directive>,
    /// What was skipped.
    pub remarks: Vec<Remark>,
}

/// One thing that was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Where.
    pub origin: Origin,
    /// What.
    pub setting: Setting,
}

/// What can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `listen.tcp_udp`, `listen.tcp`, `listen.udp`; `-p`, `-P`.
    Listen {
        /// `::` means every address of both families.
        address: SocketAddr,
        /// For HTTP.
        tcp: bool,
        /// For UDP.
        udp: bool,
    },
    /// `-i` that no `-p` or `-P` follows: where to listen if nothing else is
    /// said.
    DefaultAddress(IpAddr),
    /// `listen.udp.workers`.
    UdpWorkers,
    /// `access.whitelist`, `-w`.
    Whitelist(String),
    /// `access.blacklist`, `-b`.
    Blacklist(String),
    /// `access.fifo_add`.
    FifoAdd(String),
    /// `access.fifo_delete`.
    FifoDelete(String),
    /// `access.stats`; `None` if the network was not understood: nobody may.
    StatsNetwork(Option<Network>),
    /// `access.stats_path`, without the slash before it.
    StatsPath(String),
    /// `access.proxy`.
    Proxy(Network),
    /// `tracker.redirect_url`, `-r`.
    RedirectUrl(String),
    /// `tracker.rootdir`, `-d`.
    RootDirectory(String),
    /// `tracker.user`, `-u`.
    User(String),
    /// `livesync.…`, `batchsync.…`, `-s`.
    Cluster,
    /// `-A`.
    Admin(Network),
    /// `-l`.
    StateFile(String),
}

/// A network: an address without its host part, and the bits of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    pub ip: IpAddr,
    /// How many bits of an address name the network: 0 to 32, or 128.
    pub bits: u8,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.bits)
    }
}

/// Where something was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    Line {
        /// Its name, as it was given.
        file: Arc<str>,
        /// From 1.
        line: usize,
        /// The key there.
        key: String,
    },
    /// On the command line, with the value: `-p 6969`.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line, key } => write!(f, "{file}:{line}: {key}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// Something that has no effect, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Where it was said; `None` for what was not said but matters.
    pub origin: Option<Origin>,
    /// Why, in one sentence without a full stop.
    pub reason: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(origin) => write!(f, "{origin}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl Script {
    /// Adds what a file says. `name` is what remarks call it.
    pub fn read_text(&mut self, bytes: &[u8], name: &str) {
        let file: Arc<str> = name.into();
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let line_of = |key: &str| Origin::Line {
                file: file.clone(),
                line: index + 1,
                key: key.to_owned(),
            };
            let Ok(text) = std::str::from_utf8(line) else {
                self.remark(line_of("this line"), "is not UTF-8 text");
                continue;
            };
            let text = text.trim_matches(is_space);
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (key, value) = text.split_once(is_space).unwrap_or((text, ""));
            self.read_line(line_of(key), key, value.trim_start_matches(is_space));
        }
    }

    /// Adds what a file says.
    ///
    /// # Errors
    /// If it cannot be read. (opentracker goes on without it, and serves on its
    /// default port then.)
    pub fn read_file(&mut self, path: &Path) -> Result<(), String> {
        let shown = path.display();
        let bytes = std::fs::read(path)
            .map_err(|error| format!("{shown}: cannot be read: {error}; name a readable file"))?;
        self.read_text(&bytes, &shown.to_string());
        Ok(())
    }

    fn read_line(&mut self, origin: Origin, key: &str, value: &str) {
        if !KEYS.contains(&key) {
            let mut reason = "is no key of opentracker's".to_owned();
            if let Some(known) = nearest(key, &KEYS) {
                reason += &format!("; did you mean {known:?}?");
            }
            return self.remark(origin, &reason);
        }
        if value.is_empty() {
            return self.remark(origin, "has no value");
        }
        let text = || value.to_owned();
        let setting = match key {
            "listen.tcp_udp" => listen(value, true, true),
            "listen.tcp" => listen(value, true, false),
            "listen.udp" => listen(value, false, true),
            "listen.udp.workers" => Ok(Setting::UdpWorkers),
            "access.whitelist" => Ok(Setting::Whitelist(text())),
            "access.blacklist" => Ok(Setting::Blacklist(text())),
            "access.fifo_add" => Ok(Setting::FifoAdd(text())),
            "access.fifo_delete" => Ok(Setting::FifoDelete(text())),
            "access.stats" => {
                let network = network(value);
                if let Err(reason) = &network {
                    self.remark(origin.clone(), reason);
                }
                Ok(Setting::StatsNetwork(network.ok()))
            }
            "access.stats_path" => Ok(Setting::StatsPath(text())),
            "access.proxy" => network(value).map(Setting::Proxy),
            "tracker.redirect_url" => Ok(Setting::RedirectUrl(text())),
            "tracker.rootdir" => Ok(Setting::RootDirectory(text())),
            "tracker.user" => Ok(Setting::User(text())),
            _ => Ok(Setting::Cluster),
        };
        match setting {
            Ok(setting) => self.directives.push(Directive { origin, setting }),
            Err(reason) => self.remark(origin, &reason),
        }
    }

    pub(super) fn remark(&mut self, origin: Origin, reason: &str) {
        self.remarks.push(Remark {
            origin: Some(origin),
            reason: reason.to_owned(),
        });
    }
}

/// Every key of opentracker's file, whatever a build of it knows.
pub(super) const KEYS: [&str; 18] = [
    "listen.tcp_udp",
    "listen.tcp",
    "listen.udp",
    "listen.udp.workers",
    "access.whitelist",
    "access.blacklist",
    "access.fifo_add",
    "access.fifo_delete",
    "access.stats",
    "access.stats_path",
    "access.proxy",
    "tracker.redirect_url",
    "tracker.rootdir",
    "tracker.user",
    "livesync.cluster.listen",
    "livesync.cluster.node_ip",
    "batchsync.cluster.admin_ip",
    "batchsync.cluster.node_ip",
];

/// What C's `isspace` takes for a blank.
const fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t'..='\r')
}

fn listen(value: &str, tcp: bool, udp: bool) -> Result<Setting, String> {
    let address = address(value)?;
    Ok(Setting::Listen { address, tcp, udp })
}

/// Reads `ip`, `ip:port`, `[ip]`, `[ip]:port` and, for IPv6, `ip.port`. What
/// follows after a blank is ignored.
fn address(value: &str) -> Result<SocketAddr, String> {
    let word = value.split(is_space).next().unwrap_or_default();
    let wrong = || {
        format!(
            "{word:?} is not an address; opentracker's are \"192.0.2.1\", \"192.0.2.1:6969\" or \
             \"[2001:db8::1]:6969\""
        )
    };
    let (host, port) = match word.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']').ok_or_else(wrong)?;
            (host, behind.strip_prefix([':', '.']).or(none_if(behind)))
        }
        None if word.matches(':').count() < 2 => match word.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (word, Some("")),
        },
        // A dot may stand for the colon, but one address may also end in
        // another: "::ffff:192.0.2.1".
        None if word.parse::<IpAddr>().is_ok() => (word, Some("")),
        None => match word.rsplit_once('.') {
            Some((host, port)) => (host, Some(port)),
            None => (word, Some("")),
        },
    };
    let ip = ip(host).ok_or_else(wrong)?;
    let port = match port.ok_or_else(wrong)? {
        "" => DEFAULT_PORT,
        port => self::port(port).ok_or_else(wrong)?,
    };
    Ok(SocketAddr::new(ip, port))
}

fn none_if(behind: &str) -> Option<&str> {
    behind.is_empty().then_some("")
}

/// An address of either family; IPv4 may be written as IPv6.
pub(super) fn ip(text: &str) -> Option<IpAddr> {
    let ip: IpAddr = text.parse().ok()?;
    Some(ip.to_canonical())
}

/// A port: opentracker takes the digits there are. 0 would be a new port at
/// every start.
pub(super) fn port(text: &str) -> Option<u16> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    text.get(..digits)?.parse().ok().filter(|&port| port != 0)
}

/// Reads `ip` or `ip/bits`.
pub(super) fn network(value: &str) -> Result<Network, String> {
    let word = value.split(is_space).next().unwrap_or_default();
    let wrong = || format!("{word:?} is not a network; write it as \"192.0.2.0/24\"");
    let (ip_text, bits) = match word.split_once('/') {
        Some((ip, bits)) => (ip, Some(bits)),
        None => (word, None),
    };
    let ip = ip(ip_text).ok_or_else(wrong)?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => most,
        Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
            bits.parse().map_err(|_| wrong())?
        }
        Some(_) => return Err(wrong()),
    };
    if bits > most {
        return Err(format!("{word:?} has more than {most} bits"));
    }
    let ip = match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
        }
    };
    Ok(Network { ip, bits })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Script {
        let mut script = Script::default();
        script.read_text(text.as_bytes(), "ot.conf");
        script
    }

    /// What a file of one line sets.
    fn setting(line: &str) -> Setting {
        let script = read(line);
        assert!(script.remarks.is_empty(), "{line}: {:?}", script.remarks);
        assert_eq!(script.directives.len(), 1, "{line}");
        script.directives[0].setting.clone()
    }

    #[test]
    fn addresses_are_read_as_opentracker_reads_them() {
        for (value, expected) in [
            ("192.0.2.1", "192.0.2.1:6969"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("192.0.2.1:80 # why", "192.0.2.1:80"),
            ("0.0.0.0", "0.0.0.0:6969"),
            ("::", "[::]:6969"),
            ("[::]", "[::]:6969"),
            ("[::]:80", "[::]:80"),
            ("2001:db8::1", "[2001:db8::1]:6969"),
            ("2001:db8::1.80", "[2001:db8::1]:80"),
            ("[2001:db8::1].80", "[2001:db8::1]:80"),
            ("::ffff:192.0.2.1", "192.0.2.1:6969"),
        ] {
            let expected: SocketAddr = expected.parse().expect("an address");
            let Setting::Listen { address, .. } = setting(&format!("listen.tcp {value}")) else {
                panic!("{value}: no address");
            };
            assert_eq!(address, expected, "{value}");
        }
        for value in [
            "localhost",
            "192.0.2.1:x",
            "192.0.2.1:70000",
            "[::1",
            "[::1]80",
            ":80",
        ] {
            let script = read(&format!("listen.udp {value}"));
            assert!(script.directives.is_empty(), "{value}");
            let remark = script.remarks[0].to_string();
            assert!(remark.starts_with("ot.conf:1: listen.udp: "), "{remark}");
        }
    }

    #[test]
    fn networks_lose_their_host_part() {
        for (value, expected) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("192.0.2.7/0", "0.0.0.0/0"),
            ("::ffff:192.0.2.7/24", "192.0.2.0/24"),
            ("2001:db8::7/32", "2001:db8::/32"),
            ("2001:db8::7", "2001:db8::7/128"),
        ] {
            assert_eq!(
                network(value).map(|net| net.to_string()),
                Ok(expected.to_owned())
            );
        }
        for value in [
            "192.0.2.7/33",
            "2001:db8::/129",
            "x",
            "192.0.2.7/",
            "192.0.2.7/+8",
        ] {
            assert!(network(value).is_err(), "{value}");
        }
    }

    #[test]
    fn every_line_is_a_directive_or_a_remark() {
        let script = read(
            "# a comment\r\n\r\n  access.whitelist\t /a b # c \r\nlisten.tpc ::\ntracker.user\n\
             access.stats nobody\ntracker.redirect_url",
        );
        let settings: Vec<_> = script.directives.iter().map(|set| &set.setting).collect();
        assert_eq!(
            settings,
            [
                &Setting::Whitelist("/a b # c".to_owned()),
                &Setting::StatsNetwork(None),
            ]
        );
        assert_eq!(
            script.directives[0].origin.to_string(),
            "ot.conf:3: access.whitelist"
        );
        let remarks: Vec<String> = script.remarks.iter().map(Remark::to_string).collect();
        assert_eq!(remarks.len(), 4, "{remarks:?}");
        assert!(
            remarks[0].starts_with("ot.conf:4: listen.tpc: is no key"),
            "{remarks:?}"
        );
        assert!(
            remarks[0].contains("did you mean \"listen.tcp\"?"),
            "{remarks:?}"
        );
        assert_eq!(remarks[1], "ot.conf:5: tracker.user: has no value");
        assert!(remarks[2].contains("is not a network"), "{remarks:?}");
        assert_eq!(remarks[3], "ot.conf:7: tracker.redirect_url: has no value");

        let mut script = Script::default();
        script.read_text(b"\xef\xbb\xbftracker.user a\n\xff\xfe\n", "x");
        assert_eq!(script.directives.len(), 1);
        assert_eq!(
            script.remarks[0].to_string(),
            "x:2: this line: is not UTF-8 text"
        );
    }

    #[test]
    fn every_key_is_known() {
        for key in KEYS {
            let value = match key {
                key if key.starts_with("listen") => "192.0.2.1",
                key if key.starts_with("access") => "192.0.2.0/24",
                _ => "word",
            };
            setting(&format!("{key} {value}"));
        }
    }
}
