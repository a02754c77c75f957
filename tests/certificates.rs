//! Certificates of HTTPS, against a tracker that runs: which files are read,
//! what is said of those that are not, and how they are exchanged.

mod support;
mod tls_client;

use karuta::server::Tracker;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use std::fs;
use std::path::PathBuf;
use support::Server;
use tls_client::{Files, Issued, Tls, client, connect, forgetful, issue, shown};

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
