//! HTTPS over sockets, against a tracker that runs: versions, resumption, the
//! exchange of certificates, and clients that misbehave.

mod support;

use karuta::bittorrent::AddressFamily;
use karuta::config::Config;
use karuta::server::Tracker;
use karuta::shard::stats::{DropReason, Handshake, Protocol};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use support::{Announce, Http, Server, WATCHDOG, hash, request};
use tempfile::TempDir;

const V4: AddressFamily = AddressFamily::V4;
const V6: AddressFamily = AddressFamily::V6;

type Tls = Http<StreamOwned<ClientConnection, TcpStream>>;

/// A self-signed certificate: chain and key in PEM form.
struct Issued {
    der: CertificateDer<'static>,
    certificate: String,
    key: String,
}

fn issue(change: impl FnOnce(&mut rcgen::CertificateParams)) -> Issued {
    let names = ["tracker.test".to_owned()];
    let mut parameters = rcgen::CertificateParams::new(names).expect("names");
    change(&mut parameters);
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    Issued {
        der: certificate.der().clone(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

/// The files that a tracker reads.
struct Files {
    folder: TempDir,
}

impl Files {
    fn with(issued: &Issued) -> Self {
        let files = Self {
            folder: TempDir::new().expect("a folder"),
        };
        files.write(&issued.certificate, &issued.key);
        files
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    fn write(&self, certificate: &str, key: &str) {
        fs::write(self.certificate(), certificate).expect("write");
        fs::write(self.key(), key).expect("write");
    }

    /// HTTPS on both families, with these files, besides plain HTTP.
    fn config(&self, shards: usize) -> Config {
        let mut config = support::config(shards);
        let http = config.http.as_mut().expect("on");
        http.https_addr = http.addr.clone();
        http.tls_cert_path = self.certificate();
        http.tls_key_path = self.key();
        config
    }

    fn server(&self, shards: usize, keep: bool) -> Server {
        let mut config = self.config(shards);
        config.http.as_mut().expect("on").enable_keepalive = keep;
        Server::start(&config)
    }
}

/// A client that trusts this certificate and remembers sessions.
fn client(issued: &Issued, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(issued.der.clone()).expect("a root");
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// The same without a memory: every handshake is a full one.
fn forgetful(issued: &Issued) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&client(issued, &[&TLS13, &TLS12]));
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

fn session(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("tracker.test").expect("a name");
    ClientConnection::new(config.clone(), name).expect("a client")
}

fn connect(server: SocketAddr, config: &Arc<ClientConfig>) -> Tls {
    let socket = Http::connect(server).socket;
    Http::over(StreamOwned::new(session(config), socket))
}

/// The certificate that a new connection is shown.
fn shown(server: SocketAddr, accepted: &[&Issued]) -> CertificateDer<'static> {
    for issued in accepted {
        let mut client = connect(server, &forgetful(issued));
        client.socket.conn.set_buffer_limit(None);
        let result = client.socket.conn.complete_io(&mut client.socket.sock);
        if result.is_ok() {
            let chain = client.socket.conn.peer_certificates().expect("a chain");
            return chain[0].clone();
        }
    }
    panic!("shown none of them");
}

#[test]
fn announces_over_both_versions() {
    let issued = issue(|_| ());
    let files = Files::with(&issued);
    let server = files.server(2, true);
    for (version, name) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let config = client(&issued, &[version]);
        for family in [V4, V6] {
            let address = server.https[family.index()];
            // Other swarms than those of the other version.
            let number = u32::from(name == ProtocolVersion::TLSv1_2) * 100;
            let mut client = connect(address, &config);
            for port in 1..=20 {
                let target = Announce::leecher(hash(number + port % 3), port as u16).target();
                let reply = client.get(&target).announced(family);
                assert_eq!(reply.counts(), (0, port.div_ceil(3)), "{port}");
            }
            assert_eq!(client.socket.conn.protocol_version(), Some(name));
            assert_eq!(client.socket.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
            client.send("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
            assert_eq!(client.response().status, 200);
            // With close_notify: rustls would call anything else an error.
            client.closed();
        }
    }
    // Plain HTTP is there as well, and shares the swarms.
    let reply = support::get(server.http(V4), &Announce::leecher(hash(1), 99).target());
    assert_eq!(reply.announced(V4).counts(), (0, 8));
    assert!(
        server
            .announce_urls()
            .iter()
            .any(|url| url.starts_with("https://127.0.0.1:"))
    );
}

#[test]
fn statistics_and_full_scrapes_leave_the_shard_with_their_session() {
    let issued = issue(|_| ());
    let files = Files::with(&issued);
    let mut config = files.config(2);
    let http = config.http.as_mut().expect("on");
    http.stats_path = "stats".to_owned();
    http.full_scrape = true;
    let server = Server::start(&config);
    let tls = client(&issued, &[&TLS13, &TLS12]);
    let mut client = connect(server.https[0], &tls);
    let version = client.get("/stats?mode=version");
    assert_eq!(
        version.body,
        format!("karuta {}\n", env!("CARGO_PKG_VERSION")).as_bytes()
    );
    // With close_notify, for what came of unknown length, too.
    client.closed();
    let mut client = connect(server.https[0], &tls);
    client.send("GET /scrape HTTP/1.0\r\n\r\n");
    let mut text = Vec::new();
    client
        .socket
        .read_to_end(&mut text)
        .expect("a whole answer");
    assert!(text.ends_with(b"\r\n\r\nd5:filesdee"), "{text:?}");
}

#[test]
fn without_plain_http() {
    let issued = issue(|_| ());
    let files = Files::with(&issued);
    let mut config = files.config(2);
    config.udp = None;
    config.http.as_mut().expect("on").addr.clear();
    let server = Server::start(&config);
    assert!(server.http.is_empty());
    let config = client(&issued, &[&TLS13]);
    for port in 1..=4 {
        let mut client = connect(server.https[0], &config);
        let target = Announce::seeder(hash(1), port).target();
        let reply = client.get(&target);
        assert_eq!(reply.announced(V4).counts(), (u32::from(port), 0));
        assert_eq!(support::field(&reply.head, "Connection"), Some("close"));
        client.closed();
    }
}

#[test]
fn sessions_are_resumed_at_any_shard() {
    const CONNECTIONS: u64 = 24;
    let issued = issue(|_| ());
    let files = Files::with(&issued);
    for version in [&TLS12, &TLS13] {
        let server = files.server(4, false);
        let config = client(&issued, &[version]);
        for number in 0..CONNECTIONS {
            let mut client = connect(server.https[0], &config);
            let target = Announce::leecher(hash(number as u32), 6881).target();
            assert_eq!(client.get(&target).announced(V4).counts(), (0, 1));
            let expected = match number {
                0 => HandshakeKind::Full,
                _ => HandshakeKind::Resumed,
            };
            assert_eq!(
                client.socket.conn.handshake_kind(),
                Some(expected),
                "{number}"
            );
            client.closed();
        }
        assert_eq!(server.handshakes(Handshake::Full), 1);
        assert_eq!(server.handshakes(Handshake::Resumed), CONNECTIONS - 1);
        assert_eq!(server.handshakes(Handshake::Failed), 0);
        let resumed = |stats: &Arc<karuta::shard::stats::ShardStats>| {
            u64::from(stats.handshakes(Handshake::Resumed).get() > 0)
        };
        let shards: u64 = server.stats.iter().map(resumed).sum();
        assert!(shards > 1, "all connections reached one shard");
    }
}

#[test]
fn a_new_certificate_does_not_touch_connections() {
    let (old, new) = (issue(|_| ()), issue(|_| ()));
    let files = Files::with(&old);
    let server = files.server(2, true);
    let address = server.https[0];
    let expiry = || server.stats[0].certificate_expiry.get();
    let first = expiry();
    assert!(first > 1_700_000_000, "{first}");
    let mut open: Vec<Tls> = (0..4)
        .map(|_| {
            let mut client = connect(address, &forgetful(&old));
            assert_eq!(client.get("/").status, 200);
            client
        })
        .collect();
    assert_eq!(shown(address, &[&old]), old.der);

    files.write(&new.certificate, &new.key);
    server.reread_certificates();
    assert_eq!(shown(address, &[&new]), new.der);
    for client in &mut open {
        assert_eq!(client.get("/").status, 200);
        let chain = client.socket.conn.peer_certificates().expect("a chain");
        assert_eq!(chain[0], old.der);
    }

    // Nobody has to say that the files have changed.
    let third = issue(|parameters| parameters.not_after = rcgen::date_time_ymd(2090, 1, 2));
    files.write(&third.certificate, &third.key);
    while shown(address, &[&new, &third]) != third.der {}
    assert_eq!(expiry(), 3_786_998_400);
    for client in &mut open {
        assert_eq!(client.get("/").status, 200);
    }
}

/// Why a tracker with these files does not start.
fn refusal(certificate: &str, key: &str) -> String {
    let files = Files::with(&issue(|_| ()));
    files.write(certificate, key);
    let error = Tracker::start(&files.config(1)).err().expect("refused");
    error
        .to_string()
        .replace(&files.folder.path().display().to_string(), "")
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_at_the_start() {
    let (one, other) = (issue(|_| ()), issue(|_| ()));
    let both = format!("{}{}", one.certificate, one.key);
    let damaged = one.certificate.replace("-----END CERTIFICATE-----", "");
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let odd = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let (certificate, key) = (&one.certificate[..], &one.key[..]);
    for (certificate, key, expected) in [
        (
            "",
            key,
            "/certificate.pem: there is no certificate in it; it must hold",
        ),
        (
            key,
            key,
            "/certificate.pem: there is no certificate in it; it must hold",
        ),
        (&damaged, key, "/certificate.pem: is not in PEM form ("),
        (
            nonsense,
            key,
            "/certificate.pem: the certificate cannot be used (",
        ),
        (
            certificate,
            "",
            "/key.pem: there is no private key in it; it must hold",
        ),
        (
            certificate,
            certificate,
            "/key.pem: there is no private key in it; it must hold",
        ),
        (
            certificate,
            encrypted,
            "/key.pem: the private key has a passphrase; remove it with",
        ),
        (
            certificate,
            odd,
            "/key.pem: the private key cannot be used (",
        ),
        (
            certificate,
            &other.key,
            "/key.pem: is not the key of the first certificate in",
        ),
    ] {
        let refusal = refusal(certificate, key);
        assert!(refusal.starts_with(expected), "{refusal}");
        assert!(!refusal.contains('\n'), "{refusal}");
    }
    // Both in one file is usual.
    let files = Files::with(&one);
    files.write(&both, &both);
    let server = files.server(1, false);
    assert_eq!(shown(server.https[0], &[&one]), one.der);
    drop(server);
    fs::remove_file(files.key()).expect("remove");
    let error = Tracker::start(&files.config(1)).err().expect("refused");
    assert!(
        error
            .to_string()
            .contains("key.pem: cannot be read: No such file"),
        "{error}"
    );
}

#[test]
fn every_kind_of_key_is_read() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ] {
        let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
        let parameters = rcgen::CertificateParams::new(["tracker.test".to_owned()]).expect("names");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        let issued = Issued {
            der: certificate.der().clone(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        };
        let server = Files::with(&issued).server(1, false);
        assert_eq!(shown(server.https[0], &[&issued]), issued.der);
    }
}

#[test]
fn older_forms_of_keys_are_read() {
    // Made with openssl for this test alone, and known to everybody.
    for file in ["tls-rsa-pkcs1.pem", "tls-ec-sec1.pem"] {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data")
            .join(file);
        let text = fs::read_to_string(path).expect("readable");
        let issued = Issued {
            der: CertificateDer::from_pem_slice(text.as_bytes()).expect("a certificate"),
            certificate: text.clone(),
            key: text,
        };
        let server = Files::with(&issued).server(1, false);
        for version in [&TLS12, &TLS13] {
            let mut client = connect(server.https[0], &client(&issued, &[version]));
            assert_eq!(client.get("/").status, 200, "{file}");
        }
    }
}

#[test]
fn a_proxy_is_introduced_before_tls() {
    let issued = issue(|_| ());
    let files = Files::with(&issued);
    let mut config = files.config(2);
    let http = config.http.as_mut().expect("on");
    (http.proxy_protocol, http.external_ip) = (true, true);
    http.trusted_proxies = vec!["127.0.0.1".parse().expect("an address")];
    let server = Server::start(&config);
    let config = client(&issued, &[&TLS13, &TLS12]);
    let target = Announce::leecher(hash(1), 6881).target();
    for together in [false, true] {
        let mut client = connect(server.https[0], &config);
        let mut opening = b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\n".to_vec();
        if together {
            let session = &mut client.socket.conn;
            session.write_tls(&mut opening).expect("into memory");
        }
        for byte in opening.chunks(if together { opening.len() } else { 1 }) {
            client.socket.sock.write_all(byte).expect("send");
        }
        let dictionary = client.get(&target).bencode().dictionary();
        let ip = dictionary[&b"external ip"[..]].bytes();
        assert_eq!(ip, [192, 0, 2, 1]);
    }
    // Without it there is no handshake.
    let mut client = connect(server.https[0], &config);
    let result = client.socket.conn.complete_io(&mut client.socket.sock);
    result.expect_err("closed");
    assert_eq!(server.drops(Protocol::Http, DropReason::BadProxyHeader), 1);
    assert_eq!(server.handshakes(Handshake::Failed), 0);
}

#[test]
fn an_expired_certificate_is_served() {
    let issued = issue(|parameters| {
        parameters.not_before = rcgen::date_time_ymd(2001, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2001, 2, 1);
    });
    let server = Files::with(&issued).server(1, false);
    assert_eq!(server.stats[0].certificate_expiry.get(), 980_985_600);
    let mut client = connect(server.https[0], &forgetful(&issued));
    let result = client.socket.conn.complete_io(&mut client.socket.sock);
    let error = result.expect_err("expired").to_string();
    assert!(error.contains("xpired"), "{error}");
}

#[test]
fn a_bad_file_at_a_reload_keeps_the_old_certificate() {
    let (old, other) = (issue(|_| ()), issue(|_| ()));
    let files = Files::with(&old);
    let server = files.server(1, false);
    let address = server.https[0];
    for (certificate, key) in [
        ("", ""),
        (&old.certificate[..], &other.key[..]),
        (&other.certificate, &old.key),
        ("-----BEGIN CERTIFICATE-----\n", &old.key),
    ] {
        files.write(certificate, key);
        server.reread_certificates();
        assert_eq!(shown(address, &[&old]), old.der);
    }
    fs::remove_file(files.certificate()).expect("remove");
    server.reread_certificates();
    assert_eq!(shown(address, &[&old]), old.der);
    files.write(&other.certificate, &other.key);
    server.reread_certificates();
    assert_eq!(shown(address, &[&other]), other.der);
}

#[test]
fn a_reload_may_name_other_files() {
    let (old, new) = (issue(|_| ()), issue(|_| ()));
    let (files, others) = (Files::with(&old), Files::with(&new));
    let mut config = files.config(2);
    config.http.as_mut().expect("on").enable_keepalive = true;
    let server = Server::start(&config);
    let address = server.https[0];
    let mut open = connect(address, &forgetful(&old));
    assert_eq!(open.get("/").status, 200);

    // Files that cannot be used: nothing changes, not even other keys.
    let mut next = config.clone();
    let http = next.http.as_mut().expect("on");
    http.tls_cert_path = others.certificate();
    http.enable_keepalive = false;
    let error = server
        .reload(&next)
        .expect_err("of another key")
        .to_string();
    assert!(
        error.contains("key.pem: is not the key of the first"),
        "{error}"
    );
    assert_eq!(shown(address, &[&old]), old.der);
    assert_eq!(
        support::field(&open.get("/").head, "Connection"),
        Some("keep-alive")
    );

    let http = next.http.as_mut().expect("on");
    http.tls_key_path = others.key();
    http.https_addr.clear();
    let report = server.reload(&next).expect("valid");
    assert_eq!(report.changed, ["http.enable_keepalive"]);
    assert_eq!(report.restart, ["http.https_addr"]);
    assert_eq!(shown(address, &[&old]), old.der);

    next.http.as_mut().expect("on").https_addr = config.http.expect("on").https_addr;
    let report = server.reload(&next).expect("valid");
    assert_eq!(report.changed, ["http.tls_cert_path", "http.tls_key_path"]);
    assert_eq!(shown(address, &[&new]), new.der);
    assert_eq!(open.get("/").status, 200);

    // From now on the other files are watched.
    let third = issue(|_| ());
    files.write(&old.certificate, &old.key);
    others.write(&third.certificate, &third.key);
    while shown(address, &[&new, &third]) != third.der {}
}

#[test]
fn what_is_no_tls_is_closed() {
    let issued = issue(|_| ());
    let server = Files::with(&issued).server(1, true);
    let mut failed = 0;
    for bytes in [
        request("/announce").as_bytes(),
        b"\x16\x03\x01\xff\xff\x01",
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        b"\x15\x03\x01\x00\x02\x02\x00",
        &[0xff; 70_000],
    ] {
        let mut client = Http::connect(server.https[0]);
        // It may be closed before all is sent.
        let _ = client.socket.write_all(bytes);
        let _ = client.socket.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = client.socket.read_to_end(&mut answer);
        // An alert at most.
        assert!(answer.len() <= 7 && !answer.starts_with(b"H"), "{answer:?}");
        failed += 1;
        assert_eq!(server.handshakes(Handshake::Failed), failed, "{bytes:?}");
    }
    // A client that cannot agree: no version in common, a name it distrusts.
    let stranger = issue(|_| ());
    let mut client = connect(server.https[0], &forgetful(&stranger));
    let result = client.socket.conn.complete_io(&mut client.socket.sock);
    result.expect_err("not trusted");
    drop(client);
    // One that only looks whether the port is open has not failed.
    drop(Http::connect(server.https[0]));
    let mut client = connect(server.https[0], &forgetful(&issued));
    assert_eq!(client.get("/").status, 200);
    assert_eq!(server.handshakes(Handshake::Failed), failed + 1);
    assert_eq!(server.handshakes(Handshake::Full), 1);
}

#[test]
fn slow_handshakes_time_out() {
    let issued = issue(|_| ());
    let files = Files::with(&issued);
    let mut config = files.config(1);
    config.http.as_mut().expect("on").read_timeout = Duration::from_millis(400);
    let server = Server::start(&config);
    let mut hello = Vec::new();
    session(&client(&issued, &[&TLS13]))
        .write_tls(&mut hello)
        .expect("into memory");
    for (sent, failed) in [(0, 0), (5, 1), (hello.len() - 1, 2), (hello.len(), 3)] {
        let mut client = Http::connect(server.https[0]);
        client.send(&hello[..sent]);
        let mut answer = Vec::new();
        let _ = client.socket.read_to_end(&mut answer);
        assert_eq!(answer.is_empty(), sent < hello.len(), "{sent}");
        assert_eq!(server.handshakes(Handshake::Failed), failed);
    }
    assert_eq!(server.drops(Protocol::Http, DropReason::Timeout), 4);
}

#[test]
fn requests_in_any_number_of_records() {
    const REQUESTS: u16 = 2000;
    let issued = issue(|_| ());
    let files = Files::with(&issued);
    let mut config = files.config(3);
    let http = config.http.as_mut().expect("on");
    (http.enable_keepalive, http.max_request_bytes) = (true, 65_536);
    let server = Server::start(&config);
    let config = client(&issued, &[&TLS13, &TLS12]);

    // Pipelined: many requests in one record, many records at once, and more
    // answers than anything buffers.
    let mut text = Vec::new();
    for port in 1..=REQUESTS {
        let announce = Announce::leecher(hash(u32::from(port) % 7), port).want(100);
        text.extend(request(&announce.target()).into_bytes());
    }
    let mut client = connect(server.https[0], &config);
    client.socket.conn.set_buffer_limit(None);
    assert_eq!(client.get("/").status, 200);
    client
        .socket
        .conn
        .writer()
        .write_all(&text)
        .expect("into memory");
    let mut bytes = Vec::new();
    while client.socket.conn.wants_write() {
        client
            .socket
            .conn
            .write_tls(&mut bytes)
            .expect("into memory");
    }
    let mut socket = client.socket.sock.try_clone().expect("a second handle");
    let writer = std::thread::spawn(move || socket.write_all(&bytes));
    for port in 1..=REQUESTS {
        let (_, leechers) = client.response().announced(V4).counts();
        assert_eq!(leechers, u32::from(port).div_ceil(7), "{port}");
    }
    writer.join().expect("joined").expect("written");

    // A request byte by byte, each in a record of its own.
    for byte in request("/").bytes() {
        client.send([byte]);
    }
    assert_eq!(client.response().status, 200);

    // A request as large as allowed, over several records.
    let padding = "x".repeat(65_000);
    client.send(format!("GET / HTTP/1.1\r\nX: {padding}\r\n\r\n"));
    assert_eq!(client.response().status, 200);
    client.send(format!("GET / HTTP/1.1\r\nX: {padding}{padding}\r\n\r\n"));
    assert_eq!(client.response().status, 431);
}

#[test]
fn a_client_that_says_goodbye_first_gets_its_answers() {
    let issued = issue(|_| ());
    let server = Files::with(&issued).server(3, true);
    for version in [&TLS12, &TLS13] {
        let config = client(&issued, &[version]);
        for number in 0..8 {
            let mut client = connect(server.https[0], &config);
            assert_eq!(client.get("/").status, 200);
            let target = Announce::leecher(hash(number), 1).target();
            let writer = &mut client.socket.conn.writer();
            writer
                .write_all(request(&target).as_bytes())
                .expect("into memory");
            client.socket.conn.send_close_notify();
            assert_eq!(client.response().status, 200);
            client.closed();
        }
    }
}

#[test]
fn connections_are_limited() {
    let issued = issue(|_| ());
    let files = Files::with(&issued);
    let mut config = files.config(1);
    let http = config.http.as_mut().expect("on");
    (http.enable_keepalive, http.max_connections) = (true, 2);
    let server = Server::start(&config);
    let config = forgetful(&issued);
    let mut one = connect(server.https[0], &config);
    assert_eq!(one.get("/").status, 200);
    let mut two = Http::connect(server.http(V4));
    assert_eq!(two.get("/").status, 200);
    assert!(Http::connect(server.https[0]).gone());
    assert_eq!(server.drops(Protocol::Http, DropReason::ConnectionLimit), 1);
    assert_eq!(one.get("/").status, 200);
    assert_eq!(two.get("/").status, 200);
}

#[test]
fn a_stopping_tracker_says_goodbye() {
    let issued = issue(|_| ());
    let server = Files::with(&issued).server(1, true);
    let mut idle = connect(server.https[0], &forgetful(&issued));
    assert_eq!(idle.get("/").status, 200);
    idle.socket
        .sock
        .set_read_timeout(Some(WATCHDOG))
        .expect("timeout");
    drop(server);
    idle.closed();
}
