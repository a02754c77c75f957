//! Stateless connection ids (BEP 15, "connect"): proof that a client receives
//! what is sent to its address, without remembering anything about it.
//!
//! An id is 8 bits of coarse time (units of 4 seconds) and 56 bits of a keyed
//! MAC (SipHash-2-4) over the address and the full coarse time:
//!
//! ```text
//!  63      56 55                                                      0
//! +----------+---------------------------------------------------------+
//! | time % 256 | SipHash-2-4(key, address, time) truncated to 56 bits  |
//! +----------+---------------------------------------------------------+
//! ```
//!
//! Any shard, and any instance with the same key, accepts the ids of all
//! others. The time is the wall clock's, since instances have to agree on it.
//!
//! # Threat model
//!
//! - *Spoofed sources.* UDP sources can be forged, to add a victim's address
//!   to swarms (which then send it traffic) or to have replies sent to it. An
//!   id is only accepted from the address it was issued to, and it is sent
//!   only there.
//! - *Guessing.* For any address and moment about 30 of the 2^64 ids are
//!   accepted, one per time unit, so a guess with a plausible time hits with
//!   probability 2^-56. At 10 million guesses a second one hit is expected
//!   every 228 years, and it helps for one address and two minutes.
//! - *Recovering the key.* SipHash is designed as a MAC on short inputs with a
//!   128-bit key; observed ids do not reveal it. What can be attacked offline
//!   is a guessable `private_key`: it should be long and random.
//! - *Replay.* Who can read a client's traffic can use its id, from its
//!   address, until it ends. TLS is the answer to that, not this.
//! - *The port is not bound.* Neither Chihaya nor opentracker binds it: NATs
//!   change a client's source port between packets, and some clients connect
//!   and announce from different sockets; they would see "bad connection ID",
//!   the loudest complaint of uTorrent users. The price: hosts behind one
//!   public address can use each other's ids, as they could announce anyway.
//! - *Timing.* The comparison is one exclusive-or of whole words and one test
//!   for zero; it takes the same time wherever the ids differ.

use siphasher::sip::SipHasher24;
use siphasher::sip128::{Hasher128, SipHasher24 as SipHasher24x128};
use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;

/// How long an id is accepted at least, in seconds, clocks being equal
/// (BEP 15: "until two minutes after it was sent"). The coarse time adds up
/// to four seconds.
pub const CONNECTION_ID_LIFE_SECONDS: u64 = 120;

/// The largest clock skew that can be configured, in seconds: the 8 bits of
/// time in an id tell moments apart within 1024 seconds, which have to hold
/// the life of an id and the skew both ways.
pub const MAX_CLOCK_SKEW_LIMIT_SECONDS: u64 = 400;

/// Seconds per unit of coarse time.
const UNIT_SECONDS: u64 = 4;

const MAC_MASK: u64 = (1 << 56) - 1;

/// Issues and checks connection ids under one key.
#[derive(Clone)]
pub struct ConnectionIds {
    /// The keyed state of the MAC, before any input.
    mac: SipHasher24,
    /// How old an id may be, in units.
    max_age_units: u64,
    /// How far in the future an id may lie, in units.
    max_ahead_units: u64,
}

impl fmt::Debug for ConnectionIds {
    /// Never shows the key: it would end up in logs, as it did in Chihaya.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionIds")
            .field("key", &"(secret)")
            .field("max_age_units", &self.max_age_units)
            .field("max_ahead_units", &self.max_ahead_units)
            .finish()
    }
}

impl ConnectionIds {
    /// Ids under `key`, for instances whose clocks differ by at most
    /// `max_clock_skew_seconds` (what exceeds [`MAX_CLOCK_SKEW_LIMIT_SECONDS`]
    /// is cut).
    #[must_use]
    pub fn new(key: [u8; 16], max_clock_skew_seconds: u64) -> Self {
        let skew_units = max_clock_skew_seconds
            .min(MAX_CLOCK_SKEW_LIMIT_SECONDS)
            .div_ceil(UNIT_SECONDS);
        let life_units = CONNECTION_ID_LIFE_SECONDS.div_ceil(UNIT_SECONDS);
        Self {
            mac: SipHasher24::new_with_key(&key),
            max_age_units: life_units.saturating_add(skew_units),
            max_ahead_units: skew_units,
        }
    }

    /// Ids under the key derived from a `private_key` of any length.
    ///
    /// The derivation spreads what entropy the secret has over 128 bits; it
    /// does not add any and is not slow. All instances of one service need the
    /// same secret.
    #[must_use]
    pub fn from_secret(secret: &[u8], max_clock_skew_seconds: u64) -> Self {
        // A public key: SipHash-128 serves as a compression function here.
        // Nobody gains from a collision between two secrets of one operator.
        let mut hasher = SipHasher24x128::new_with_key(b"karuta conn id 1");
        hasher.write(&(secret.len() as u64).to_be_bytes());
        hasher.write(secret);
        Self::new(hasher.finish128().as_bytes(), max_clock_skew_seconds)
    }

    /// The id for a client at `address` now. Never 0, which some clients take
    /// for "none". IPv4-mapped IPv6 counts as IPv4.
    #[must_use]
    #[inline]
    pub fn issue(&self, now_unix_seconds: u64, address: IpAddr) -> u64 {
        self.id_for(coarse(now_unix_seconds), address.to_canonical())
    }

    /// Whether `id` was issued to `address` and is not too old.
    #[must_use]
    #[inline]
    pub fn accepts(&self, now_unix_seconds: u64, address: IpAddr, id: u64) -> bool {
        let now = coarse(now_unix_seconds);
        // The time modulo 256 that the id carries, seen from now.
        let age = now.wrapping_sub(id >> 56) & 0xff;
        let ahead = age.wrapping_neg() & 0xff;
        let time = if age <= self.max_age_units {
            now.wrapping_sub(age)
        } else if ahead <= self.max_ahead_units {
            now.wrapping_add(ahead)
        } else {
            return false;
        };
        (self.id_for(time, address.to_canonical()) ^ id) == 0
    }

    #[inline]
    fn id_for(&self, time: u64, address: IpAddr) -> u64 {
        // The two families are told apart by the length of the input, which
        // SipHash mixes in.
        let mac = match address {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                let [e, f, g, h, i, j, k, l] = time.to_be_bytes();
                self.mac.hash(&[a, b, c, d, e, f, g, h, i, j, k, l])
            }
            IpAddr::V6(v6) => {
                let mut input = [0; 24];
                let address = u128::from(v6).to_be_bytes();
                let bytes = address.into_iter().chain(time.to_be_bytes());
                for (to, from) in input.iter_mut().zip(bytes) {
                    *to = from;
                }
                self.mac.hash(&input)
            }
        };
        let id = (time << 56) | (mac & MAC_MASK);
        // One in 2^64; it costs one instruction to be sure.
        id.max(1)
    }
}

#[inline]
const fn coarse(unix_seconds: u64) -> u64 {
    match unix_seconds.checked_div(UNIT_SECONDS) {
        Some(units) => units,
        None => 0,
    }
}
