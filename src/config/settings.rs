//! The settings themselves: plain values, their meaning and their defaults.
//!
//! Every field here is a key of the YAML file, under the same name. What
//! values are allowed is said here and enforced in `rules`; a `Config` that
//! was loaded is therefore valid, one that was built by hand need not be.

use super::hooks::HookConfig;
use super::prefix::Prefix;
use super::xdp::XdpMode;
use super::{address, duration};
use crate::protocol::{Dialect, udp};
use serde::Serialize;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Everything that can be set. [`Config::default`] is what `karuta` runs with
/// when no file is named, and what the `config.yaml` of the project says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// How long clients should wait between announces. Whole seconds, 1s to
    /// 24h, default 30m.
    #[serde(serialize_with = "duration::serialize")]
    pub announce_interval: Duration,
    /// How long clients must wait at least. Whole seconds, 1s to
    /// `announce_interval`, default 15m.
    #[serde(serialize_with = "duration::serialize")]
    pub min_announce_interval: Duration,
    /// How much later than that a reply may say: each says `announce_interval`
    /// and a random part of this. Whole seconds, 0s to 24h, default 0s.
    #[serde(serialize_with = "duration::serialize")]
    pub announce_interval_spread: Duration,
    /// Whose manners the tracker has. Default `karuta`.
    pub dialect: Dialect,
    /// Where metrics are served over HTTP; empty means nowhere. Default
    /// 127.0.0.1:6880.
    #[serde(serialize_with = "address::serialize")]
    pub metrics_addr: Vec<SocketAddr>,
    /// How many shards (executors, each on a core of its own) to run. 0 to
    /// 1024, default 0: one per core the process may use.
    pub shards: usize,
    /// The real-time priority (SCHED_FIFO) of the shards' threads: whatever has
    /// none waits for them. 0 to 99, default 0: they have none.
    pub realtime_priority: u8,
    /// Whether announces with `event=started` are counted by client. Default
    /// false.
    pub client_breakdown: bool,
    /// The user, by name or number, that a process started as root becomes
    /// once its sockets are bound. Default empty: it stays who it is.
    pub user: String,
    /// The group that it becomes with it. Default empty: the user's own.
    pub group: String,
    /// The directory that becomes its root at the same time; an absolute path.
    /// Paths in this file are then below it. Default empty: none.
    pub chroot: String,
    /// The HTTP frontend; `None` (the section is omitted or empty) means off.
    pub http: Option<HttpConfig>,
    /// The UDP frontend; `None` (the section is omitted or empty) means off.
    pub udp: Option<UdpConfig>,
    /// Where swarms are kept and for how long.
    pub storage: StorageConfig,
    /// Where all swarms and peers are saved at the stop and loaded from at the
    /// start. Default empty: nowhere.
    pub state_file: PathBuf,
    /// How often they are saved meanwhile. Whole seconds, up to 24h; default
    /// 0s: at the stop only.
    #[serde(serialize_with = "duration::serialize")]
    pub state_interval: Duration,
    /// A file of opentracker's (`statedump`) whose download counts are taken
    /// over at the start. Default empty: none.
    pub opentracker_state_file: PathBuf,
    /// Hooks that run before the reply, in this order. Default none.
    pub prehooks: Vec<HookConfig>,
    /// Hooks that run after the reply, in this order. Default none.
    pub posthooks: Vec<HookConfig>,
    /// What the file asked for that has no effect here, one sentence each.
    #[serde(skip)]
    pub(crate) notices: Vec<String>,
}

