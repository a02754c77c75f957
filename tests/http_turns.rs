//! The HTTP frontend turn by turn, with a clock that the test turns: what a
//! shard does when many connections want something at once, and how long one
//! that says nothing may stay.

use karuta::bittorrent::AddressFamily;
use karuta::frontend::Client;
use karuta::frontend::desk::{Desk, Lanes};
use karuta::frontend::http::handover::{HandoverSettings, Networks};
use karuta::frontend::http::{ConnectionToken, HttpFrontend, HttpSettings, Listener, Turn};
use karuta::protocol::Dialect;
use karuta::protocol::http::{NumWantLimits, Routes};
use karuta::runtime::clock::Now;
use karuta::runtime::mesh::Bell;
use karuta::runtime::reactor::{Interest, Reactor};
use karuta::shard::exchange::Exchange;
use karuta::shard::owner::{OwnerMap, ShardId};
use karuta::shard::stats::{Action, DropReason, Handshake, Outcome, Protocol, ShardStats};
use karuta::shard::{Shard, ShardSettings};
use karuta::swarm::Random;
use karuta::sys::socket;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

const CONNECTION_MARK: u64 = 1 << 62;
const LISTENER_MARK: u64 = 2 << 62;
const MARKS: u64 = 3 << 62;

const IDLE_TIMEOUT: u64 = 30_000;
const READ_TIMEOUT: u64 = 5_000;

/// Turns after which a test gives up.
const PATIENCE: usize = 100_000;

/// Lead to one more shard, which never answers.
struct NoLanes;

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
struct Bench {
    http: HttpFrontend,
    shard: Shard,
    desk: Desk<NoLanes, Client>,
    reactor: Reactor,
    now: Now,
    address: SocketAddr,
    stats: Arc<ShardStats>,
}

impl Bench {
    fn new(tls: Option<Arc<ServerConfig>>) -> Self {
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
            peer_lifetime_seconds: 1860,
            downloads_lifetime_seconds: 86_400,
            sweep_seconds: 10,
            peer_ids: false,
            max_peers: 0,
            max_swarms: 0,
            client_breakdown: false,
            opentracker_statistics: false,
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

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).expect("connect");
        client.set_nonblocking(true).expect("non-blocking");
        client.set_nodelay(true).expect("no delay");
        client
    }

    fn act(&mut self, act: impl FnOnce(&mut HttpFrontend, &mut Turn<'_, NoLanes>)) {
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
    fn turn(&mut self) {
        self.reactor.look().expect("epoll");
        self.handle();
    }

    /// Handles what the reactor has found.
    fn handle(&mut self) {
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
    }

    /// The next turn in which so much is ready.
    fn turn_with(&mut self, ready: usize) {
        for _ in 0..PATIENCE {
            self.reactor.look().expect("epoll");
            if self.reactor.ready().len() == ready {
                self.handle();
                return;
            }
        }
        panic!("not {ready} ready within {PATIENCE} turns");
    }

    fn turns_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..PATIENCE {
            if holds(self) {
                return;
            }
            self.turn();
        }
        panic!("{what}: not within {PATIENCE} turns");
    }

    /// Time passes, and deadlines are looked at.
    fn pass(&mut self, milliseconds: u64) {
        self.now.elapsed += Duration::from_millis(milliseconds);
        self.now.seconds = self.now.elapsed.as_secs() as u32;
        for _ in 0..11 {
            self.act(HttpFrontend::tick);
        }
    }

    /// Tells those whose answer does not come.
    fn give_up(&mut self) {
        let (desk, http) = (&mut self.desk, &mut self.http);
        desk.expire(self.now.seconds, |client, answer| match client {
            Client::Http(token) => http.answer(token, answer),
            Client::Udp(_) => panic!("nobody asked over UDP"),
        });
        self.act(HttpFrontend::resume);
    }

    /// Turns and the client's own part until its handshake is done.
    fn greet(&mut self, client: &mut Tls) {
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

fn http_settings() -> HttpSettings {
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
        trusted_proxies: None,
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

fn tls_settings() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
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
struct Tls {
    socket: TcpStream,
    session: ClientConnection,
}

impl Tls {
    fn new(socket: TcpStream, config: &Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("x.test").expect("a name");
        Self {
            socket,
            session: ClientConnection::new(config.clone(), name).expect("a client"),
        }
    }

    /// Sends and receives what there is.
    fn exchange(&mut self) {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.socket).expect("sent");
        }
        match self.session.read_tls(&mut self.socket) {
            Ok(_) => drop(self.session.process_new_packets().expect("understood")),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
        }
    }
}

const ROOT: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// A handshake costs as much as hundreds of announces, for which other clients
/// would wait: a turn has few of them, and all get their turn.
#[test]
fn a_turn_has_few_handshakes() {
    const CLIENTS: usize = 100;
    const MOST: usize = 16;
    let (server, config) = tls_settings();
    let mut bench = Bench::new(Some(server));
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| Tls::new(bench.connect(), &config))
        .collect();
    bench.turns_until("accepted", |bench| bench.http.connections() == CLIENTS);
    for client in &mut clients {
        client.exchange();
    }
    bench.turn_with(CLIENTS);
    let answered = |clients: &[Tls]| {
        let heard = |client: &&Tls| client.socket.peek(&mut [0]).is_ok();
        clients.iter().filter(heard).count()
    };
    let count = answered(&clients);
    assert!((1..=MOST).contains(&count), "{count} handshakes in a turn");
    for client in &mut clients {
        bench.greet(client);
    }
    bench.turns_until("greeted", |bench| {
        bench.stats.handshakes(Handshake::Full).get() == CLIENTS as u64
    });
}

