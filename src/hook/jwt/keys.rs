//! The keys that tokens are signed with: a JWK set (RFC 7517) from a URL or a
//! file, and the check of a signature with one of them.
//!
//! Signatures are checked by ring, through the `jsonwebtoken` crate. A key says
//! which algorithm it is for, and a token that names another is refused, so no
//! key can be used in a way it was not meant for. Keys of other kinds are left
//! out with a word in the log: secrets shared with clients (HMAC) are none.

use super::super::background::{Services, Source, Task};
use super::super::list_file::{self, Stamp};
use super::super::shared::Shared;
use crate::config::url::public_url;
use crossbeam_channel::RecvTimeoutError;
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey, Validation};
use ring::signature as ring;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Largest JWK set that is read.
const MAX_SET_BYTES: u64 = 1 << 20;

/// How soon fetching is tried again after a failure, at first; then after
/// twice the time, up to the update interval.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Where the keys come from.
#[derive(Clone, Debug)]
pub(super) enum KeySource {
    /// From the network, again and again.
    Url {
        url: String,
        update_interval: Duration,
        timeout: Duration,
    },
    /// From a file, when it changes.
    File(PathBuf),
}

/// The keys.
#[derive(Clone, Debug, Default)]
pub(super) struct KeySet(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
    validation: Validation,
}

impl KeySource {
    /// Begins to read the keys. A file must be good from the start; a URL may
    /// give none yet.
    pub(super) fn start(&self, services: &mut Services) -> Result<Arc<Shared<KeySet>>, String> {
        match self.clone() {
            Self::File(path) => {
                let stamp = Stamp::of(&path);
                let keys = read_file(&path)?;
                let shared = Shared::new(keys);
                services.sources.push(Box::new(KeyFile {
                    path,
                    stamp,
                    shared: shared.clone(),
                }));
                Ok(shared)
            }
            Self::Url {
                url,
                update_interval,
                timeout,
            } => {
                let (mut known, last_good) = last_good(&url);
                let shared = Shared::new(last_good);
                let keys = shared.clone();
                services.tasks.push(Task {
                    name: "jwk-set",
                    run: Box::new(move |now| {
                        let agent = super::super::http_agent(timeout);
                        let shown = public_url(&url);
                        let mut retry = FIRST_RETRY;
                        loop {
                            let pause = match fetch(&agent, &url, &known) {
                                Ok(fetched) => {
                                    // Shards forget every token with the old
                                    // keys, so only for new ones.
                                    if let Some((text, fetched)) = fetched {
                                        log::debug!("jwt: {} keys from {shown}", fetched.0.len());
                                        remember(&url, &text, &fetched);
                                        keys.store(fetched);
                                        known = text;
                                    }
                                    retry = FIRST_RETRY;
                                    update_interval
                                }
                                Err(error) => {
                                    log::error!("jwt: {shown}: {error}; the old keys stay in use");
                                    let pause = retry.min(update_interval);
                                    retry = (retry * 2).min(update_interval);
                                    pause
                                }
                            };
                            if now.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                                return;
                            }
                        }
                    }),
                });
                Ok(shared)
            }
        }
    }
}

/// The last good set of each URL, with its text. A reload that changes any hook
/// starts all of them anew; tokens must be good meanwhile, the more so when the
/// site is just then out of reach. As many as URLs were ever configured.
static LAST_GOOD: Mutex<BTreeMap<String, (Vec<u8>, KeySet)>> = Mutex::new(BTreeMap::new());

fn remember(url: &str, text: &[u8], keys: &KeySet) {
    let mut sets = LAST_GOOD.lock().unwrap_or_else(PoisonError::into_inner);
    sets.insert(url.to_owned(), (text.to_owned(), keys.clone()));
}

fn last_good(url: &str) -> (Vec<u8>, KeySet) {
    let sets = LAST_GOOD.lock().unwrap_or_else(PoisonError::into_inner);
    sets.get(url).cloned().unwrap_or_default()
}

/// The set with its text; `None` if that is the known one.
fn fetch(
    agent: &ureq::Agent,
    url: &str,
    known: &[u8],
) -> Result<Option<(Vec<u8>, KeySet)>, String> {
    let mut response = agent.get(url).call().map_err(|error| error.to_string())?;
    let body = response.body_mut().with_config().limit(MAX_SET_BYTES);
    let body = body.read_to_vec().map_err(|error| error.to_string())?;
    if body == known {
        return Ok(None);
    }
    let keys = KeySet::parse(&body)?;
    Ok(Some((body, keys)))
}