/// The HTTP frontend (BEP 3, 7, 23, 24, 48).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HttpConfig {
    /// Where to listen. At least one here or in `https_addr`; default all IPv4
    /// and all IPv6 addresses on port 6969. Port 0 lets the kernel choose.
    #[serde(serialize_with = "address::serialize")]
    pub addr: Vec<SocketAddr>,
    /// Where to listen for HTTPS. Default none.
    #[serde(serialize_with = "address::serialize")]
    pub https_addr: Vec<SocketAddr>,
    /// The file with the certificate and its chain, in PEM form. Empty without
    /// `https_addr`.
    pub tls_cert_path: PathBuf,
    /// The file with the certificate's private key, in PEM form (PKCS #8, SEC1
    /// or PKCS #1). Empty without `https_addr`.
    pub tls_key_path: PathBuf,
    /// How long a client may take to send one request. 1ms to 1h, default 5s.
    #[serde(serialize_with = "duration::serialize")]
    pub read_timeout: Duration,
    /// How long a client may take to accept one reply. 1ms to 1h, default 5s.
    #[serde(serialize_with = "duration::serialize")]
    pub write_timeout: Duration,
    /// Whether a connection may carry several requests. Default false.
    pub enable_keepalive: bool,
    /// How long a kept connection may be silent between requests. 1ms to 1h,
    /// default 30s.
    #[serde(serialize_with = "duration::serialize")]
    pub idle_timeout: Duration,
    /// Accepted for Chihaya's files; has no effect. Default false.
    pub enable_request_timing: bool,
    /// Paths that are announces. At least one; default `/announce`.
    pub announce_routes: Vec<String>,
    /// Paths that are scrapes; none turns scrapes off. Default `/scrape`.
    pub scrape_routes: Vec<String>,
    /// Whether the parameters `ip`, `ipv4` and `ipv6` decide where other peers
    /// are sent. Default false: anybody could name a victim.
    pub allow_ip_spoofing: bool,
    /// The header in which a proxy in front passes the client's address; empty
    /// means no such header is read. Default empty. Compare without case.
    pub real_ip_header: String,
    /// The proxies whose word is taken, by `real_ip_header` and by the PROXY
    /// protocol; empty means everybody's. Default empty.
    pub trusted_proxies: Vec<Prefix>,
    /// Whether every connection begins with a header of the PROXY protocol,
    /// version 1 or 2. Default false.
    pub proxy_protocol: bool,
    /// Most peers in one reply. 1 to 2000, default 100.
    pub max_numwant: u32,
    /// Peers in one reply when the client does not say. 0 to `max_numwant`,
    /// default 50.
    pub default_numwant: u32,
    /// Most info hashes in one scrape. 1 to 1000, default 50.
    pub max_scrape_infohashes: usize,
    /// Most connections open at once, per shard. 1 to 1000000, default 8192.
    pub max_connections: usize,
    /// Most bytes of one request: request line and headers. 1024 to 65536,
    /// default 8192.
    pub max_request_bytes: usize,
    /// Whether replies tell the client its own address (`external ip`,
    /// BEP 24). Default false.
    pub external_ip: bool,
    /// Where `GET /` leads (302); empty means to a page of ours. Default empty.
    pub redirect_url: String,
    /// The path, without its slash, where opentracker's statistics are served
    /// (`stats` there); empty means nowhere. Default empty.
    pub stats_path: String,
    /// Who may read them; empty means all. Default empty.
    pub stats_networks: Vec<Prefix>,
    /// Whether a scrape without an info hash is answered with every swarm.
    /// Default false.
    pub full_scrape: bool,
    /// Who may ask for that; empty means all. Default empty.
    pub full_scrape_networks: Vec<Prefix>,
    /// How long an address waits between two lists of every swarm, full
    /// scrapes or statistics. 0s to 24h, default 10s.
    #[serde(serialize_with = "duration::serialize")]
    pub full_scrape_pause: Duration,
}