/// Bytes of a message that never comes to its end, and messages without
/// content, are no requests: the connection is idle all the same.
#[test]
fn what_is_no_request_does_not_keep_a_connection() {
    let (server, config) = tls_settings();
    let mut bench = Bench::new(Some(server));
    let mut client = Tls::new(bench.connect(), &config);
    bench.greet(&mut client);
    client.session.writer().write_all(ROOT).expect("room");
    for _ in 0..PATIENCE {
        client.exchange();
        bench.turn();
        if client.session.reader().read(&mut [0; 4096]).is_ok() {
            break;
        }
    }
    assert_eq!(bench.http.connections(), 1);
    // The head of the longest record there is, then a byte at a time.
    client.socket.write_all(&[23, 3, 3, 0x40, 0]).expect("sent");
    for _ in 0..2 {
        bench.turn_with(1);
        assert_eq!(bench.http.connections(), 1, "closed too soon");
        bench.pass(IDLE_TIMEOUT * 2 / 5);
        client.socket.write_all(&[0]).expect("sent");
    }
    bench.turn_with(1);
    bench.pass(IDLE_TIMEOUT * 2 / 5);
    assert_eq!(bench.http.connections(), 0, "kept although idle");
}

/// An answer that does not come is counted as that to what was asked.
#[test]
fn what_gets_no_answer_is_counted_as_what_it_is() {
    const REQUESTS: u64 = 20;
    let mut bench = Bench::new(None);
    for number in 0..REQUESTS {
        let mut client = bench.connect();
        let hash = String::from_utf8(vec![b'a' + number as u8; 20]).expect("letters");
        let request = format!("GET /scrape?info_hash={hash} HTTP/1.1\r\n\r\n");
        client.write_all(request.as_bytes()).expect("sent");
        bench.turn();
        // The first waits, and the others are refused: there is credit for one.
        bench.turns_until("asked", |bench| {
            let family = AddressFamily::V4;
            let asked = bench.stats.requests(Protocol::Http, Action::Scrape, family);
            asked.get() == number + 1
        });
    }
    assert_eq!(bench.desk.waiting(), 1);
    bench.pass(10_000);
    bench.give_up();
    let replies = |outcome| {
        let family = AddressFamily::V4;
        bench
            .stats
            .replies(Protocol::Http, Action::Scrape, family, outcome)
            .get()
    };
    let counts = (replies(Outcome::Ok), replies(Outcome::Error));
    assert_eq!(counts.0 + counts.1, REQUESTS, "{counts:?}");
}