fn read_file(path: &PathBuf) -> Result<KeySet, String> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|error| format!("{shown}: cannot be read: {error}"))?;
    KeySet::parse(&bytes).map_err(|error| format!("{shown}: {error}"))
}

/// A set in a file.
struct KeyFile {
    path: PathBuf,
    stamp: Option<Stamp>,
    shared: Arc<Shared<KeySet>>,
}

impl Source for KeyFile {
    fn directories(&self) -> Vec<PathBuf> {
        list_file::directories(&self.path)
    }

    fn refresh(&mut self, all: bool) -> bool {
        let stamp = Stamp::of(&self.path);
        if all || stamp != self.stamp {
            self.stamp = stamp;
            match read_file(&self.path) {
                Ok(keys) => {
                    log::info!("jwt: read {} keys", keys.0.len());
                    self.shared.store(keys);
                }
                Err(error) => log::error!("jwt: {error}; the old keys stay in use"),
            }
        }
        self.shared.free_unused()
    }
}

impl KeySet {
    /// Reads a JWK set.
    ///
    /// # Errors
    /// When it is none, or has no key of a kind that is supported.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let set: JwkSet =
            serde_json::from_slice(text).map_err(|error| format!("is no JWK set: {error}"))?;
        let mut keys = Vec::new();
        for jwk in &set.keys {
            match Key::new(jwk) {
                Ok(key) => keys.push(key),
                Err(reason) => {
                    let id = jwk.common.key_id.as_deref().unwrap_or("(without id)");
                    log::warn!("jwt: the key {id:?} is left out: {reason}");
                }
            }
        }
        if keys.is_empty() {
            return Err("has no key for RS256, ES256 or EdDSA".to_owned());
        }
        Ok(Self(keys))
    }

    /// What a token says, if a key of the set has signed it: the one that it
    /// names, or the only one for its algorithm if it names none.
    pub(super) fn verify<T: DeserializeOwned>(&self, token: &[u8]) -> Option<T> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let mut fitting = self.0.iter().filter(|key| {
            key.algorithm == header.alg && (header.kid.is_none() || key.id == header.kid)
        });
        let key = fitting.next()?;
        if header.kid.is_none() && fitting.next().is_some() {
            return None;
        }
        let token = jsonwebtoken::decode(token, &key.key, &key.validation).ok()?;
        Some(token.claims)
    }
}

impl Key {
    fn new(jwk: &Jwk) -> Result<Self, String> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                Algorithm::EdDSA
            }
            _ => return Err("it is not for RS256, ES256 or EdDSA".to_owned()),
        };
        // RSA keys may be meant for another algorithm; then they say so.
        let meant = jwk.common.key_algorithm.map(|meant| meant.to_string());
        if meant.is_some_and(|meant| meant != format!("{algorithm:?}")) {
            return Err(format!("it is not for {algorithm:?}"));
        }
        // What claims must say is checked by the hook, with its own clock.
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Ok(Self {
            id: jwk.common.key_id.clone(),
            algorithm,
            key: DecodingKey::from_jwk(jwk).map_err(|error| error.to_string())?,
            validation,
        })
    }
}

/// Has ring check the signatures, in the whole process.
pub(super) fn install_verifiers() {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: no_signer,
        verifier_factory: verifier,
        key_utils: KeyUtils::new_unimplemented(),
    };
    // If there is one already it is this one: nobody else installs any.
    let _ = PROVIDER.install_default();
}

/// Nothing is signed here.
fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(ErrorKind::InvalidAlgorithm.into())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(RingVerifier {
        algorithm: *algorithm,
        key: key.clone(),
    }))
}

/// One check.
struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let result = match (self.algorithm, self.key.kind()) {
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                let key = ring::RsaPublicKeyComponents { n, e };
                key.verify(&ring::RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
                let algorithm = &ring::ECDSA_P256_SHA256_FIXED;
                ring::UnparsedPublicKey::new(algorithm, point).verify(message, signature)
            }
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) => {
                let algorithm = &ring::ED25519;
                ring::UnparsedPublicKey::new(algorithm, point).verify(message, signature)
            }
            _ => return Err(signature::Error::new()),
        };
        result.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
