//! A tracker that runs as long as a test, and what it counted.

use super::{V4, V6};
use karuta::bittorrent::AddressFamily;
use karuta::config::{Config, HttpConfig, UdpConfig};
use karuta::server::Tracker;
use karuta::shard::stats::{Action, DropReason, Handshake, Outcome, Protocol};
use std::net::SocketAddr;
use std::ops::Deref;

/// Both frontends on 127.0.0.1 and ::1, on ports that the system chooses.
pub fn config(shards: usize) -> Config {
    let addr = vec![SocketAddr::new(V4, 0), SocketAddr::new(V6, 0)];
    let mut config = Config::default();
    config.shards = shards;
    config.metrics_addr.clear();
    config.udp = Some(UdpConfig {
        addr: addr.clone(),
        ..UdpConfig::default()
    });
    config.http = Some(HttpConfig {
        addr,
        ..HttpConfig::default()
    });
    config
}

/// A tracker that stops at the end of the test.
pub struct Server(Option<Tracker>);

impl Server {
    pub fn start(config: &Config) -> Self {
        Self(Some(Tracker::start(config).expect("the tracker starts")))
    }

    /// The defaults but for one change.
    pub fn with(shards: usize, change: impl FnOnce(&mut UdpConfig, &mut HttpConfig)) -> Self {
        let mut config = config(shards);
        let (udp, http) = (&mut config.udp, &mut config.http);
        change(udp.as_mut().expect("udp"), http.as_mut().expect("http"));
        Self::start(&config)
    }

    pub fn udp(&self, family: AddressFamily) -> SocketAddr {
        self.udp[family.index()]
    }

    pub fn http(&self, family: AddressFamily) -> SocketAddr {
        self.http[family.index()]
    }

    fn sum(&self, value: impl Fn(&karuta::shard::stats::ShardStats) -> u64) -> u64 {
        self.stats.iter().map(|stats| value(stats)).sum()
    }

    pub fn requests(&self, protocol: Protocol, action: Action, family: AddressFamily) -> u64 {
        self.sum(|stats| stats.requests(protocol, action, family).get())
    }

    pub fn replies(
        &self,
        protocol: Protocol,
        action: Action,
        family: AddressFamily,
        outcome: Outcome,
    ) -> u64 {
        self.sum(|stats| stats.replies(protocol, action, family, outcome).get())
    }

    pub fn drops(&self, protocol: Protocol, reason: DropReason) -> u64 {
        self.sum(|stats| stats.drops(protocol, reason).get())
    }

    pub fn crossed(&self, protocol: Protocol) -> u64 {
        self.sum(|stats| stats.cross_shard_requests(protocol).get())
    }

    pub fn peers_not_stored(&self) -> u64 {
        self.sum(|stats| stats.peers_not_stored.get())
    }

    pub fn swarms_not_stored(&self) -> u64 {
        self.sum(|stats| stats.swarms_not_stored.get())
    }

    pub fn handshakes(&self, result: Handshake) -> u64 {
        self.sum(|stats| stats.handshakes(result).get())
    }

    pub fn connections_open(&self) -> u64 {
        self.sum(|stats| stats.connections_open.get())
    }
}

impl Deref for Server {
    type Target = Tracker;
    fn deref(&self) -> &Tracker {
        self.0.as_ref().expect("it runs until dropped")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let result = self.0.take().map(Tracker::stop);
        if !std::thread::panicking() {
            result.expect("it ran").expect("it stops cleanly");
        }
    }
}