/// A request that has arrived when the tracker is told to stop is answered, on
/// however many connections, accepted or not.
#[test]
fn a_stop_answers_what_waits_to_be_accepted() {
    const CLIENTS: usize = 300;
    let mut bench = Bench::new(None);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = bench.connect();
            client.write_all(ROOT).expect("sent");
            client
        })
        .collect();
    bench.act(HttpFrontend::stop);
    assert_eq!(bench.http.connections(), 0);
    for (number, mut client) in clients.into_iter().enumerate() {
        client.set_nonblocking(false).expect("blocking");
        let mut answer = Vec::new();
        let result = client.read_to_end(&mut answer);
        result.unwrap_or_else(|error| panic!("connection {number}: {error}"));
        assert!(answer.starts_with(b"HTTP/1.1 200"), "connection {number}");
    }
}

/// Handshakes take round trips for which a stopping tracker has no time: none
/// is begun.
#[test]
fn a_stop_begins_no_handshakes() {
    const CLIENTS: usize = 40;
    let (server, config) = tls_settings();
    let mut bench = Bench::new(Some(server));
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| Tls::new(bench.connect(), &config))
        .collect();
    bench.turns_until("accepted", |bench| bench.http.connections() == CLIENTS);
    for client in &mut clients {
        client.exchange();
    }
    bench.act(HttpFrontend::stop);
    assert_eq!(bench.http.connections(), 0);
    for mut client in clients {
        client.socket.set_nonblocking(false).expect("blocking");
        let mut heard = Vec::new();
        // Closed over what it has sent: perhaps with a reset.
        let _ = client.socket.read_to_end(&mut heard);
        assert!(heard.is_empty(), "{} bytes", heard.len());
    }
}

/// Closing a socket over bytes that were not read resets the connection, and
/// what the client has not read yet may be lost to it. Over TLS a client that
/// is told goodbye may say it too.
#[test]
fn a_client_that_says_goodbye_is_not_reset() {
    const ROUNDS: usize = 10;
    let (server, config) = tls_settings();
    for _ in 0..ROUNDS {
        let mut bench = Bench::new(Some(server.clone()));
        let mut client = Tls::new(bench.connect(), &config);
        bench.greet(&mut client);
        let request = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
        client.session.writer().write_all(request).expect("room");
        let is_answered = (0..PATIENCE).any(|_| {
            client.exchange();
            bench.turn();
            client.session.reader().read(&mut [0; 4096]).is_ok()
        });
        assert!(is_answered);
        client.session.send_close_notify();
        while client.session.wants_write() {
            client.session.write_tls(&mut client.socket).expect("sent");
        }
        let _ = client.socket.shutdown(Shutdown::Write);
        bench.turns_until("closed", |bench| bench.http.connections() == 0);
        let mut rest = Vec::new();
        client.socket.set_nonblocking(false).expect("blocking");
        client.socket.read_to_end(&mut rest).expect("in order");
        let error = client.socket.take_error().expect("asked");
        assert!(error.is_none(), "{error:?}");
        let failed = bench
            .stats
            .drops(Protocol::Http, DropReason::ConnectionFailed);
        assert_eq!(failed.get(), 0);
    }
}

/// What clients say, whole or in pieces.
const WORDS: &[&[u8]] = &[
    ROOT,
    b"GET /scrape?info_hash=aaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\n\r\n",
    b"GET /scrape?info_hash=bdfhjlnprtvxzbdfhjln HTTP/1.0\r\n\r\n",
    b"GET /announce?info_hash=zzzzzzzzzzzzzzzzzzzz&peer_id=aaaaaaaaaaaaaaaaaaaa&port=1&left=1&\
      downloaded=0&uploaded=0 HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 30\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    b"\x16\x03\x01\x02\0\x01",
    b"nonsense\r\n\r\n",
    &[b'x'; 9000],
];

