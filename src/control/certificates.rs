//! The certificate of HTTPS: read at the start, checked, and exchanged when its
//! files change.
//!
//! All shards use one [`ServerConfig`], which asks here for the certificate at
//! every full handshake; to exchange it is to exchange one pointer. So nothing
//! is sent to shards, and connections go on with what they began with. The
//! keys of session tickets are shared in the same way: a client resumes at
//! whichever shard its next connection reaches, and nothing is kept for it
//! here.
//!
//! What cannot be used leaves the old certificate in place. An expired one is
//! used, with a warning: that is what the operator asked for.

use crate::hook::background::Source;
use crate::hook::list_file::{self, Stamp};
use crate::runtime::clock::Clock;
use crate::shard::stats::ShardStats;
use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, ServerConfig};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use x509_cert::der::Decode;

/// Tickets sent after each full handshake of TLS 1.3: as many connections can
/// be resumed at once. Few clients announce more at a time.
const TICKETS: usize = 2;

/// A certificate with its chain and its key, read and found usable.
pub struct Certificate {
    files: CertificateFiles,
    key: CertifiedKey,
}

#[derive(Clone)]
struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Reads a certificate with its chain, and its key.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        Ok(Self {
            files: CertificateFiles {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            },
            key: read(certificate, key)?,
        })
    }
}

/// The certificate in use, and where it comes from.
pub struct Certificates {
    /// Locked while they are read, so that what was read last is in use.
    files: Mutex<CertificateFiles>,
    current: ArcSwap<CertifiedKey>,
    /// Where the expiry date is published.
    stats: Arc<ShardStats>,
    clock: Clock,
}

impl Certificates {
    /// Begins with a certificate; publishes when it expires to `stats`.
    #[must_use]
    pub fn new(certificate: Certificate, stats: Arc<ShardStats>, clock: Clock) -> Arc<Self> {
        let certificates = Self {
            files: Mutex::new(certificate.files.clone()),
            current: ArcSwap::from_pointee(certificate.key),
            stats,
            clock,
        };
        certificates.look_at_dates(&certificate.files);
        Arc::new(certificates)
    }

    /// Puts another certificate in the place of the one in use: new connections
    /// get it.
    pub fn install(&self, certificate: Certificate) {
        self.exchange(&mut self.files(), certificate);
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// What is wrong with them; then the old certificate stays.
    pub fn reload(&self) -> Result<(), CertificateError> {
        let mut files = self.files();
        let next = Certificate::read(&files.certificate, &files.key)?;
        self.exchange(&mut files, next);
        Ok(())
    }

    /// Reads the files again, and logs what is wrong with them.
    pub fn reload_or_warn(&self) {
        if let Err(error) = self.reload() {
            log::warn!("{error}; the old certificate stays in use");
        }
    }

    fn exchange(&self, files: &mut CertificateFiles, next: Certificate) {
        let is_new = next.key.cert != self.current.load().cert;
        self.current.store(Arc::new(next.key));
        *files = next.files;
        if is_new {
            log::info!("{}: serving this certificate", files.certificate.display());
            self.look_at_dates(files);
        }
    }

    fn files(&self) -> MutexGuard<'_, CertificateFiles> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What every shard speaks TLS by.
    ///
    /// # Errors
    /// When the system gives no random numbers for the keys of tickets.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ring::Ticketer::new()?;
        config.send_tls13_tickets = TICKETS;
        Ok(Arc::new(config))
    }

    /// What has the files read again when they change.
    #[must_use]
    pub fn source(self: &Arc<Self>) -> Box<dyn Source> {
        Box::new(Files {
            certificates: self.clone(),
            stamps: self.stamps(),
        })
    }

    fn stamps(&self) -> [Option<Stamp>; 2] {
        let files = self.files();
        [Stamp::of(&files.certificate), Stamp::of(&files.key)]
    }