/// The UDP frontend (BEP 15, 41).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UdpConfig {
    /// Where to listen. At least one; default all IPv4 and all IPv6 addresses
    /// on port 6969. Port 0 lets the kernel choose.
    #[serde(serialize_with = "address::serialize")]
    pub addr: Vec<SocketAddr>,
    /// How far the clocks of instances that share `private_key` may differ;
    /// connection ids stay valid this much longer. Whole seconds, 0s to 180s,
    /// default 10s.
    #[serde(serialize_with = "duration::serialize")]
    pub max_clock_skew: Duration,
    /// The key of connection ids. Instances with the same key accept each
    /// other's ids. Default empty: a random key at every start.
    pub private_key: Secret,
    /// Accepted for Chihaya's files; has no effect. Default false.
    pub enable_request_timing: bool,
    /// Whether the address field of an announce decides where other peers are
    /// sent. Default false: anybody could name a victim.
    pub allow_ip_spoofing: bool,
    /// Most peers in one reply (a reply is also bounded by the packet size
    /// below). 1 to 2000, default 100.
    pub max_numwant: u32,
    /// Peers in one reply when the client does not say. 0 to `max_numwant`,
    /// default 50.
    pub default_numwant: u32,
    /// Most info hashes answered in one scrape. 1 to 74 (BEP 15), default 50;
    /// in opentracker's dialect 1 to 75, default 75.
    pub max_scrape_infohashes: usize,
    /// Whether the kernel hands each packet to the shard that owns its info
    /// hash. Default `kernel`.
    pub steering: Steering,
    /// Most payload bytes of a reply over IPv4. 508 to 65507, default 1452:
    /// passes an Ethernet path with a tunnel's header without fragments.
    pub max_packet_bytes_ipv4: usize,
    /// Most payload bytes of a reply over IPv6. 508 to 65507, default 1232:
    /// what every IPv6 path must carry (1280) without the headers.
    pub max_packet_bytes_ipv6: usize,
    /// Bytes of receive buffer asked for each socket (SO_RCVBUF; the kernel
    /// may grant less). 0 to 1073741824, default 4194304; 0 leaves the system's
    /// default.
    pub receive_buffer_bytes: usize,
    /// Bytes of send buffer asked for each socket (SO_SNDBUF; the kernel may
    /// grant less). 0 to 1073741824, default 4194304; 0 leaves the system's
    /// default.
    pub send_buffer_bytes: usize,
    /// Network interfaces whose datagrams are taken past the kernel's network
    /// stack (AF_XDP). Names as `ip link` shows them; default none.
    pub xdp_interfaces: Vec<String>,
    /// Where on its way a frame is taken. Default `auto`.
    pub xdp_mode: XdpMode,
}

/// Who finds the shard that owns a packet's info hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Steering {
    /// A program on the sockets (SO_ATTACH_REUSEPORT_CBPF): announces arrive at
    /// their owner. Needs no privilege.
    #[default]
    Kernel,
    /// The kernel's own choice by address; shards hand packets on.
    Off,
}

/// Which storage, and its settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StorageConfig {
    /// The kind of storage. Only `memory` exists.
    pub name: StorageName,
    /// Its settings.
    pub config: MemoryConfig,
}

/// The kinds of storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageName {
    /// In this process, lost when it ends.
    #[default]
    Memory,
}

/// Settings of the storage `memory`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryConfig {
    /// How long a sweep for expired peers takes to pass over everything once.
    /// 1s to 24h, default 3m. A peer may stay this much longer than its
    /// lifetime.
    #[serde(serialize_with = "duration::serialize")]
    pub gc_interval: Duration,
    /// How long a peer is kept after its last announce. Whole seconds, 1s to
    /// 24h, default 31m.
    #[serde(serialize_with = "duration::serialize")]
    pub peer_lifetime: Duration,
    /// Accepted for Chihaya's files; metrics are always current here. 0s to
    /// 24h, default 1s.
    #[serde(serialize_with = "duration::serialize")]
    pub prometheus_reporting_interval: Duration,
    /// Most peers kept, in the whole process (each shard has an equal part);
    /// 0 means no limit. Default 0.
    pub max_peers: usize,
    /// Most swarms kept, in the whole process (each shard has an equal part);
    /// 0 means no limit. Default 0.
    pub max_swarms: usize,
    /// Whether peer ids are stored, for replies in dictionary form. 20 bytes
    /// of memory per peer. Default false.
    pub peer_ids: bool,
    /// How long the download count of a swarm without peers is kept. Whole
    /// seconds, 0s to 365 days (8760h), default 0s.
    #[serde(serialize_with = "duration::serialize")]
    pub downloads_lifetime: Duration,
}

