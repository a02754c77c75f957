//! The HTTP frontend turn by turn, with a clock that the test turns: what a
//! shard does when many connections want something at once, and how long one
//! that says nothing may stay.

mod http_bench;

use http_bench::{Bench, IDLE_TIMEOUT, PATIENCE, Tls, http_settings, tls_settings};
use karuta::bittorrent::AddressFamily;
use karuta::frontend::http::HttpFrontend;
use karuta::frontend::http::stream::Stream;
use karuta::shard::stats::{Action, DropReason, Handshake, Outcome, Protocol};
use karuta::swarm::Random;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

const ROOT: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// A handshake costs as much as hundreds of announces, for which other clients
/// would wait: a turn has few of them, and all get their turn.
#[test]
fn a_turn_has_few_handshakes() {
    const CLIENTS: usize = 100;
    const MOST: usize = 16;
    let (server, config) = tls_settings();
    let mut bench = Bench::new(Some(server));
    let mut clients = bench.greeted_by(CLIENTS, &config);
    bench.turn_with(CLIENTS);
    let answered = |clients: &[Tls]| {
        let heard = |client: &&Tls| client.socket.peek(&mut [0]).is_ok();
        clients.iter().filter(heard).count()
    };
    let count = answered(&clients);
    assert!((1..=MOST).contains(&count), "{count} handshakes in a turn");
    // Those that wait do not take the places of others in the reactor.
    bench.reactor.look().expect("epoll");
    let ready = bench.reactor.ready().len();
    assert!(ready <= MOST, "{ready} are still ready");
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
    let clients = bench.greeted_by(CLIENTS, &config);
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

/// Who is turned away because control threads have enough to do is told so,
/// whatever follows the request.
#[test]
fn who_is_too_many_is_not_reset() {
    let mut bench = Bench::new(None);
    let mut settings = http_settings();
    // Its lane is always full.
    settings.handover.full_scrape = true;
    bench.http.swap_settings(&mut settings);
    let mut client = bench.connect();
    let request = b"GET /scrape HTTP/1.1\r\n\r\n";
    client
        .write_all(&[&request[..], &[b'x'; 40_000]].concat())
        .expect("room");
    bench.turn_with(1);
    let mut answer = Vec::new();
    client.set_nonblocking(false).expect("blocking");
    client.read_to_end(&mut answer).expect("in order");
    assert!(answer.starts_with(b"HTTP/1.1 503"));
    let error = client.take_error().expect("asked");
    assert!(error.is_none(), "{error:?}");
    drop(client);
    bench.turns_until("closed", |bench| bench.http.connections() == 0);
    assert_eq!(bench.stats.opentracker.handover_refused.get(), 1);
    let family = AddressFamily::V4;
    let errors = bench
        .stats
        .replies(Protocol::Http, Action::Other, family, Outcome::Error);
    assert_eq!(errors.get(), 1);
}

const INTRODUCTION: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n";

/// What clients say, whole or in pieces.
const WORDS: &[&[u8]] = &[
    ROOT,
    b"GET /scrape?info_hash=aaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\n\r\n",
    b"GET /scrape?info_hash=bdfhjlnprtvxzbdfhjln HTTP/1.0\r\n\r\n",
    b"GET /announce?info_hash=zzzzzzzzzzzzzzzzzzzz&peer_id=aaaaaaaaaaaaaaaaaaaa&port=1&left=1&\
      downloaded=0&uploaded=0 HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 30\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    b"GET /scrape HTTP/1.1\r\n\r\n",
    INTRODUCTION,
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
    let mut handed_over_each_way = [0; 3];
    for seed in 0..12 {
        let tls = seed % 3 == 2;
        let mut random = Random::new(seed);
        let mut bench = Bench::new(tls.then(|| server.clone()));
        let mut settings = http_settings();
        settings.proxy_protocol = seed % 3 == 1;
        let (lane, handed_over) = crossbeam_channel::bounded(2);
        (settings.handover.full_scrape, settings.handover.lane) = (true, lane);
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
                    let mut socket = bench.connect();
                    if settings.proxy_protocol && random.below(4) > 0 {
                        socket.write_all(INTRODUCTION).expect("room");
                    }
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
                _ => drop(handed_over.try_recv()),
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
        let served = bench.stats.opentracker.handed_over.get();
        handed_over_each_way[seed as usize % 3] += served;
    }
    // Or nobody has come through.
    let [plain, introduced, tls] = handed_over_each_way;
    assert!(
        plain > 10 && introduced > 10 && tls > 10,
        "{handed_over_each_way:?}"
    );
}

/// For threads beside the shards, which block, a stream works on a blocking
/// socket, too.
#[test]
fn a_stream_works_on_a_blocking_socket() {
    const BYTES: usize = 1 << 20;
    let (server, client) = tls_settings();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address");
    let other = thread::spawn(move || {
        let socket = TcpStream::connect(address).expect("connect");
        let name = ServerName::try_from("x.test").expect("a name");
        let session = ClientConnection::new(client, name).expect("a client");
        let mut stream = StreamOwned::new(session, socket);
        stream.write_all(b"please").expect("written");
        let mut answer = Vec::new();
        // An error unless the server has said goodbye.
        stream.read_to_end(&mut answer).expect("read");
        answer
    });
    let (socket, _) = listener.accept().expect("accept");
    let mut stream = Stream::accepted(socket, Some(&server)).expect("a stream");
    assert!(!stream.is_half_greeted() && stream.take_handshake().is_none());
    let mut asked = [0; 6];
    stream.read_exact(&mut asked[..2]).expect("read");
    assert!(stream.has_more());
    stream.read_exact(&mut asked[2..]).expect("read");
    assert_eq!(&asked, b"please");
    assert_eq!(stream.take_handshake(), Some(Handshake::Full));
    assert_eq!(stream.take_handshake(), None);
    let answer: Vec<u8> = (0..BYTES).map(|at| at as u8).collect();
    stream.write_all(&answer).expect("written");
    stream.flush().expect("flushed");
    assert!(!stream.wants_write() && !stream.has_more());
    stream.end();
    assert_eq!(stream.read(&mut [0; 8]).expect("the end"), 0);
    assert_eq!(other.join().expect("joined"), answer);
}