    /// Publishes when the certificate expires, and warns if it is not valid
    /// now.
    fn look_at_dates(&self, files: &CertificateFiles) {
        let current = self.current.load();
        let Some((from, until)) = current.cert.first().and_then(validity) else {
            // Its key was understood, so it is served; only its dates are odd.
            self.stats.certificate_expiry.set(0);
            return;
        };
        self.stats.certificate_expiry.set(until);
        let (now, file) = (self.clock.now().unix_seconds, files.certificate.display());
        if until < now {
            log::warn!("{file}: the certificate has expired: clients will refuse it");
        } else if from > now {
            log::warn!("{file}: the certificate is not valid yet (is the clock right?)");
        }
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("certificate", &self.files().certificate)
            .finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// Watches both files.
struct Files {
    certificates: Arc<Certificates>,
    stamps: [Option<Stamp>; 2],
}

impl Source for Files {
    fn directories(&self) -> Vec<PathBuf> {
        let files = self.certificates.files().clone();
        let mut directories = list_file::directories(&files.certificate);
        directories.extend(list_file::directories(&files.key));
        directories
    }

    fn refresh(&mut self, all: bool) -> bool {
        // Before reading: what is written meanwhile is read once more.
        let stamps = self.certificates.stamps();
        if all || stamps != self.stamps {
            self.stamps = stamps;
            self.certificates.reload_or_warn();
        }
        false
    }
}

/// Why a certificate cannot be used.
#[derive(Debug)]
pub enum CertificateError {
    /// The file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// The file is damaged.
    Damaged(PathBuf, pem::Error),
    /// There is no certificate in the file.
    NoCertificate(PathBuf),
    /// There is no private key in the file.
    NoKey(PathBuf),
    /// The private key is behind a passphrase.
    Encrypted(PathBuf),
    /// The private key is of a kind that is not supported.
    UnusableKey(PathBuf, rustls::Error),
    /// The certificate makes no sense.
    UnusableCertificate(PathBuf, rustls::Error),
    /// The key is that of another certificate.
    Mismatch(PathBuf, PathBuf),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(file, error) => write!(
                f,
                "{}: cannot be read: {error}; name a readable file",
                file.display()
            ),
            Self::Damaged(file, error) => write!(
                f,
                "{}: is not in PEM form ({error}); write it anew",
                file.display()
            ),
            Self::NoCertificate(file) => write!(
                f,
                "{}: there is no certificate in it; it must hold \"-----BEGIN CERTIFICATE-----\", \
                 the tracker's own first, then its chain",
                file.display()
            ),
            Self::NoKey(file) => write!(
                f,
                "{}: there is no private key in it; it must hold \"-----BEGIN PRIVATE KEY-----\" \
                 or an RSA or EC private key",
                file.display()
            ),
            Self::Encrypted(file) => write!(
                f,
                "{}: the private key has a passphrase; remove it with: openssl pkey -in OLD -out \
                 NEW",
                file.display()
            ),
            Self::UnusableKey(file, error) => write!(
                f,
                "{}: the private key cannot be used ({error}); use RSA of 2048 bits or more, ECDSA \
                 (P-256 or P-384) or Ed25519",
                file.display()
            ),
            Self::UnusableCertificate(file, error) => write!(
                f,
                "{}: the certificate cannot be used ({error}); have it issued anew",
                file.display()
            ),
            Self::Mismatch(certificate, key) => write!(
                f,
                "{}: is not the key of the first certificate in {}; name the two that were made \
                 together, and put the tracker's own certificate before its chain",
                key.display(),
                certificate.display()
            ),
        }
    }
}

impl std::error::Error for CertificateError {}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let chain = read_chain(certificate)?;
    let der = read_key(key)?;
    let provider = ring::default_provider();
    let signing = provider
        .key_provider
        .load_private_key(der)
        .map_err(|error| CertificateError::UnusableKey(key.to_owned(), error))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(CertificateError::Mismatch(
            certificate.to_owned(),
            key.to_owned(),
        )),
        Err(error) => Err(CertificateError::UnusableCertificate(
            certificate.to_owned(),
            error,
        )),
    }
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let text = read_file(file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| CertificateError::Damaged(file.to_owned(), error))?;
    match chain.is_empty() {
        true => Err(CertificateError::NoCertificate(file.to_owned())),
        false => Ok(chain),
    }
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    const ENCRYPTED: &[u8] = b"ENCRYPTED";
    let text = read_file(file)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound
            if text
                .windows(ENCRYPTED.len())
                .any(|window| window == ENCRYPTED) =>
        {
            CertificateError::Encrypted(file.to_owned())
        }
        pem::Error::NoItemsFound => CertificateError::NoKey(file.to_owned()),
        error => CertificateError::Damaged(file.to_owned(), error),
    })
}

fn read_file(file: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(file).map_err(|error| CertificateError::Unreadable(file.to_owned(), error))
}

/// From when and until when a certificate is valid, in Unix seconds.
fn validity(certificate: &CertificateDer<'_>) -> Option<(u64, u64)> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    let validity = certificate.tbs_certificate().validity();
    let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
    Some((seconds(validity.not_before), seconds(validity.not_after)))
}