/// A text that is never shown: `Debug` and the effective configuration say
/// only whether it is set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// What stands for a secret that is set.
    pub(super) const MASK: &'static str = "(set)";

    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether there is no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text itself. Not for logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() {
            "(not set)"
        } else {
            Self::MASK
        })
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(if self.is_empty() { "" } else { Self::MASK })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: Some(HttpConfig::default()),
            udp: Some(UdpConfig::default()),
            ..Self::without_frontends()
        }
    }
}

impl Config {
    /// The defaults of everything but the frontends, which are off.
    pub(super) fn without_frontends() -> Self {
        Self {
            announce_interval: Duration::from_secs(30 * 60),
            min_announce_interval: Duration::from_secs(15 * 60),
            announce_interval_spread: Duration::ZERO,
            dialect: Dialect::Karuta,
            metrics_addr: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 6880))],
            shards: 0,
            realtime_priority: 0,
            client_breakdown: false,
            user: String::new(),
            group: String::new(),
            chroot: String::new(),
            http: None,
            udp: None,
            storage: StorageConfig::default(),
            state_file: PathBuf::new(),
            state_interval: Duration::ZERO,
            opentracker_state_file: PathBuf::new(),
            prehooks: Vec::new(),
            posthooks: Vec::new(),
            notices: Vec::new(),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            addr: every_address(6969),
            https_addr: Vec::new(),
            tls_cert_path: PathBuf::new(),
            tls_key_path: PathBuf::new(),
            read_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(5),
            enable_keepalive: false,
            idle_timeout: Duration::from_secs(30),
            enable_request_timing: false,
            announce_routes: vec!["/announce".to_owned()],
            scrape_routes: vec!["/scrape".to_owned()],
            allow_ip_spoofing: false,
            real_ip_header: String::new(),
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            max_numwant: 100,
            default_numwant: 50,
            max_scrape_infohashes: 50,
            max_connections: 8192,
            max_request_bytes: 8192,
            external_ip: false,
            redirect_url: String::new(),
            stats_path: String::new(),
            stats_networks: Vec::new(),
            full_scrape: false,
            full_scrape_networks: Vec::new(),
            full_scrape_pause: Duration::from_secs(10),
        }
    }
}

impl Default for UdpConfig {
    fn default() -> Self {
        Self {
            addr: every_address(6969),
            max_clock_skew: Duration::from_secs(10),
            private_key: Secret::default(),
            enable_request_timing: false,
            allow_ip_spoofing: false,
            max_numwant: 100,
            default_numwant: 50,
            max_scrape_infohashes: 50,
            steering: Steering::Kernel,
            max_packet_bytes_ipv4: udp::MAX_PACKET_BYTES_V4,
            max_packet_bytes_ipv6: udp::MAX_PACKET_BYTES_V6,
            receive_buffer_bytes: 4 << 20,
            send_buffer_bytes: 4 << 20,
            xdp_interfaces: Vec::new(),
            xdp_mode: XdpMode::Auto,
        }
    }
}

impl HttpConfig {
    /// The defaults where the tracker has these manners: in opentracker's, the
    /// limits are opentracker's.
    pub(super) fn in_dialect(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Karuta => Self::default(),
            Dialect::Opentracker => Self {
                max_numwant: 200,
                max_scrape_infohashes: 64,
                ..Self::default()
            },
        }
    }
}

impl UdpConfig {
    /// The defaults where the tracker has these manners: in opentracker's, the
    /// limits are opentracker's.
    pub(super) fn in_dialect(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Karuta => Self::default(),
            Dialect::Opentracker => Self {
                max_numwant: 200,
                max_scrape_infohashes: 75,
                ..Self::default()
            },
        }
    }
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            gc_interval: Duration::from_secs(3 * 60),
            peer_lifetime: Duration::from_secs(31 * 60),
            prometheus_reporting_interval: Duration::from_secs(1),
            max_peers: 0,
            max_swarms: 0,
            peer_ids: false,
            downloads_lifetime: Duration::ZERO,
        }
    }
}

/// All IPv4 and all IPv6 addresses of this host, on one port.
pub(super) fn every_address(port: u16) -> Vec<SocketAddr> {
    vec![
        SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
        SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
    ]
}
