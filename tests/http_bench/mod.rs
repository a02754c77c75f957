//! A shard's HTTP frontend without the loop around it, for tests that turn it
//! and its clock themselves.

#[path = "../support/shard_settings.rs"]
mod shard_settings;

use karuta::frontend::Client;
use karuta::frontend::desk::{Desk, Lanes};
use karuta::frontend::http::handover::HandoverSettings;
use karuta::frontend::http::{ConnectionToken, HttpFrontend, HttpSettings, Listener, Turn};
use karuta::hook::prefix_table::Networks;
use karuta::protocol::Dialect;
use karuta::protocol::http::{NumWantLimits, Routes};
use karuta::runtime::clock::Now;
use karuta::runtime::mesh::Bell;
use karuta::runtime::reactor::{Interest, Reactor};
use karuta::shard::exchange::Exchange;
use karuta::shard::owner::{OwnerMap, ShardId};
use karuta::shard::stats::ShardStats;
use karuta::shard::{Shard, ShardSettings};
use karuta::sys::socket;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use shard_settings::shard_settings;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

const CONNECTION_MARK: u64 = 1 << 62;
const LISTENER_MARK: u64 = 2 << 62;
const MARKS: u64 = 3 << 62;

pub const IDLE_TIMEOUT: u64 = 30_000;
pub const READ_TIMEOUT: u64 = 5_000;

/// Turns after which a test gives up.
pub const PATIENCE: usize = 100_000;

/// Lead to one more shard, which never answers.
pub struct NoLanes;

impl Lanes for NoLanes {
    fn shards(&self) -> usize {
        2
    }

    fn send(&mut self, _to: ShardId, _exchange: Box<Exchange>) -> Result<(), Box<Exchange>> {
        Ok(())
    }

    fn receive(&mut self) -> Option<Box<Exchange>> {
        None
    }
}

/// A shard without its loop.
pub struct Bench {
    pub http: HttpFrontend,
    pub shard: Shard,
    pub desk: Desk<NoLanes, Client>,
    pub reactor: Reactor,
    pub now: Now,
    pub address: SocketAddr,
    pub stats: Arc<ShardStats>,
}

impl Bench {
    pub fn new(tls: Option<Arc<ServerConfig>>) -> Self {
        let stats = Arc::new(ShardStats::default());
        let socket = socket::tcp(SocketAddr::from(([127, 0, 0, 1], 0))).expect("bind");
        let address = socket.local_addr().expect("an address");
        let bell = Arc::new(Bell::new().expect("eventfd"));
        let reactor = Reactor::new(bell, Duration::from_secs(3600)).expect("epoll");
        reactor
            .add(&socket, LISTENER_MARK, Interest::Read)
            .expect("watched");
        let listeners = vec![Listener { socket, tls }];
        let settings = ShardSettings {
            downloads_lifetime_seconds: 86_400,
            sweep_seconds: 10,
            ..shard_settings()
        };
        Self {
            http: HttpFrontend::new(http_settings(), listeners, stats.clone()),
            shard: Shard::new(0, OwnerMap::new(1, 2), &settings, 1, stats.clone()),
            desk: Desk::new(0, NoLanes, 2),
            reactor,
            now: Now {
                seconds: 1000,
                elapsed: Duration::from_secs(1000),
                unix_seconds: 1_700_000_000,
            },
            address,
            stats,
        }
    }

