//! Only announces that carry a signed token for their torrent (RFC 7519;
//! Chihaya's hook, with time checked and failures survived).
//!
//! The token stands in the parameter `jwt` of the query (HTTP) or of the URL
//! data (UDP, BEP 41), or behind `Bearer` in the header `Authorization`
//! (RFC 6750). It is signed with RS256, ES256 or EdDSA by a key of the JWK set
//! (RFC 7517), and which of them is the key's matter, not the token's. It must
//! say `infohash` (40 hexadecimal digits), and `iss` and `aud` as configured;
//! `exp` and `nbf` count where they are.
//!
//! The set comes from a URL, fetched again now and then by a thread of its own
//! (`keys`), or from a file that is watched. While neither gives a good one,
//! the old keys stay; before there are any, no token is good.
//!
//! A good token is remembered (`cache`), so that only its first announce at
//! a shard costs a signature check (some tens of microseconds). Tokens that
//! are not good cost one each: put `rate limit` first.
//!
//! Options: `issuer`, `audience` (as in Chihaya; absent: any), one of
//! `jwk_set_url` and `jwk_set_file`, `jwk_set_update_interval` (5m),
//! `jwk_set_timeout` (10s), `leeway` (10s, for clocks that differ),
//! `require_exp` (false), `cached_tokens` (16384, for each shard).

mod cache;
mod keys;

use super::background::Services;
use super::shared::{Shared, View};
use super::{AnnounceRequest, Hook, Moment, ShardSetup, Verdict, Wants};
use crate::config::url::check_url;
use crate::config::{Section, Whole};
use crate::protocol::http::{percent, query};
use cache::{Cache, Known};
use keys::{KeySet, KeySource};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// The refusals, as Chihaya words them.
const MISSING: Verdict = Verdict::fail("unapproved request: missing jwt");
const INVALID: Verdict = Verdict::fail("unapproved request: invalid jwt");

/// Longest token that is looked at.
const LONGEST_TOKEN: usize = 4096;

/// The hook.
#[derive(Clone, Debug)]
pub struct Jwt {
    options: Options,
    keys: View<KeySet>,
    cache: Cache,
    /// The token without its percent-encoding.
    token: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Options {
    issuer: Option<String>,
    audience: Option<String>,
    source: KeySource,
    leeway_seconds: u64,
    require_exp: bool,
    cached_tokens: usize,
}

/// What a token claims.
#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    aud: Option<OneOrMore>,
    infohash: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
}