/// One of the clients at [`clients_may_do_what_they_like`].
enum Anybody {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

impl Anybody {
    fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &mut tls.socket,
        }
    }

    /// Whatever comes of it.
    fn say(&mut self, bytes: &[u8]) {
        match self {
            Self::Plain(socket) => drop(socket.write(bytes)),
            Self::Tls(tls) => {
                let _ = tls.session.writer().write(bytes);
                self.go_on();
            }
        }
    }

    fn go_on(&mut self) {
        match self {
            Self::Plain(socket) => drop(socket.read(&mut [0; 512])),
            Self::Tls(tls) => {
                let _ = tls.session.read_tls(&mut tls.socket);
                let _ = tls.session.process_new_packets();
                let _ = tls.session.reader().read(&mut [0; 512]);
                while tls.session.wants_write()
                    && tls
                        .session
                        .write_tls(&mut tls.socket)
                        .is_ok_and(|count| count > 0)
                {}
            }
        }
    }
}

/// Whatever clients do, in whatever order, and whatever is set meanwhile: a
/// connection of which nothing more is heard ends.
#[test]
fn clients_may_do_what_they_like() {
    const STEPS: u32 = 3000;
    let (server, config) = tls_settings();
    for seed in 0..12 {
        let tls = seed % 3 == 2;
        let mut random = Random::new(seed);
        let mut bench = Bench::new(tls.then(|| server.clone()));
        let mut settings = http_settings();
        settings.proxy_protocol = seed % 3 == 1;
        bench.http.swap_settings(&mut settings.clone());
        let mut clients: Vec<Anybody> = Vec::new();
        for _ in 0..STEPS {
            let at = random.below(clients.len().max(1) as u32) as usize;
            let word = WORDS[random.below(WORDS.len() as u32) as usize];
            let end = match random.below(3) {
                0 => 1 + random.below(word.len() as u32) as usize,
                _ => word.len(),
            };
            match (random.below(100), clients.get_mut(at)) {
                (0..10, _) | (_, None) => {
                    let socket = bench.connect();
                    clients.push(match tls && random.below(4) > 0 {
                        true => Anybody::Tls(Box::new(Tls::new(socket, &config))),
                        false => Anybody::Plain(socket),
                    });
                }
                (10..50, Some(client)) => client.say(&word[..end]),
                (50..60, Some(client)) => client.go_on(),
                (60..62, Some(client)) => drop(client.socket().write(&word[..end])),
                (62..64, Some(client)) => {
                    if let Anybody::Tls(tls) = client {
                        tls.session.send_close_notify();
                    }
                    client.go_on();
                }
                (64..66, Some(client)) => {
                    let _ = client.socket().shutdown(Shutdown::Write);
                }
                (66..69, Some(_)) => drop(clients.swap_remove(at)),
                (69..90, _) => bench.turn(),
                (90..96, _) => {
                    bench.pass(u64::from(random.below(1500)));
                    bench.give_up();
                }
                (96..98, _) => {
                    settings.enable_keepalive = random.below(2) == 0;
                    settings.max_request_bytes = 1024 << random.below(4);
                    bench.http.swap_settings(&mut settings.clone());
                }
                _ => bench.act(HttpFrontend::resume),
            }
        }
        let stops = random.below(4) == 0;
        if stops {
            bench.turn();
            bench.act(HttpFrontend::stop);
        }
        // The deadlines of reading, of writing and of lingering, at most.
        let seconds = if stops { 12 } else { 12 + IDLE_TIMEOUT / 1000 };
        for _ in 0..seconds {
            (0..50).for_each(|_| bench.turn());
            bench.pass(1000);
            bench.give_up();
        }
        let left = bench.http.connections();
        assert_eq!(left, 0, "seed {seed}: of {} clients", clients.len());
        assert_eq!(bench.desk.waiting(), 0, "seed {seed}");
    }
}