    pub fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).expect("connect");
        client.set_nonblocking(true).expect("non-blocking");
        client.set_nodelay(true).expect("no delay");
        client
    }

    pub fn act(&mut self, act: impl FnOnce(&mut HttpFrontend, &mut Turn<'_, NoLanes>)) {
        let mut turn = Turn {
            now: &self.now,
            shard: &mut self.shard,
            desk: &mut self.desk,
            reactor: &self.reactor,
            connection_mark: CONNECTION_MARK,
            listener_mark: LISTENER_MARK,
        };
        act(&mut self.http, &mut turn);
    }

    /// One turn of the loop; a nanosecond passes.
    pub fn turn(&mut self) {
        self.reactor.look().expect("epoll");
        self.handle();
    }

    /// Handles what the reactor has found.
    pub fn handle(&mut self) {
        self.now.elapsed += Duration::from_nanos(1);
        for token in self.reactor.ready().to_vec() {
            let number = token & !MARKS;
            match token & MARKS {
                LISTENER_MARK => self.act(|http, turn| {
                    http.accept(number as usize, turn);
                }),
                _ => self.act(|http, turn| http.ready(ConnectionToken::from_bits(number), turn)),
            }
        }
        self.act(HttpFrontend::greet);
    }

    /// The next turn in which so much is ready.
    pub fn turn_with(&mut self, ready: usize) {
        for _ in 0..PATIENCE {
            self.reactor.look().expect("epoll");
            if self.reactor.ready().len() == ready {
                self.handle();
                return;
            }
        }
        panic!("not {ready} ready within {PATIENCE} turns");
    }

    pub fn turns_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..PATIENCE {
            if holds(self) {
                return;
            }
            self.turn();
        }
        panic!("{what}: not within {PATIENCE} turns");
    }

    /// Time passes, and deadlines are looked at.
    pub fn pass(&mut self, milliseconds: u64) {
        self.now.elapsed += Duration::from_millis(milliseconds);
        self.now.seconds = self.now.elapsed.as_secs() as u32;
        for _ in 0..11 {
            self.act(HttpFrontend::tick);
        }
    }

    /// Tells those whose answer does not come.
    pub fn give_up(&mut self) {
        let (desk, http) = (&mut self.desk, &mut self.http);
        desk.expire(self.now.seconds, |client, answer| match client {
            Client::Http(token) => http.answer(token, answer),
            Client::Udp(_) => panic!("nobody asked over UDP"),
        });
        self.act(HttpFrontend::resume);
    }

    /// As many new clients, each accepted and with its first word of a handshake
    /// sent.
    pub fn greeted_by(&mut self, count: usize, config: &Arc<ClientConfig>) -> Vec<Tls> {
        let mut clients: Vec<_> = (0..count)
            .map(|_| Tls::new(self.connect(), config))
            .collect();
        self.turns_until("accepted", |bench| bench.http.connections() == count);
        clients.iter_mut().for_each(Tls::exchange);
        clients
    }

    /// Turns and the client's own part until its handshake is done.
    pub fn greet(&mut self, client: &mut Tls) {
        for _ in 0..PATIENCE {
            client.exchange();
            self.turn();
            if !client.session.is_handshaking() && !client.session.wants_write() {
                return;
            }
        }
        panic!("no handshake within {PATIENCE} turns");
    }
}

pub fn http_settings() -> HttpSettings {
    HttpSettings {
        dialect: Dialect::Karuta,
        interval_seconds: 1800,
        min_interval_seconds: 900,
        interval_spread_seconds: 0,
        routes: Routes::compile(&["/announce".to_owned()], &["/scrape".to_owned()])
            .expect("routes"),
        num_want: NumWantLimits {
            default: 50,
            max: 100,
        },
        max_scrape_hashes: 50,
        allow_ip_spoofing: false,
        real_ip_header: None,
        trusted_proxies: Networks::new(&[]),
        proxy_protocol: false,
        enable_keepalive: true,
        read_timeout: READ_TIMEOUT,
        write_timeout: 5_000,
        idle_timeout: IDLE_TIMEOUT,
        max_connections: 10_000,
        max_request_bytes: 8192,
        external_ip: false,
        redirect_url: String::new(),
        handover: HandoverSettings {
            stats_path: None,
            stats_networks: Networks::new(&[]),
            full_scrape: false,
            full_scrape_networks: Networks::new(&[]),
            full_scrape_pause: Duration::ZERO,
            lane: crossbeam_channel::bounded(0).0,
        },
    }
}

pub fn tls_settings() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let issued = rcgen::generate_simple_self_signed(["x.test".to_owned()]).expect("issued");
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).expect("a key");
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).expect("a root");
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .expect("a certificate");
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

/// A client on a non-blocking socket.
pub struct Tls {
    pub socket: TcpStream,
    pub session: ClientConnection,
}

impl Tls {
    pub fn new(socket: TcpStream, config: &Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("x.test").expect("a name");
        Self {
            socket,
            session: ClientConnection::new(config.clone(), name).expect("a client"),
        }
    }

    /// Sends and receives what there is.
    pub fn exchange(&mut self) {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.socket).expect("sent");
        }
        match self.session.read_tls(&mut self.socket) {
            Ok(_) => drop(self.session.process_new_packets().expect("understood")),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
        }
    }
}