/// RFC 7519, section 4.1.3: one text or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Hook for Jwt {
    fn read(options: &mut Section<'_>) -> Self {
        let mut text = |key| options.text(key).filter(|text| !text.is_empty());
        let (issuer, audience) = (text("issuer"), text("audience"));
        let mut update_interval = Duration::from_secs(300);
        let mut timeout = Duration::from_secs(10);
        let mut leeway = Duration::from_secs(10);
        let mut read = Options {
            issuer: issuer.map(str::to_owned),
            audience: audience.map(str::to_owned),
            source: KeySource::File(PathBuf::new()),
            leeway_seconds: 0,
            require_exp: false,
            cached_tokens: 1 << 14,
        };
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        let url = options.text("jwk_set_url");
        let file = options.text("jwk_set_file");
        let into = &mut update_interval;
        options.duration(
            "jwk_set_update_interval",
            second..=24 * hour,
            Whole::Any,
            into,
        );
        options.duration("jwk_set_timeout", second..=hour, Whole::Any, &mut timeout);
        options.duration("leeway", Duration::ZERO..=hour, Whole::Seconds, &mut leeway);
        options.boolean("require_exp", &mut read.require_exp);
        options.integer("cached_tokens", 64..=10_000_000, &mut read.cached_tokens);
        read.leeway_seconds = leeway.as_secs();
        match (url, file) {
            (Some(_), Some(_)) => {
                options.refuse(
                    "jwk_set_file",
                    "cannot be given with a jwk_set_url; remove one",
                );
            }
            (Some(url), None) => match check_url(url) {
                Ok(()) => {
                    let url = url.to_owned();
                    read.source = KeySource::Url {
                        url,
                        update_interval,
                        timeout,
                    };
                }
                Err(message) => {
                    options.refuse("jwk_set_url", &message);
                }
            },
            (None, Some("")) => {
                options.refuse("jwk_set_file", "is empty; name a path");
            }
            (None, Some(file)) => read.source = KeySource::File(file.into()),
            (None, None) if options.is_sound(&["jwk_set_url", "jwk_set_file"]) => {
                options.refuse_all("wants a jwk_set_url or a jwk_set_file");
            }
            (None, None) => {}
        }
        Self {
            cache: Cache::default(),
            options: read,
            keys: Shared::new(KeySet::default()).view(),
            token: Vec::new(),
        }
    }

    fn start(&mut self, services: &mut Services) -> Result<(), String> {
        keys::install_verifiers();
        self.keys = self.options.source.start(services)?.view();
        Ok(())
    }

    fn enter(&mut self, shard: &ShardSetup) {
        self.cache = Cache::new(self.options.cached_tokens, shard.seed);
        self.token = Vec::with_capacity(LONGEST_TOKEN);
    }

    fn wants(&self) -> Wants {
        Wants {
            query: true,
            authorization: true,
            ..Wants::default()
        }
    }

    fn announce(&mut self, request: &mut AnnounceRequest<'_>) -> Verdict {
        self.token.clear();
        let parameter = query::find(request.query, b"jwt").filter(|value| !value.is_empty());
        match (parameter, request.context.authorization) {
            (Some(value), _) => {
                if value.len() > LONGEST_TOKEN
                    || percent::decode_to(value, &mut self.token).is_err()
                {
                    return INVALID;
                }
            }
            (None, Some(header)) => match bearer(header) {
                Some(token) if token.len() > LONGEST_TOKEN => return INVALID,
                Some(token) => self.token.extend_from_slice(token),
                None => return MISSING,
            },
            (None, None) => return MISSING,
        }
        let now = request.now.unix_seconds;
        let info_hash = request.announce.info_hash;
        let name = self.cache.name(&self.token);
        if self.cache.find(name, now) == Some(info_hash) {
            return Verdict::Continue;
        }
        match self.options.check(self.keys.get(), &self.token, now) {
            Some(known) if known.info_hash == info_hash => {
                self.cache.insert(name, known, now);
                Verdict::Continue
            }
            _ => INVALID,
        }
    }

    fn tick(&mut self, _: Moment) {
        if self.keys.refresh() {
            // A key that is gone approves nothing any more.
            self.cache.clear();
        }
    }
}

impl Options {
    /// What a token is good for, `None` if for nothing.
    fn check(&self, keys: &KeySet, token: &[u8], now: u64) -> Option<Known> {
        let claims: Claims = keys.verify(token)?;
        if self.issuer.is_some() && claims.iss != self.issuer {
            return None;
        }
        if let Some(audience) = &self.audience {
            let named = match &claims.aud {
                None => false,
                Some(OneOrMore::One(one)) => one == audience,
                Some(OneOrMore::More(more)) => more.contains(audience),
            };
            if !named {
                return None;
            }
        }
        // Conversions of floats saturate: a time before 1970 is 0.
        let good_until = match claims.exp {
            Some(exp) => (exp as u64).saturating_add(self.leeway_seconds),
            None if self.require_exp => return None,
            None => u64::MAX,
        };
        let good_from = claims.nbf.unwrap_or_default() as u64;
        if now >= good_until || now.saturating_add(self.leeway_seconds) < good_from {
            return None;
        }
        Some(Known {
            info_hash: claims.infohash?.parse().ok()?,
            good_until,
        })
    }
}

/// The token in an `Authorization: Bearer` header; the word in either case.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests;
