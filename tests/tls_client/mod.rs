//! Certificates made for a test, a tracker that serves with them, and a client
//! that trusts them.

#![allow(dead_code, reason = "each test uses its own part")]

use crate::support::{self, Http, Server};
use karuta::config::Config;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

pub type Tls = Http<StreamOwned<ClientConnection, TcpStream>>;

/// A self-signed certificate: chain and key in PEM form.
pub struct Issued {
    pub der: CertificateDer<'static>,
    pub certificate: String,
    pub key: String,
}

pub fn issue(change: impl FnOnce(&mut rcgen::CertificateParams)) -> Issued {
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
pub struct Files {
    pub folder: TempDir,
}

impl Files {
    pub fn with(issued: &Issued) -> Self {
        let files = Self {
            folder: TempDir::new().expect("a folder"),
        };
        files.write(&issued.certificate, &issued.key);
        files
    }

    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    pub fn write(&self, certificate: &str, key: &str) {
        fs::write(self.certificate(), certificate).expect("write");
        fs::write(self.key(), key).expect("write");
    }

    /// HTTPS on both families, with these files, besides plain HTTP.
    pub fn config(&self, shards: usize) -> Config {
        let mut config = support::config(shards);
        let http = config.http.as_mut().expect("on");
        http.https_addr = http.addr.clone();
        http.tls_cert_path = self.certificate();
        http.tls_key_path = self.key();
        config
    }

    pub fn server(&self, shards: usize, keep: bool) -> Server {
        let mut config = self.config(shards);
        config.http.as_mut().expect("on").enable_keepalive = keep;
        Server::start(&config)
    }
}

/// A client that trusts this certificate and remembers sessions.
pub fn client(
    issued: &Issued,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
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
pub fn forgetful(issued: &Issued) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&client(issued, &[&TLS13, &TLS12]));
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

pub fn session(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("tracker.test").expect("a name");
    ClientConnection::new(config.clone(), name).expect("a client")
}

pub fn connect(server: SocketAddr, config: &Arc<ClientConfig>) -> Tls {
    let socket = Http::connect(server).socket;
    Http::over(StreamOwned::new(session(config), socket))
}

/// The certificate that a new connection is shown.
pub fn shown(server: SocketAddr, accepted: &[&Issued]) -> CertificateDer<'static> {
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
